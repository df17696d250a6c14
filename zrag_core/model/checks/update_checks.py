"""Checks of an update: old documents are read as before, removed ones are gone, new ones are read as well.

All of them hold a checkpoint against the one that it was updated from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.coverage import coverage_at, question_coverage
from zrag_core.model.architecture.memory_tables import rearranged
from zrag_core.model.checks.byte_signatures import find_signatures, removed_signatures
from zrag_core.model.checks.catalog import judged
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.deletion import guessing_floor, withheld_coverage, withheld_evidence
from zrag_core.model.checks.probe import Probe, fixed_order, has_answer, held_out
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint, row_hashes
from zrag_core.model.store.update import compare_documents

BUDGET = 64
"""Evidence tokens within which constrained evidence has to hold the answer."""

_LEAK_QUESTIONS = 300
_LEAST_QUESTIONS = 30  # of old and new documents, below which their coverage is not judged


@dataclass(frozen=True)
class UpdateProbe:
    """A checkpoint, the one that it was updated from, and questions to both.

    Attributes:
        checkpoint: its folder is searched for what was removed.
        former_questions, questions: of their corpora, with their splits.
        limit: most questions of old and of new documents that are asked (fixed samples).
        batch_size: questions routed and read at once.
    """

    former: Checkpoint
    checkpoint: Checkpoint
    former_questions: Sequence[Question]
    questions: Sequence[Question]
    limit: int = 100
    batch_size: int = 32

    def asking(self, questions: Sequence[Question], checkpoint: Checkpoint | None = None) -> Probe:
        """The new memory, or another one, asked just these questions."""
        return Probe(checkpoint or self.checkpoint, questions, batch_size=self.batch_size, as_given=True)


def old_documents_delta(update: UpdateProbe) -> list[MemoryCheck]:
    """Change of coverage on held-out questions whose gold documents are the same in both memories.

    Free (`old_documents_delta`): of the questions that are routed to the same, untouched document. Evidence is
    written from its slots alone, so it is the same to the letter unless slots or theta were touched.

    Constrained (`old_documents_delta_constrained`): of all of them, in the former memory, and in the same one with the
    new one's theta and untouched rows in place of its own. Which sentence is best also depends on how rare words are
    in the whole corpus; put this way nothing competes, and only touched rows make a difference.

    What competition does (other documents, other word counts) is measured beside it on all of the questions, the
    memories as they are (`old_documents_delta_competing`, free, and `..._constrained`), with the share of the
    questions that are routed to another document, or to one that was written anew (`rerouted_share`).
    """
    former, checkpoint = update.former, update.checkpoint
    untouched = _untouched(former, checkpoint)
    ids = {former.documents[row].id for row in untouched}
    asked = [q for q in held_out(update.questions) if q.document_ids and ids.issuperset(q.document_ids)][: update.limit]
    if not asked:
        return []
    memories = [update.asking(asked, item) for item in (former, checkpoint)]
    everything = range(len(asked))
    steady = [
        number for number in everything if untouched.get(memories[0].routed[number]) == memories[1].routed[number]
    ]
    moved = sorted(set(everything).difference(steady))
    # The steady ones are read by themselves: in the same batches in both memories, so that not even rounding differs.
    free = [{**_free(probe, steady), **_free(probe, moved)} for probe in memories]
    constrained = [_constrained(item, asked) for item in (former, _pinned(former, checkpoint, untouched), checkpoint)]
    found = [
        _delta("old_documents_delta_constrained", constrained[0], constrained[1], everything, judged=True),
        _delta("old_documents_delta_competing", free[0], free[1], everything),
        _delta("old_documents_delta_competing_constrained", constrained[0], constrained[2], everything),
        MemoryCheck("rerouted_share", None, len(moved) / len(asked)),
    ]
    return [_delta("old_documents_delta", free[0], free[1], steady, judged=True), *found] if steady else found


def updated_leak_coverage(update: UpdateProbe) -> list[MemoryCheck]:
    """Free coverage of what removed documents were asked, in the new memory, beside the guessing floor.

    Asked is every single question that a removed document answered, or a changed one that no longer does; those that
    slots were refined on too. The best document that does not say the answer by itself is read.

    The floor (`updated_floor_coverage`) is what guessing covers: how often the answer stands in what is told, under
    the same conditions, for the questions most alike in wording: about other removed documents, and about documents
    in memory that are passed over, as if they had never been written.

    However few questions there are, the leak may lie above the floor by the threshold and no more: a sound update
    tells nothing of them at all, so a false alarm is rare, and it costs only that the former champion stays.
    """
    here = {document.id: document for document in update.checkpoint.documents}
    kept = {document.content_hash for document in update.checkpoint.documents}
    gone = {document.id: document for document in update.former.documents if document.content_hash not in kept}
    own = fixed_order(
        question
        for question in update.former_questions
        if question.question_type == "single" and question.document_ids and has_answer(question)
        if gone.keys() >= set(question.document_ids)
        if not any(_says(question, here[key].contents) for key in question.document_ids if key in here)
    )[:_LEAK_QUESTIONS]
    if not own:
        return []
    others = [q for q in held_out(update.questions) if q.document_ids and here.keys() >= set(q.document_ids)]
    others = others[: update.limit]
    gold = [[gone[key] for key in q.document_ids] for q in own]
    gold += [[here[key] for key in q.document_ids] for q in others]
    # The new text of a changed document is no gold one of its former questions: it may be read.
    probe = update.asking([*(replace(question, document_ids=()) for question in own), *others])
    ranked = probe.scores(range(len(probe.asked))).argsort(dim=1, descending=True).tolist()
    best = {number: probe.first_silent(number, rows) for number, rows in enumerate(ranked)}
    pairs = [(number, row) for number, row in best.items() if row is not None]
    evidence = withheld_evidence(probe, pairs, gold)
    leaks = [item for item in evidence if item.number < len(own)]
    if not leaks:
        return []
    floor = guessing_floor(probe, leaks, evidence)
    return [
        judged("updated_leak_coverage", withheld_coverage(probe, leaks), floor),
        MemoryCheck("updated_floor_coverage", None, floor),
    ]


def deleted_text_absent(update: UpdateProbe) -> list[MemoryCheck]:
    """How many sentences, titles, slots, keys and hashes of removed documents stand in the new checkpoint's files."""
    signatures = removed_signatures(update.former, update.checkpoint.documents)
    finds = find_signatures(signatures, update.checkpoint.folder)
    return [judged("deleted_text_absent", float(len(finds)))] if signatures else []


