"""What assets hand each other: ids, versions and paths. Data itself lies in the warehouse and in folders.

Where a run leaves an asset's work out, its handle says why in `left_out` and has no folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zrag_core.corpus.types import Corpus
from zrag_core.corpus.version import questions_version
from zrag_core.errors import CheckpointError

Params = dict[str, Any]
"""What tells a thing from others of its kind when MLflow runs are compared."""


@dataclass(frozen=True)
class CorpusHandle:
    """A corpus in the warehouse.

    Attributes:
        corpus_version: of its documents.
        questions_version: of its questions and their splits.
        name: of the corpus.
        source: where it was read from.
    """

    corpus_version: str
    questions_version: str
    name: str
    source: str


@dataclass(frozen=True)
class BackboneHandle:
    """The initial weights that joint training starts from.

    Attributes:
        digest: of everything that they depend on.
        folder: where they lie; None where the LLM is loaded under its own name.
    """

    digest: str = ""
    folder: Path | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class SkillReference:
    """A skill folder."""

    skill_id: str
    folder: Path
    digest: str


@dataclass(frozen=True)
class SkillHandle:
    """The skill of a run; exactly one of the two fields is given."""

    skill: SkillReference | None = None
    left_out: str | None = None

    def required(self) -> SkillReference:
        """Return the skill where there is no doing without it.

        Raises:
            CheckpointError: it was left out.
        """
        if self.skill is None:
            raise CheckpointError(f"there is no skill: {self.left_out}", remedy="materialise it under policy separated")
        return self.skill


@dataclass(frozen=True)
class CheckpointReference:
    """A checkpoint folder."""

    checkpoint_id: str
    folder: Path
    corpus_version: str


@dataclass(frozen=True)
class MemoryHandle:
    """The memory of one policy.

    Attributes:
        corpus_version, questions_version: what it was made under.
        checkpoint: None where `left_out` says why there is none.
        former: the checkpoint that an update started from; None where it was written afresh.
    """

    corpus_version: str
    questions_version: str
    checkpoint: CheckpointReference | None = None
    params: Params = field(default_factory=dict)
    former: CheckpointReference | None = None
    left_out: str | None = None

    @property
    def checkpoint_id(self) -> str | None:
        """Return the checkpoint's id, if there is one."""
        return None if self.checkpoint is None else self.checkpoint.checkpoint_id


@dataclass(frozen=True)
class IndexHandle:
    """Index folders of one kind by what they index (passage, sentence); none where `left_out` says why."""

    corpus_version: str
    folders: dict[str, Path] = field(default_factory=dict)
    params: Params = field(default_factory=dict)
    left_out: str | None = None


@dataclass(frozen=True)
class MemoryReportHandle:
    """Which checkpoints the memory checks of a run are about."""

    run_id: str
    checkpoint_ids: tuple[str, ...]


@dataclass(frozen=True)
class UpdateReportHandle:
    """What an update did.

    Attributes:
        checkpoint_id: None where `left_out` says why there is none.
        former_checkpoint_id: what it was held against; None where it was written afresh, or nothing has changed.
        documents: their number by what happened to them.
        share_changed: of the corpus since the last full run.
        retrain_reasons: why everything should be made afresh.
    """

    run_id: str
    checkpoint_id: str | None = None
    former_checkpoint_id: str | None = None
    documents: dict[str, int] = field(default_factory=dict)
    share_changed: float = 0.0
    retrain_reasons: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass(frozen=True)
class EvidenceHandle:
    """The evidence rows of a run.

    Attributes:
        run_id: under which they stand.
        checkpoint_ids: of the memories by policy; None where there is none.
        params: of each system.
    """

    corpus_version: str
    questions_version: str
    run_id: str
    checkpoint_ids: dict[str, str | None]
    params: dict[str, Params]


@dataclass(frozen=True)
class ScoresHandle:
    """The scores of some evidence, and the run under which they stand."""

    evidence: EvidenceHandle
    run_id: str


@dataclass(frozen=True)
class AnswersHandle:
    """The answers given from some evidence, and the run under which they stand."""

    evidence: EvidenceHandle
    run_id: str
    reader: str
    model: str
    judge_model: str | None = None


def refuse_other_questions(corpus: Corpus, handle: MemoryHandle | EvidenceHandle, what: str) -> None:
    """Refuse an artefact that was made under other questions or splits of the same documents.

    What one set of splits trains on, another may test; such figures would not be held out.

    Raises:
        CheckpointError: the artefact's questions version is not the corpus' present one.
    """
    if handle.questions_version != questions_version(corpus.questions):
        raise CheckpointError(
            f"the {what} was made under other questions or splits of this corpus, so nothing would be held out",
            remedy="run the job `full` with one configuration",
        )
