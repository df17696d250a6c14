"""Which reader answers: OpenAI's or a compatible server's model, or the offline extractive reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.types import Reader
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

# What servers that need no key are sent instead of one.
_NO_KEY = "none"


def choose_reader(
    settings: AnswerSettings,
    environ: Mapping[str, str],
    cache_path: Path | None = None,
    ledger: SpendingLedger | None = None,
) -> Reader:
    """Return the reader that `settings` and the environment ask for.

    Without `base_url`, `OPENAI_BASE_URL` is honoured as OpenAI's own package does. A server of
    one's own needs no key.

    Args:
        environ: environment variables; only the key's and `OPENAI_BASE_URL` are read.
        cache_path: SQLite file of paid answers, opened only where a model is asked.
        ledger: holds the spending limit where other readers share it.

    Raises:
        AnsweringError: `reader: openai` without a key, or an unusable address or cache.
    """
    key = environ.get(settings.api_key_env, "").strip()
    if settings.reader == "offline" or (settings.reader == "auto" and not key):
        from zrag_core.answering.offline import OfflineReader

        return OfflineReader()
    base_url = settings.base_url or environ.get("OPENAI_BASE_URL") or None
    if not key and base_url is None:
        raise AnsweringError(
            f"reader 'openai' needs a key and {settings.api_key_env} is not set",
            where="answers.reader",
            remedy=f"export {settings.api_key_env}=..., or set answers.reader to 'offline'",
        )
    from zrag_core.answering.cache import AnswerCache
    from zrag_core.answering.client import OpenAIReader

    cache = AnswerCache(cache_path) if cache_path else None
    own = settings.model_copy(update={"base_url": base_url})
    return OpenAIReader(own, key or _NO_KEY, cache=cache, ledger=ledger)