def new_documents_coverage(update: UpdateProbe) -> list[MemoryCheck]:
    """Coverage of held-out questions about added documents, beside that of untouched ones (`kept_documents_coverage`).

    Both free and constrained (`..._constrained`). Judged where there are enough questions of both, without room for
    what so many questions cannot tell: with few of them a sound memory may fail by chance.
    """
    change = compare_documents(update.former.documents, update.checkpoint.documents)
    usable = held_out([replace(q, split="test") if q.split == "new_documents" else q for q in update.questions])
    new, old = (
        [q for q in usable if q.document_ids and set(ids).issuperset(q.document_ids)][: update.limit]
        for ids in (change.added, change.unchanged)
    )
    if not new or not old:
        return []
    asked = [*new, *old]
    free = _free(update.asking(asked), range(len(asked)))
    found = []
    for suffix, covered in (("", free), ("_constrained", _constrained(update.checkpoint, asked))):
        value = sum(covered[number] for number in range(len(new))) / len(new)
        kept = sum(covered[number] for number in range(len(new), len(asked))) / len(old)
        name = f"new_documents_coverage{suffix}"
        enough = min(len(new), len(old)) >= _LEAST_QUESTIONS
        found.append(judged(name, value, kept) if enough else MemoryCheck(name, None, value))
        found.append(MemoryCheck(f"kept_documents_coverage{suffix}", None, kept))
    return found


def drift(update: UpdateProbe) -> list[MemoryCheck]:
    """`drift_figures` of the new memory."""
    probe = Probe(update.checkpoint, update.questions, limit=update.limit, batch_size=update.batch_size)
    return drift_figures(probe)


def drift_figures(probe: Probe) -> list[MemoryCheck]:
    """How sure routing is (`routing_margin`: mean difference of log P of the best and the second document) and
    constrained coverage (`probe_coverage`) on the probe's questions."""
    if not probe.asked or len(probe.documents) < 2:
        return []
    best = probe.scores(range(len(probe.asked))).topk(2, dim=1).values
    covered = _constrained(probe.checkpoint, [asked.question for asked in probe.asked])
    return [
        MemoryCheck("routing_margin", None, float((best[:, 0] - best[:, 1]).mean())),
        MemoryCheck("probe_coverage", None, sum(covered.values()) / len(covered)),
    ]


def _free(probe: Probe, numbers: Sequence[int]) -> dict[int, bool]:
    """Whether free evidence covers each question, read from the document that it is routed to."""
    texts = probe.free_texts([(number, probe.routed[number]) for number in numbers])
    return {number: probe.covered(number, text) for number, text in zip(numbers, texts, strict=True)}


def _constrained(checkpoint: Checkpoint, questions: Sequence[Question]) -> dict[int, bool]:
    """Whether the best sentences cover each question."""
    system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=torch.get_num_threads())
    pairs = zip(questions, system.retrieve(questions), strict=True)
    return {number: bool(coverage_at(question, found, BUDGET)) for number, (question, found) in enumerate(pairs)}


def _untouched(former: Checkpoint, checkpoint: Checkpoint) -> dict[int, int]:
    """Rows of the former memory that did not have to be written again, and where they are in the new one."""
    places = {key: row for row, key in enumerate(_row_keys(checkpoint))}
    return {row: places[key] for row, key in enumerate(_row_keys(former)) if key in places}


def _row_keys(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """All that a row is made from, besides theta: the document and what was studied of it."""
    hashes = [document.content_hash for document in checkpoint.documents]
    studied = [""] * len(hashes) if checkpoint.origin is None else row_hashes(checkpoint.origin.studied)
    return list(zip(hashes, studied, strict=True))


def _pinned(former: Checkpoint, checkpoint: Checkpoint, untouched: dict[int, int]) -> Checkpoint:
    """The former memory, with the new one's theta and its untouched rows."""
    model = checkpoint.separated.with_same_theta()
    before = former.separated.held
    rows = [len(before) + untouched[row] if row in untouched else row for row in range(len(before))]
    model.hold(rearranged(before.tables, model.held.tables, rows), before.frequency)
    return replace(checkpoint, model=model, documents=former.documents)


def _delta(
    name: str, before: dict[int, bool], after: dict[int, bool], numbers: Sequence[int], *, judged: bool = False
) -> MemoryCheck:
    """Mean change of coverage; where judged, no single question may change (ups and downs do not cancel)."""
    value = sum(after[number] - before[number] for number in numbers) / len(numbers)
    same = all(after[number] == before[number] for number in numbers)
    return MemoryCheck(name, None, value, 0.0 if judged else None, same if judged else None)


def _says(question: Question, text: str) -> bool:
    return bool(question_coverage(question, text))
