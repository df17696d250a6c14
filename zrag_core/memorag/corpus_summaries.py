"""A corpus in one page: summaries of groups of passages, summaries of those, up to a single one.

Every summary is a file of its own, named by everything that decides it. What is there is not asked for again: a build
that was killed goes on where it stopped, and an updated corpus pays for the groups that changed and for what stands
above them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.answering.thinking import strip_thinking
from zrag_core.answering.types import Completer, Completion, Prompt
from zrag_core.corpus.types import Document
from zrag_core.errors import AnsweringError, CheckpointError, CorpusError
from zrag_core.files import write_json_atomic
from zrag_core.memorag.clue_memory import Usage
from zrag_core.memorag.prompts import load_template
from zrag_core.memorag.text_groups import content_groups
from zrag_core.settings import MemoragSettings
from zrag_core.text import detect_language, evidence_tokens, truncate_to_tokens

FORMAT_VERSION = 1

# Summaries that are asked for before they are written down; the answer cache keeps single ones.
_AT_ONCE = 32
# Bytes of an evidence token, over those of an English word with its space, and of a Korean character.
_WORDS_PER_TOKEN = 4 / 6
_CHARACTERS_PER_TOKEN = 4 / 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CorpusSummaries:
    """Summaries of a corpus, which a light model is told instead of it.

    Attributes:
        levels: summaries from the finest level (of passages) to the coarsest (one page), each in corpus order.
        made, reused: how many summaries were made now, and how many were there.
        usage: on those made now.
    """

    levels: tuple[tuple[str, ...], ...]
    made: int
    reused: int
    usage: Usage

    def text(self, budget: int) -> str:
        """The page, and behind it the finest level that fits into `budget` evidence tokens beside it."""
        (page,) = self.levels[-1]
        for level in self.levels[:-1]:
            whole = "\n\n".join([page, *level])
            if evidence_tokens(whole) <= budget:
                return whole
        return truncate_to_tokens(page, budget)


def build_summaries(
    documents: Sequence[Document],
    completer: Completer,
    folder: Path,
    settings: MemoragSettings,
) -> CorpusSummaries:
    """Summarise a corpus, asking only for what `folder` does not hold.

    Args:
        completer: the light model, for instance an `OpenAIReader` with its cache and spending limit.
        folder: holds the summaries; several corpora, versions and models may share it.
        settings: sizes of groups, of summaries and of the page.

    Raises:
        CorpusError: there are no documents.
        AnsweringError: the model cannot be asked, or did not answer; what it wrote before is kept.
        CheckpointError: a file of the folder is damaged, or cannot be written.
    """
    if not documents:
        raise CorpusError("there is nothing to summarise", remedy="check the corpus' location")
    work = _Summaries(completer, folder)
    texts = tuple(document.contents for document in documents)
    levels: list[tuple[str, ...]] = []
    while not levels or len(texts) > 1:
        kind, least = ("summaries", 2) if levels else ("passages", 1)
        groups = content_groups(texts, settings.group_tokens, least=least)
        length = settings.page_tokens if len(groups) == 1 else settings.summary_tokens
        # A summary that is left over by itself goes up as it is.
        lone = {i for i, group in enumerate(groups) if levels and len(group) == 1}
        joined = ["\n\n".join(texts[i] for i in group) for group in groups]
        written = iter(work.summarise([text for i, text in enumerate(joined) if i not in lone], kind, length))
        texts = tuple(text if i in lone else next(written) for i, text in enumerate(joined))
        levels.append(texts)
    return CorpusSummaries(tuple(levels), work.made, work.reused, work.usage)


class _Summaries:
    """Summaries by what they are made of, from the folder or from the model; counts both."""

    def __init__(self, completer: Completer, folder: Path):
        self._completer = completer
        self._folder = folder
        self.made = 0
        self.reused = 0
        self.usage = Usage()

    def summarise(self, texts: Sequence[str], kind: str, length: int) -> list[str]:
        """Summaries of `texts`, in order.

        Args:
            kind: "passages" or "summaries", what the texts are made of.
            length: evidence tokens that each should have.
        """
        prompts = [_prompt(text, kind, length) for text in texts]
        keys = [self._key(prompt) for prompt in prompts]
        wanted = dict(zip(keys, prompts, strict=True))
        found = {key: summary for key in wanted if (summary := self._read(key)) is not None}
        self.reused += len(found)
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            log.info("summaries of %s: %d to %d of %d", kind, start + 1, start + len(part), len(missing))
            found |= self._ask({key: wanted[key] for key in part}, kind)
        return [found[key] for key in keys]

    def _ask(self, prompts: Mapping[str, Prompt], kind: str) -> dict[str, str]:
        """Have summaries made and keep them, by key."""
        made: dict[str, str] = {}
        failures: list[str] = []
        for key, done in zip(prompts, self._completer.complete(list(prompts.values())), strict=True):
            self.usage += Usage.of(done)
            summary = strip_thinking(done.text)
            if done.error or not summary:
                # A cached reply without a summary would be met again in every run to come.
                self._completer.forget(done)
                failures.append(done.error or "the model returned nothing but its reasoning")
                continue
            self._write(key, kind, summary, done)
            made[key] = summary
        self.made += len(made)
        if failures:
            raise AnsweringError(
                f"{len(failures)} of {len(prompts)} summaries could not be made: {failures[0]}",
                where=f"memory model {self._completer.model}",
                remedy=f"run again (these are asked for anew): what was made so far is kept in {self._folder}",
            )
        return made

    def _key(self, prompt: Prompt) -> str:
        payload = json.dumps([self._completer.model, prompt.max_tokens, prompt.messages], ensure_ascii=False)
        return hashlib.sha256(payload.encode("utf-8")).hexdigest()

    def _read(self, key: str) -> str | None:
        path = self._folder / f"{key}.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _unreadable(path) from error
        summary = stored.get("summary") if isinstance(stored, dict) else None
        if not isinstance(summary, str) or not summary or stored.get("format_version") != FORMAT_VERSION:
            raise _unreadable(path)
        return summary

    def _write(self, key: str, kind: str, summary: str, done: Completion) -> None:
        path = self._folder / f"{key}.json"
        stored = {
            "format_version": FORMAT_VERSION,
            "model": self._completer.model,
            "of": kind,
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "cost_usd": done.cost_usd,
            "summary": summary,
        }
        try:
            write_json_atomic(path, stored)
        except OSError as error:
            raise CheckpointError(
                f"cannot write the summary: {error.strerror or error}",
                where=str(path),
                remedy="free the path or choose another folder",
            ) from error


def _prompt(text: str, kind: str, length: int) -> Prompt:
    sections = load_template("summary", detect_language(text))
    values = {
        "text": text,
        "words": str(round(length * _WORDS_PER_TOKEN)),
        "characters": str(round(length * _CHARACTERS_PER_TOKEN)),
    }
    messages = [{"role": role, "content": sections[f"{kind}.{role}"].substitute(values)} for role in ("system", "user")]
    # Models are loose about lengths; half a sentence at the end is worse than a longer summary.
    return Prompt(messages, 2 * length)


def _unreadable(path: Path) -> CheckpointError:
    return CheckpointError("not a summary", where=str(path), remedy="delete the file; it is then made again")
