"""Non-inferiority test of a new memory's coverage against the champion's, on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Question
from zrag_core.evaluation.comparison import Comparison, compare
from zrag_core.evaluation.metrics.coverage import question_coverage
from zrag_core.evidence import evidence_within
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.settings import DecodingSettings
from zrag_core.systems import OWN_WORDS
from zrag_core.systems import SYSTEMS as SPECS

SYSTEMS = ("zrag", "zrag_free")
CHALLENGER, CHAMPION = "challenger", "champion"
_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Answer coverage of the challenger minus that of the champion, on the same questions.

    Attributes:
        system: how both were read, one of `SYSTEMS`.
        comparison: difference and interval in points.
        margin: points that the interval's lower bound may lie below zero.
    """

    system: str
    comparison: Comparison
    margin: float

    @property
    def passed(self) -> bool:
        """Whether the whole interval lies above minus the margin (never where there is no interval)."""
        return self.comparison.low > -self.margin

    def sentence(self) -> str:
        """The outcome in one line of plain words."""
        found = self.comparison
        outcome = "not inferior" if self.passed else "may be inferior"
        return (
            f"{self.system}: {outcome} ({found.difference:+.1f} points of coverage, "
            f"{100 * found.confidence:g}% interval {found.low:z.1f} to {found.high:z.1f}, margin -{self.margin:g}, "
            f"{found.n_questions} questions)"
        )


def shared_questions(
    challenger: Checkpoint, champion: Checkpoint, questions: Sequence[Question], limit: int
) -> list[Question]:
    """Held-out questions with an answer whose gold documents stand, word for word, in both memories (a fixed sample).

    Args:
        questions: of the challenger's corpus, with their splits.
        limit: most questions.
    """
    both = {document.content_hash for document in champion.documents}
    shared = {document.id for document in challenger.documents if document.content_hash in both}
    usable = {
        question.id: question
        for question in questions
        if question.split == "test"
        and question.document_ids
        and shared.issuperset(question.document_ids)
        and question_coverage(question, "") is not None
    }
    return [usable[key] for key in hash_order(usable, 0, "champion")][:limit]


@dataclass(frozen=True, slots=True)
class ChallengeRules:
    """How a challenger is held against the champion.

    Attributes:
        budget: evidence tokens.
        margin: points, see `NonInferiority`.
        confidence: of the interval.
        threads: CPU threads.
        systems: how both are read.
    """

    budget: int
    margin: float
    confidence: float = 0.95
    threads: int = 1
    systems: tuple[str, ...] = SYSTEMS


def challenge(
    challenger: Checkpoint,
    champion: Checkpoint,
    questions: Sequence[Question],
    decoding: DecodingSettings,
    rules: ChallengeRules,
) -> list[NonInferiority]:
    """Ask both memories the same questions.

    A test of non-inferiority: with `confidence` 0.95, a challenger that is worse by the margin passes in at most one
    case of forty (Piaggio et al. 2012, JAMA 308:2594).

    Args:
        questions: from `shared_questions`; not empty.
        decoding: how both are read.

    Returns:
        One result for each of the systems.
    """
    clusters = {question.id: question.document_ids[0] for question in questions}
    results = []
    for name in rules.systems:
        values: dict[str, dict[str, float | None]] = {}
        for side, checkpoint in ((CHALLENGER, challenger), (CHAMPION, champion)):
            free = SPECS[name].evidence == OWN_WORDS
            system = create_system(name, checkpoint, decoding, free=free, threads=rules.threads)
            values[side] = _coverage(system, questions, rules.budget)
        (found,) = compare(values, clusters, measure="answer_coverage", samples=_SAMPLES, confidence=rules.confidence)
        results.append(NonInferiority(name, found, rules.margin))
    return results


def _coverage(system: MemorySystem, questions: Sequence[Question], budget: int) -> dict[str, float | None]:
    by_id = {question.id: question for question in questions}
    covered: dict[str, float | None] = {}
    for item in system.retrieve(questions):
        question = by_id[item.question_id]
        covered[question.id] = question_coverage(question, evidence_within(system, item, budget).text)
    return covered
