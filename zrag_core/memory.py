"""Asking a memory: from a question to an answer with its evidence, where it stands, and how sure the memory is.

    reader = Memory.open("data/checkpoints/memory-0123456789abcdef")
    for reply in reader.ask(["Where was Orla Venn born?", "오를라 벤은 어디에서 태어났나?"]):
        print(reply.evidence, reply.confidence, [source.title for source in reply.sources])

Importing this module is cheap; torch and transformers are loaded when a memory is opened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.answering.types import AnswerRequest, Reader
from zrag_core.corpus.cleaning import clean_question
from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.groundedness import unsupported_sentences
from zrag_core.evidence import Retrieved, Segment, evidence_within
from zrag_core.settings import DecodingSettings
from zrag_core.text import detect_language, is_blank

if TYPE_CHECKING:
    from zrag_core.corpus.types import Document
    from zrag_core.model.inference.memory_system import MemorySystem
    from zrag_core.model.store.checkpoint import Checkpoint

LEAST_CONFIDENCE = 0.5
"""Below this calibrated probability that the memory holds the answer, a question is refused: either mistake counts
the same."""

LONGEST_QUESTION = 8_000
"""Characters; what is longer is no question, and is not asked."""

_NEAREST = 3
_SHOWN = 80  # characters of a question that is not asked

REFUSALS = {"en": "The memory does not hold this.", "ko": "기억에 없는 내용입니다."}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a piece of the evidence stands: characters `start` to `end` of a document's text.

    Attributes:
        score: what ranked it; comparable within one question only.
        reading: what is handed over in the place of `text`, where that says nothing by itself (a row of a table).
    """

    document_id: str
    title: str
    start: int
    end: int
    text: str
    score: float
    reading: str = ""


@dataclass(frozen=True, slots=True)
class RoutedDocument:
    """A document that the question was routed to.

    Attributes:
        score: its probability given the question, among all documents of the memory.
    """

    document_id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a memory says to one question.

    Attributes:
        answerable: False where the memory refuses, because it does not hold the answer.
        confidence: calibrated probability that the memory holds the answer; None where the checkpoint has none.
        answer: the reader's answer, or the refusal; empty where nobody answers, or the reader failed (see `error`).
        evidence: the text that was shown and answered from, within the budget; empty where refused.
        sources: the pieces that the evidence is made of, best first; none where it is the model's own words.
        verified: whether every sentence of the evidence stands in one of the routed documents; verbatim evidence does,
            the model's own words need not.
        unsupported: the sentences that stand in none.
        routing: ranked documents, best first (those that were read are ranked by what was found in them).
        nearest: where refused, the pieces that come nearest; as far as the memory can tell they do not answer.
        reader, model: who answered; empty where nobody did.
        error: why the question was not asked, or the reader gave no answer, on one line.
        latency_ms: wall time of routing, reading and answering.
        notes: what one has to know to judge the reply, a line each.
    """

    question: str
    answerable: bool
    confidence: float | None
    answer: str
    evidence: str
    sources: tuple[Source, ...]
    verified: bool
    unsupported: tuple[str, ...]
    routing: tuple[RoutedDocument, ...]
    reader: str
    model: str
    error: str | None
    latency_ms: float
    nearest: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The reply as plain values, for JSON."""
        return asdict(self)


def question_problem(text: str) -> str | None:
    """Why a cleaned question cannot be asked; None where it can."""
    if is_blank(text):
        return "the question is empty"
    if len(text) > LONGEST_QUESTION:
        return f"the question has {len(text):,} characters; at most {LONGEST_QUESTION:,} are taken"
    return None


def _not_asked(text: str, reason: str) -> Reply:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return Reply(shown, False, None, "", "", (), True, (), (), "", "", reason, 0.0)


def fit_least_confidence(memory: Memory, questions: Sequence[Question], *, most_refused: float = 0.1) -> float | None:
    """Where this memory should begin to refuse: at `LEAST_CONFIDENCE`, or lower where that would refuse too much.

    The confidence is calibrated on documents of the skill's kind. Of other texts it may be far too low and still tell
    what is held from what is not, so the threshold follows what the memory says to questions that it does hold.

    Args:
        questions: about the corpus, never those that it is tested with; unanswerable ones are left out.
        most_refused: largest share of them that may be refused.

    Returns:
        None where there is nothing to fit on: no question about this memory, or no calibrated confidence.
    """
    held = {document.id for document in memory.documents}
    asked = [question for question in questions if question.document_ids and held.issuperset(question.document_ids)]
    found = memory.retrieve(asked)
    sure = sorted(item.confidence for item in found if item.confidence is not None)
    return min(LEAST_CONFIDENCE, sure[int(most_refused * len(sure))]) if sure else None


