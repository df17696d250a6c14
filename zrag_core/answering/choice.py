"""The choice of reader and judge: a model at OpenAI, a compatible server or this machine, or the offline one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.answering.judge import Judge
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.types import CallObserver, Reader
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

if TYPE_CHECKING:
    from zrag_core.answering.cache import AnswerCache
    from zrag_core.answering.client import OpenAIReader

# What servers that need no key are sent instead of one.
_NO_KEY = "none"


def choose_reader(
    settings: AnswerSettings,
    environ: Mapping[str, str],
    cache_path: Path | None = None,
    *,
    ledger: SpendingLedger | None = None,
    observe: CallObserver | None = None,
) -> Reader:
    """Return the reader that `settings` and the environment ask for.

    Without `base_url`, `OPENAI_BASE_URL` is honoured as OpenAI's own package does. A server of
    one's own needs no key.

    Args:
        environ: environment variables; only the key's and `OPENAI_BASE_URL` are read.
        cache_path: SQLite file of paid answers, opened only where a model is asked.
        ledger: what is left to spend, shared with the judge.
        observe: called with every prompt to a model and its completion.

    Raises:
        AnsweringError: `reader: openai` without a key, `reader: local` without a running server, or an unusable
            address or cache.
    """
    key = environ.get(settings.api_key_env, "").strip()
    if settings.reader == "offline" or (settings.reader == "auto" and not key):
        from zrag_core.answering.offline import OfflineReader

        return OfflineReader()
    if settings.reader == "local":
        from zrag_core.answering.local import LocalReader

        return LocalReader(settings, cache=_open_cache(cache_path), ledger=ledger, observe=observe)
    return _model_reader(settings, environ, cache_path, ledger, observe, "reader 'openai'", "answers.reader")


def choose_judge(
    settings: AnswerSettings,
    environ: Mapping[str, str],
    cache_path: Path | None = None,
    *,
    ledger: SpendingLedger | None = None,
    observe: CallObserver | None = None,
) -> Judge | None:
    """Return the judge that `settings.judge` asks for, or None where nothing is to be judged.

    The arguments are those of `choose_reader`.

    Raises:
        AnsweringError: there is no key for it, or its address or the cache cannot be used.
    """
    asked = judge_settings(settings)
    if asked is None:
        return None
    return Judge(_model_reader(asked, environ, cache_path, ledger, observe, "the judge", "answers.judge.model"))


def judge_settings(settings: AnswerSettings) -> AnswerSettings | None:
    """The settings of the model that judges: those of the answers, but for what `settings.judge` names.

    The local reader's server has no model that could judge.
    """
    judge = settings.judge
    if judge.model is None:
        return None
    changed: dict[str, Any] = {"reader": "openai", "model": judge.model, "temperature": 0.0}
    changed |= {"base_url": None} if settings.reader == "local" else {}
    changed |= {"base_url": judge.base_url} if judge.base_url else {}
    changed |= {"api_key_env": judge.api_key_env} if judge.api_key_env else {}
    return settings.model_copy(update=changed)


def _model_reader(
    settings: AnswerSettings,
    environ: Mapping[str, str],
    cache_path: Path | None,
    ledger: SpendingLedger | None,
    observe: CallObserver | None,
    who: str,
    where: str,
) -> OpenAIReader:
    key = environ.get(settings.api_key_env, "").strip()
    base_url = settings.base_url or environ.get("OPENAI_BASE_URL") or None
    if not key and base_url is None:
        off = "set answers.reader to 'offline'" if where == "answers.reader" else f"leave {where} out"
        raise AnsweringError(
            f"{who} needs a key and {settings.api_key_env} is not set",
            where=where,
            remedy=f"export {settings.api_key_env}=..., or {off}",
        )
    from zrag_core.answering.client import OpenAIReader

    addressed = settings.model_copy(update={"base_url": base_url})
    return OpenAIReader(addressed, key or _NO_KEY, cache=_open_cache(cache_path), ledger=ledger, observe=observe)


def _open_cache(path: Path | None) -> AnswerCache | None:
    from zrag_core.answering.cache import AnswerCache

    return AnswerCache(path) if path else None
