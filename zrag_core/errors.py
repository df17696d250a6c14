"""Errors that a person can act on: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class ZragError(Exception):
    """Base of every error that zRAG raises on purpose; its message is one clear line.

    Args:
        what: what is wrong, in plain words.
        where: file and line, configuration field, or URL that it concerns.
        remedy: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None):
        self.what, self.where, self.remedy = what, where, remedy
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message} -> {remedy}" if remedy else message)


class SettingsError(ZragError):
    """A configuration that cannot be used."""


class CorpusError(ZragError):
    """A corpus that cannot be read, or rows of it that are wrong."""


class CheckpointError(ZragError):
    """A checkpoint folder that is missing, incomplete or of another kind."""


class TrainingError(ZragError):
    """A training in processes of its own that ended early."""


class WarehouseError(ZragError):
    """The DuckDB file cannot be opened, or its schema is newer than this code."""


class UnknownCorpusError(WarehouseError):
    """The warehouse was read, and has no such corpus or none of its evidence targets."""


class AnsweringError(ZragError):
    """The answering model cannot be reached or refuses, or the spending limit is reached."""


class ProblemList(ZragError):
    """Several problems found in one pass, reported together.

    Args:
        what: the headline, for instance "12 bad rows in corpus.jsonl".
        problems: one clear line each; at most `limit` are shown, the rest are counted.
        limit: how many to show.
    """

    def __init__(self, what: str, problems: Sequence[str], *, limit: int = 20):
        self.problems = list(problems)
        shown = self.problems[:limit]
        if len(self.problems) > limit:
            shown.append(f"... and {len(self.problems) - limit} more")
        super().__init__("\n".join([what, *(f"  - {line}" for line in shown)]))