class Memory:
    """An open memory that answers questions.

    Args:
        checkpoint: what is read; for free decoding it is loaded once more, with what generates text.
        decoding: how evidence is read; `least_confidence` in it is where refusal begins.
        reader: who answers from the evidence; left out: nobody, and replies have evidence alone.
        threads: CPU threads.
    """

    def __init__(
        self, checkpoint: Checkpoint, decoding: DecodingSettings, *, reader: Reader | None = None, threads: int = 2
    ):
        self.checkpoint = checkpoint
        self.decoding = decoding
        self.reader = reader
        self.threads = threads
        self._titles = {document.id: document.title for document in checkpoint.documents}
        self._texts = {document.id: document.text for document in checkpoint.documents}
        self._systems: dict[bool, MemorySystem] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        decoding: DecodingSettings | None = None,
        least_confidence: float | None = None,
        device: str | None = None,
        reader: Reader | None = None,
        threads: int = 2,
    ) -> Memory:
        """Load a checkpoint folder.

        Args:
            decoding: left out: that of the checkpoint.
            least_confidence: where refusal begins, 0 for never; left out: that of `decoding` where it refuses at all,
                else `LEAST_CONFIDENCE`.
            device: where the model runs; left out: the GPU where there is one.
            reader, threads: see the class.

        Raises:
            CheckpointError: there is no checkpoint, or it is damaged.
            SettingsError: `device` is not there.
        """
        from zrag_core.model.store.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(Path(folder), device=device, verbatim=True)
        settings = decoding or checkpoint.settings.decoding
        if least_confidence is None:
            least_confidence = settings.least_confidence or LEAST_CONFIDENCE
        settings = settings.model_copy(update={"least_confidence": least_confidence})
        return cls(checkpoint, settings, reader=reader, threads=threads)

    @property
    def documents(self) -> tuple[Document, ...]:
        """What is in the memory."""
        return self.checkpoint.documents

    def ask(self, questions: Sequence[str], budget: int = 256, free: bool = False) -> list[Reply]:
        """Answer questions, one reply each, in order.

        They are cleaned as the questions of a corpus are; one that cannot be asked has an `error`.

        Args:
            budget: most evidence tokens (UTF-8 bytes / 4) that are shown and answered from.
            free: evidence in the model's own words instead of sentences of the corpus.

        Raises:
            AnsweringError: the answering model cannot be asked at all (wrong key, unreachable server).
        """
        cleaned = [clean_question(text) for text in questions]
        problems = [question_problem(text) for text in cleaned]
        usable = [text for text, problem in zip(cleaned, problems, strict=True) if problem is None]
        replies = iter(self._ask(usable, budget, free))
        return [
            next(replies) if problem is None else _not_asked(text, problem)
            for text, problem in zip(cleaned, problems, strict=True)
        ]

    def _ask(self, questions: Sequence[str], budget: int, free: bool) -> list[Reply]:
        system = self._system(free)
        found = self.retrieve([Question(str(n), text) for n, text in enumerate(questions)], free)
        evidence = [evidence_within(system, item, budget) for item in found]
        requests = [
            AnswerRequest(item.question_id, system.name, text, shown.text, detect_language(text))
            for text, item, shown in zip(questions, found, evidence, strict=True)
            if item.answerable
        ]
        began = time.perf_counter()
        read = self.reader.answer(requests) if self.reader and requests else []
        answers = {answer.question_id: answer for answer in read}
        answering_ms = (time.perf_counter() - began) * 1000 / max(1, len(requests))
        replies = []
        for text, item, shown in zip(questions, found, evidence, strict=True):
            unsupported = () if shown.segments else unsupported_sentences(shown.text, self._routed_texts(item))
            answer = answers.get(item.question_id)
            replies.append(
                Reply(
                    question=text,
                    answerable=item.answerable,
                    confidence=item.confidence,
                    answer=answer.answer if answer else "" if item.answerable else REFUSALS[detect_language(text)],
                    evidence=shown.text,
                    sources=self._sources(shown.segments),
                    nearest=() if item.answerable else self._sources(item.segments[:_NEAREST]),
                    verified=not unsupported,
                    unsupported=unsupported,
                    routing=self._routing(item),
                    reader="" if answer is None else answer.reader,
                    model="" if answer is None else answer.model,
                    error=None if answer is None else answer.error,
                    latency_ms=item.latency_ms + (0.0 if answer is None else answering_ms),
                    notes=self._notes(text),
                )
            )
        return replies

    def retrieve(self, questions: Sequence[Question], free: bool = False) -> list[Retrieved]:
        """What the memory finds for questions, before any budget is applied and without an answer."""
        return self._system(free).retrieve(questions)

    def _notes(self, question: str) -> tuple[str, ...]:
        model = self.checkpoint.model
        read, tokens = model.query_tokens, len(model.backbone.encode(question))
        if tokens <= read:
            return ()
        return (f"long question: its words are looked for, but the model reads its first {read} of {tokens:,} tokens",)

    def _sources(self, segments: Sequence[Segment]) -> tuple[Source, ...]:
        return tuple(
            Source(
                s.document_id,
                self._titles[s.document_id],
                s.start,
                s.end,
                s.text,
                s.score,
                s.reading if s.shown != s.text else "",
            )
            for s in segments
        )

    def _routed_texts(self, item: Retrieved) -> list[str]:
        return [self._texts[document_id] for document_id in item.document_ids]

    def _routing(self, item: Retrieved) -> tuple[RoutedDocument, ...]:
        return tuple(
            RoutedDocument(document_id, self._titles[document_id], math.exp(score))
            for document_id, score in zip(item.document_ids, item.document_scores, strict=True)
        )

    def _system(self, free: bool) -> MemorySystem:
        if free not in self._systems:
            from zrag_core.model.inference.create_system import create_system
            from zrag_core.model.store.checkpoint import load_checkpoint

            checkpoint = self.checkpoint
            if free and not hasattr(checkpoint.model.lm, "generate"):
                checkpoint = load_checkpoint(checkpoint.folder, device=checkpoint.model.device.type)
            name = "zrag_free" if free else "zrag"
            self._systems[free] = create_system(name, checkpoint, self.decoding, free=free, threads=self.threads)
        return self._systems[free]
