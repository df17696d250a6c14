"""Memory checks of an update: old documents are read as before, removed ones are gone, new ones are read as well.

All of them hold a checkpoint against the one it was updated from. What a plain memory check tells of a single
checkpoint stands in `checks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.coverage import coverage_at, question_coverage
from zrag_core.model.checks.deletion_check import Told, guessing_floor
from zrag_core.model.checks.leftovers import find_leftovers, traces_of_removed
from zrag_core.model.checks.probe import Probe, fixed_order, has_answer, held_out
from zrag_core.model.checks.thresholds import UPDATE_THRESHOLDS, MemoryCheck
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import Checkpoint, row_hashes
from zrag_core.model.store.update import compare_documents

BUDGET = 64
"""Evidence tokens within which constrained evidence has to hold the answer."""

_LEAK_QUESTIONS = 300
_LEAST_QUESTIONS = 30  # of old and new documents, below which their coverage is not judged
_ROUNDING = 1e-9  # 0.93 - 0.03 is above 0.9


def run_update_checks(
    former: Checkpoint,
    checkpoint: Checkpoint,
    former_questions: Sequence[Question],
    questions: Sequence[Question],
    *,
    limit: int = 100,
    batch_size: int = 32,
    on_check: Callable[[str], None] | None = None,
) -> tuple[MemoryCheck, ...]:
    """Every check that these two checkpoints and their questions allow.

    Args:
        former: what was updated.
        checkpoint: what it was updated to; its folder is searched for what was removed.
        former_questions, questions: of their corpora, with their splits.
        limit: most questions of old and of new documents that are asked (fixed samples).
        batch_size: questions routed and read at once.
        on_check: called with one line when a check is done.
    """
    size = {"limit": limit, "batch_size": batch_size}
    todo: dict[str, Callable[[], list[MemoryCheck]]] = {
        "old_documents_delta": lambda: old_documents_delta(former, checkpoint, questions, **size),
        "updated_leak_coverage": lambda: updated_leak_coverage(former, checkpoint, former_questions, questions, **size),
        "deleted_text_absent": lambda: deleted_text_absent(former, checkpoint),
        "new_documents_coverage": lambda: new_documents_coverage(former, checkpoint, questions, **size),
        "drift": lambda: drift_figures(checkpoint, questions, **size),
    }
    done: list[MemoryCheck] = []
    for number, (name, check) in enumerate(todo.items(), start=1):
        began = time.perf_counter()
        found = check()
        done += found
        if on_check:
            figures = "  ".join(f"{item.check_name} {item.value:.3f}" for item in found) or "nothing to measure it on"
            on_check(f"{number} of {len(todo)}  {name}: {figures}  {time.perf_counter() - began:.1f} s")
    return tuple(done)


def old_documents_delta(
    former: Checkpoint, checkpoint: Checkpoint, questions: Sequence[Question], *, limit: int = 100, batch_size: int = 32
) -> list[MemoryCheck]:
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
    untouched = _untouched(former, checkpoint)
    ids = {former.documents[row].id for row in untouched}
    asked = [q for q in held_out(questions) if q.document_ids and ids.issuperset(q.document_ids)][:limit]
    if not asked:
        return []
    memories = [Probe(item, asked, batch_size=batch_size, as_given=True) for item in (former, checkpoint)]
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


def updated_leak_coverage(
    former: Checkpoint,
    checkpoint: Checkpoint,
    former_questions: Sequence[Question],
    questions: Sequence[Question],
    *,
    limit: int = 100,
    batch_size: int = 32,
) -> list[MemoryCheck]:
    """Free coverage of what removed documents were asked, in the new memory, beside the guessing floor.

    Asked is every single question that a removed document answered, or a changed one that no longer does; those that
    slots were refined on too. The best document that does not say the answer by itself is read.

    The floor (`updated_floor_coverage`) is what guessing covers: how often the answer stands in what is told, under
    the same conditions, for the questions most alike in wording: about other removed documents, and about documents
    in memory that are passed over, as if they had never been written.

    However few questions there are, the leak may lie above the floor by the threshold and no more: a sound update
    tells nothing of them at all, so a false alarm is rare, and it costs only that the former champion stays.
    """
    here = {document.id: document for document in checkpoint.documents}
    kept = {document.content_hash for document in checkpoint.documents}
    gone = {document.id: document for document in former.documents if document.content_hash not in kept}
    own = fixed_order(
        question
        for question in former_questions
        if question.question_type == "single" and question.document_ids and has_answer(question)
        if gone.keys() >= set(question.document_ids)
        if not any(_says(question, here[key].contents) for key in question.document_ids if key in here)
    )[:_LEAK_QUESTIONS]
    others = [q for q in held_out(questions) if q.document_ids and here.keys() >= set(q.document_ids)][:limit]
    # The new text of a changed document is no gold one of its former questions: it may be read.
    asked = [*(replace(question, document_ids=()) for question in own), *others]
    gold = [[gone[key] for key in q.document_ids] for q in own] + [
        [here[key] for key in q.document_ids] for q in others
    ]
    probe = Probe(checkpoint, asked, batch_size=batch_size, as_given=True)
    pairs = _best_silent(probe) if own else []
    told = [
        Told.of(number, row, text, asked[number], gold[number])
        for (number, row), text in zip(pairs, probe.free_texts(pairs), strict=True)
    ]
    mine = [item for item in told if item.number < len(own)]
    if not mine:
        return []
    value = probe.coverage([item.number for item in mine], [item.text for item in mine])
    floor = guessing_floor(probe, mine, told)
    threshold = floor + UPDATE_THRESHOLDS["updated_leak_coverage"].value
    return [
        MemoryCheck("updated_leak_coverage", None, value, threshold, value <= threshold),
        MemoryCheck("updated_floor_coverage", None, floor),
    ]


def deleted_text_absent(former: Checkpoint, checkpoint: Checkpoint) -> list[MemoryCheck]:
    """How many sentences, titles, slots, keys and hashes of removed documents stand in the new checkpoint's files."""
    traces = traces_of_removed(former, checkpoint.documents)
    finds = len(find_leftovers(traces, checkpoint.folder))
    return [MemoryCheck("deleted_text_absent", None, float(finds), 0.0, finds == 0)] if traces else []


