"""Champion and challenger: whether a new checkpoint is to become the one that people ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zrag_core.corpus.types import Corpus
from zrag_core.errors import CheckpointError
from zrag_core.model.checks.catalog import threshold_of
from zrag_core.model.store.checkpoint import stored_hashes
from zrag_core.settings import Settings
from zrag_pipeline.platform.champion_file import Champion, read_champion, rejected_checkpoints
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.warehouse import Warehouse

if TYPE_CHECKING:
    from zrag_core.model.checks.challenge import NonInferiority

NOTHING_COMPARED = "none"
MAX_QUESTIONS = 200


@dataclass(frozen=True)
class Decision:
    """What was decided about a checkpoint.

    Attributes:
        champion_id: the champion before; None where there was none.
        promoted: whether the checkpoint is the champion now.
        reason: in one line of plain words.
        results: how it compares with the champion; empty where nothing could be compared.
        failed_checks: names of the memory checks that it fails.
    """

    checkpoint_id: str
    champion_id: str | None
    promoted: bool
    reason: str
    results: tuple[NonInferiority, ...] = ()
    failed_checks: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for MLflow; differences in points."""
        figures = {
            f"{result.system}/{name}_points": getattr(result.comparison, name)
            for result in self.results
            for name in ("difference", "low", "high")
        }
        return {**figures, "promoted": float(self.promoted)}

    def rows(self, corpus_version: str, settings: Settings) -> list[dict[str, Any]]:
        """Rows of the table `champion_decisions`, without the run's id."""
        common = {
            "corpus_version": corpus_version,
            "checkpoint_id": self.checkpoint_id,
            "champion_id": self.champion_id,
            "margin": settings.updates.non_inferiority,
            "failed_checks": list(self.failed_checks),
            "promoted": self.promoted,
            "reason": self.reason,
            "decoding": settings.decoding.model_dump(mode="json"),
            "backbone_device": settings.backbone.device,
        }
        if not self.results:
            return [{**common, "system": NOTHING_COMPARED, "n_questions": 0}]
        return [
            {
                **common,
                "system": result.system,
                "n_questions": result.comparison.n_questions,
                "difference": result.comparison.difference / 100,
                "low": result.comparison.low / 100,
                "high": result.comparison.high / 100,
                "not_inferior": result.passed,
            }
            for result in self.results
        ]


def decide(
    made: CheckpointReference,
    failed_checks: Sequence[str],
    corpus: Corpus,
    settings: Settings,
    log: Callable[[str], None],
) -> Decision:
    """Compare a checkpoint with the champion.

    It is to become the champion where no memory check fails and, on the held-out questions that both memories can
    answer, the lower bound of the difference in coverage lies above minus `updates.non_inferiority`, verbatim and in
    the model's own words. Without a champion of this corpus, or without such questions, the checks decide alone; but
    not over the champion of another corpus that was given the same name.

    Args:
        failed_checks: names of the checks that the checkpoint fails.
        corpus: the corpus that it holds.
    """
    failed = tuple(dict.fromkeys(failed_checks))
    champion = present_champion(corpus.name, log)
    before = None if champion is None else champion.checkpoint_id

    def decided(promoted: bool, reason: str, results: Sequence[NonInferiority] = ()) -> Decision:
        return Decision(made.checkpoint_id, before, promoted, reason, tuple(results), failed)

    if before == made.checkpoint_id:
        but = f", but memory checks fail: {', '.join(failed)}; `zrag rollback` takes it back" if failed else ""
        return decided(True, f"it is the champion already{but}")
    if made.checkpoint_id in rejected_checkpoints():
        again = f"`zrag promote {made.checkpoint_id}` makes it the champion again"
        return decided(False, f"it was rolled back; {again}")
    if failed:
        return decided(False, f"memory checks fail: {', '.join(failed)}")
    if champion is None:
        return decided(True, "the first one, and no memory check fails")
    results = _challenge(made, champion, corpus, settings)
    if not results and not _same_corpus(made, champion, settings):
        other = f"another corpus of the same name: it shares no document with {before}"
        again = f"give this one another corpus.name, or decide by hand: zrag promote {made.checkpoint_id}"
        return decided(False, f"{other}{f' ({champion.source})' if champion.source else ''}; {again}")
    if not results:
        none = f"no held-out question can be asked of {before} (corpus {champion.corpus}) too"
        return decided(True, f"no memory check fails, and {none}")
    for result in results:
        log(result.sentence())
    reason = f"against {before}: " + "; ".join(result.sentence() for result in results)
    return decided(all(result.passed for result in results), reason, results)


def failed_checks(warehouse: Warehouse, run_ids: Sequence[str], checkpoint_id: str) -> list[str]:
    """Names of the memory checks that a checkpoint fails in some runs, without those that only warn."""
    frame = warehouse.query(
        "SELECT DISTINCT check_name FROM memory_checks WHERE list_contains(?, run_id) AND checkpoint_id = ? "
        "AND NOT passed ORDER BY 1",
        [list(run_ids), checkpoint_id],
    )
    names = frame["check_name"].tolist()
    return [name for name in names if (threshold := threshold_of(name)) is None or threshold.gates]


def present_champion(memory: str, log: Callable[[str], None] = lambda line: None) -> Champion | None:
    """The champion of a memory; None where there is none, or its folder is gone, so that it cannot be compared with."""
    try:
        return read_champion(memory)
    except CheckpointError as error:
        log(str(error))
        return None


def _same_corpus(made: CheckpointReference, champion: Champion, settings: Settings) -> bool:
    """Whether two memories are of one corpus at different times: it lies where it lay, or a document has stayed."""
    location = settings.corpus.location
    if location and champion.source and _place(location) == _place(champion.source):
        return True
    return not set(stored_hashes(made.folder)).isdisjoint(stored_hashes(champion.folder))


def _place(location: str) -> str:
    return os.path.realpath(os.path.expanduser(location))


def _challenge(
    made: CheckpointReference, champion: Champion, corpus: Corpus, settings: Settings
) -> list[NonInferiority]:
    from zrag_core.model.checks.challenge import SYSTEMS, ChallengeRules, challenge, shared_questions
    from zrag_core.model.store.checkpoint import load_checkpoint

    device = settings.backbone.device
    challenger, present = (load_checkpoint(folder, device=device) for folder in (made.folder, champion.folder))
    limit = min(MAX_QUESTIONS, settings.evaluation.limit_questions or MAX_QUESTIONS)
    questions = shared_questions(challenger, present, corpus.questions, limit)
    if not questions:
        return []
    return challenge(
        challenger,
        present,
        questions,
        settings.decoding,
        ChallengeRules(
            budget=min(settings.evaluation.budgets),
            margin=100 * settings.updates.non_inferiority,
            confidence=settings.evaluation.confidence,
            threads=settings.backbone.cpu_threads,
            systems=SYSTEMS if settings.evaluation.memory_checks == "all" else SYSTEMS[:1],
        ),
    )
