"""A memory with its held-out questions, and a free hand over which document is read: what memory checks ask.

Evidence is decoded freely and never empty: the end-of-text token is forbidden as the first one, so that a model that
refuses whenever something is odd cannot pass a check by refusing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.coverage import question_coverage
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.checks.document_likelihood import document_nll, opening
from zrag_core.model.inference.decoder import generate
from zrag_core.model.store.checkpoint import Checkpoint

_SAMPLED_DOCUMENTS = 48


@dataclass(frozen=True, slots=True)
class ProbeQuestion:
    """A question with its token ids and the rows of its gold documents (one or more)."""

    question: Question
    ids: list[int]
    gold: tuple[int, ...]


class Probe:
    """A checkpoint with a fixed sample of the questions that were held out of its training (see `held_out`).

    Questions are named by their number in `asked`, documents by their row in Z.

    Args:
        checkpoint: of either policy.
        questions: of the checkpoint's corpus.
        limit: most questions that are asked.
        batch_size: questions routed and read at once.
        as_given: ask just these questions in their order, held out or not, also where no gold document is in memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        questions: Sequence[Question],
        *,
        limit: int = 128,
        batch_size: int = 32,
        as_given: bool = False,
    ):
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.documents = checkpoint.documents
        self.batch_size = batch_size
        self._max_new_tokens = checkpoint.settings.decoding.max_new_tokens
        rows = {document.id: row for row, document in enumerate(self.documents)}
        encode, longest = self.model.backbone.encode, self.model.query_tokens
        asked = [
            ProbeQuestion(
                question,
                encode(question.question, longest),
                tuple(rows[identifier] for identifier in question.document_ids if identifier in rows),
            )
            for question in (questions if as_given else held_out(questions))
        ]
        self.asked = asked if as_given else [item for item in asked if item.gold][:limit]
        self._texts: dict[tuple[int, int, float], str] = {}

    def rows_in_hash_order(self, purpose: str) -> list[int]:
        """All rows in a random order that depends on the documents' ids and on `purpose` alone."""
        rows = {document.id: row for row, document in enumerate(self.documents)}
        return [rows[identifier] for identifier in hash_order(rows, 0, purpose)]

    @property
    def sample(self) -> list[int]:
        """A fixed sample of rows."""
        return self.rows_in_hash_order("confusion")[:_SAMPLED_DOCUMENTS]

    def confusion(self) -> np.ndarray:
        """NLL [n, n], nats per token, of each sampled document i written from each z_j of the sample."""
        rows = self.sample
        documents = [opening(self.model, self.documents[row].text) for row in rows]
        return document_nll(self.model, *self.model.document_slots(rows), documents).numpy()

    @cached_property
    def nll(self) -> np.ndarray:
        """`confusion` of the model as it was when this was first asked for."""
        return self.confusion()

    @cached_property
    def routed(self) -> list[int]:
        """The row that each question is routed to among all documents."""
        return self.scores(range(len(self.asked))).argmax(1).tolist() if self.asked else []

    @torch.no_grad()
    def scores(self, numbers: Sequence[int], kept: Sequence[int] | None = None) -> torch.Tensor:
        """Routing logits [questions, documents] over a memory that holds the rows `kept` and no others (all: None).

        How rare a word is counts in the kept documents, as it would had the others never been written.
        """
        removed = set() if kept is None else set(range(len(self.documents))).difference(kept)
        memory = self.model.without({row: self.documents[row] for row in removed}) if removed else self.model
        parts = []
        for start in range(0, len(numbers), self.batch_size):
            batch = [self.asked[number] for number in numbers[start : start + self.batch_size]]
            texts, ids = [asked.question.question for asked in batch], [asked.ids for asked in batch]
            # Behind the documents may stand a null document, which is no matter here.
            parts.append(memory.routing_scores(texts, ids)[:, : memory.n_documents])
        return torch.cat(parts).float().cpu()

    def free_texts(self, pairs: Sequence[tuple[int, int]]) -> list[str]:
        """Free evidence of (question number, row read) pairs; each is decoded once for a value of alpha."""
        alpha = self.model.alpha
        missing = [pair for pair in dict.fromkeys(pairs) if (*pair, alpha) not in self._texts]
        if missing:
            slots = self.model.document_slots([row for _, row in missing])
            made = self.read([number for number, _ in missing], *slots)
            self._texts.update({(*pair, alpha): text for pair, text in zip(missing, made, strict=True)})
        return [self._texts[(*pair, alpha)] for pair in pairs]

    def read(self, numbers: Sequence[int], z: torch.Tensor, spans: torch.Tensor) -> list[str]:
        """Free evidence of questions, each from the most probable spans of a document z [questions, m, d]."""
        texts: list[str] = []
        for start in range(0, len(numbers), self.batch_size):
            rows = slice(start, start + self.batch_size)
            queries = [self.asked[number].ids for number in numbers[rows]]
            texts.extend(never_empty_evidence(self.model, z[rows], spans[rows], queries, self._max_new_tokens))
        return texts

    def covered(self, number: int, text: str) -> bool:
        """Whether an answer of the question stands in `text`."""
        return bool(question_coverage(self.asked[number].question, text))

    def coverage(self, numbers: Sequence[int], texts: Sequence[str]) -> float:
        """Share of the questions whose answer stands in the text beside it."""
        return sum(map(self.covered, numbers, texts)) / len(numbers)

    def free_coverage(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Coverage of the free evidence of (question number, row read) pairs."""
        return self.coverage([number for number, _ in pairs], self.free_texts(pairs))

    def states_answer(self, number: int, row: int) -> bool:
        """Whether a document is one of the question's gold ones, or says the answer in its own text."""
        return row in self.asked[number].gold or self.covered(number, self.documents[row].contents)

    def first_silent(self, number: int, ranked: Iterable[int]) -> int | None:
        """The first of some ranked rows whose document does not state the question's answer; None where all do."""
        return next((row for row in ranked if not self.states_answer(number, row)), None)


def held_out(questions: Sequence[Question]) -> list[Question]:
    """Questions of the split `test` and the type `single` with an answer that can stand in a text, in a fixed order."""
    return fixed_order(
        question
        for question in questions
        if question.split == "test" and question.question_type == "single" and has_answer(question)
    )


def fixed_order(questions: Iterable[Question]) -> list[Question]:
    """Questions in a random order that depends on their ids alone, so that the first ones are a fixed sample."""
    usable = {question.id: question for question in questions}
    return [usable[key] for key in hash_order(usable, 0, "memory checks")]


def has_answer(question: Question) -> bool:
    """Whether the question has an answer that can stand in a text."""
    return question_coverage(question, "") is not None


def never_empty_evidence(
    model: MemoryModel,
    z: torch.Tensor,
    spans: torch.Tensor,
    queries: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy evidence for B queries, each from the most probable spans of a document z [B, m, d]."""
    best = model.best_spans(queries, z, spans).tolist()
    pairs = [(row, span) for row, own in enumerate(best) for span in own if span >= 0]
    if not pairs:  # documents without text
        return [""] * len(queries)
    rows = [row for row, _ in pairs]
    slots = span_slots(z[rows], spans[rows], [span for _, span in pairs])
    made = generate(model, *slots, [queries[row] for row in rows], max_new_tokens, min_new_tokens=1)
    texts: list[dict[str, None]] = [{} for _ in queries]
    for row, text in zip(rows, made, strict=True):
        texts[row][text] = None
    return ["\n".join(own) for own in texts]