def new_documents_coverage(
    former: Checkpoint, checkpoint: Checkpoint, questions: Sequence[Question], *, limit: int = 100, batch_size: int = 32
) -> list[MemoryCheck]:
    """Coverage of held-out questions about added documents, beside that of untouched ones (`kept_documents_coverage`).

    Both free and constrained (`..._constrained`). Judged where there are enough questions of both, without room for
    what so many questions cannot tell: with few of them a sound memory may fail by chance.
    """
    change = compare_documents(former.documents, checkpoint.documents)
    usable = held_out([replace(q, split="test") if q.split == "new_documents" else q for q in questions])
    groups = [
        [q for q in usable if q.document_ids and set(ids).issuperset(q.document_ids)][:limit]
        for ids in (change.added, change.unchanged)
    ]
    if not all(groups):
        return []
    asked = [*groups[0], *groups[1]]
    probe = Probe(checkpoint, asked, batch_size=batch_size, as_given=True)
    results = {"": _free(probe, range(len(asked))), "_constrained": _constrained(checkpoint, asked)}
    found = []
    for suffix, covered in results.items():
        new, old = (
            [covered[number] for number in rows] for rows in (range(len(groups[0])), range(len(groups[0]), len(asked)))
        )
        value, kept = sum(new) / len(new), sum(old) / len(old)
        name = f"new_documents_coverage{suffix}"
        least = kept + UPDATE_THRESHOLDS[name].value
        judged = min(len(new), len(old)) >= _LEAST_QUESTIONS
        verdict = (least, value >= least - _ROUNDING) if judged else (None, None)
        found += [MemoryCheck(name, None, value, *verdict), MemoryCheck(f"kept_documents_coverage{suffix}", None, kept)]
    return found


def drift_figures(
    checkpoint: Checkpoint, questions: Sequence[Question], *, limit: int = 100, batch_size: int = 32
) -> list[MemoryCheck]:
    """How sure routing is (`routing_margin`: mean difference of log P of the best and the second document) and
    constrained coverage (`probe_coverage`) on the fixed sample of the corpus' held-out questions."""
    probe = Probe(checkpoint, questions, limit=limit, batch_size=batch_size)
    if not probe.asked or len(checkpoint.documents) < 2:
        return []
    best = probe.scores(range(len(probe.asked))).topk(2, dim=1).values
    covered = _constrained(checkpoint, [asked.question for asked in probe.asked])
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
    system = MemorySystem("zrag", checkpoint, checkpoint.settings.decoding, threads=torch.get_num_threads())
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
    model = checkpoint.model.with_same_theta()
    tensors = []
    for name in ("z", "spans", "lexical"):
        tensor = getattr(former.model, name).detach().clone()
        tensor[list(untouched)] = getattr(checkpoint.model, name).detach()[list(untouched.values())]
        tensors.append(tensor)
    model.hold(*tensors, former.model.frequency)
    return replace(checkpoint, model=model, documents=former.documents)


def _delta(
    name: str, before: dict[int, bool], after: dict[int, bool], numbers: Sequence[int], *, judged: bool = False
) -> MemoryCheck:
    """Mean change of coverage; where judged, no single question may change (ups and downs do not cancel)."""
    value = sum(after[number] - before[number] for number in numbers) / len(numbers)
    same = all(after[number] == before[number] for number in numbers)
    return MemoryCheck(name, None, value, 0.0 if judged else None, same if judged else None)


def _best_silent(probe: Probe) -> list[tuple[int, int]]:
    """(question, row) pairs: the best document that does not say the answer, gold ones included."""
    ranked = probe.scores(range(len(probe.asked))).argsort(dim=1, descending=True).tolist()
    pairs = []
    for number, rows in enumerate(ranked):
        row = next((row for row in rows if not probe.states_answer(number, row)), None)
        if row is not None:
            pairs.append((number, row))
    return pairs


def _says(question: Question, text: str) -> bool:
    return bool(question_coverage(question, text))
