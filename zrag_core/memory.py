"""Asking a memory: from a question to an answer with its evidence, where it stands, and how sure the memory is.

    reader = Memory.open("data/checkpoints/memory-0123456789abcdef")
    for reply in reader.ask(["Where was Orla Venn born?", "오를라 벤은 어디에서 태어났나?"]):
        print(reply.evidence, reply.confidence, [source.title for source in reply.sources])

Importing this module is cheap; torch and transformers are loaded when a memory is opened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zrag_core.answering.answer_stream import AnswerStream, StreamingReader
from zrag_core.answering.types import AnswerRequest, Reader
from zrag_core.corpus.cleaning import clean_question
from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.groundedness import unsupported_sentences
from zrag_core.evidence import Retrieved, Segment, evidence_within
from zrag_core.replies import Reply, RoutedDocument, Source
from zrag_core.settings import DecodingSettings
from zrag_core.text import detect_language, is_blank

if TYPE_CHECKING:
    from zrag_core.corpus.types import Document
    from zrag_core.model.inference.memory_system import MemorySystem
    from zrag_core.model.store.checkpoint import Checkpoint

LEAST_CONFIDENCE = 0.55
"""Below this calibrated probability that the memory holds the answer, a question is refused. A little over one half, as
the calibration is too sure of texts unlike its own; chosen on everyday documents (experiment 35)."""

LONGEST_QUESTION = 8_000
"""Characters; what is longer is no question, and is not asked."""

_NEAREST = 3
_SHOWN = 80  # characters of a question that is not asked

REFUSALS = {"en": "The memory does not hold this.", "ko": "기억에 없는 내용입니다."}


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
    def documents(self) -> Sequence[Document]:
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
        return self._answered(self._found(questions, budget, free), free)

    def ask_streamed(
        self,
        question: str,
        stream: AnswerStream,
        found: Callable[[Reply], object],
        budget: int = 256,
        free: bool = False,
    ) -> Reply:
        """Answer one question, as `ask` does; where a model answers, `stream` is shown the answer while it is written.

        Args:
            found: called with the reply that has no answer yet, before the model is asked for it; not where none is.

        Raises:
            AnsweringError: as for `ask`.
            AnswerStopped: `stream` was stopped.
        """
        replies = self._found([question], budget, free)
        if self.reader is None or not isinstance(self.reader, StreamingReader) or not replies[0].answerable:
            return self._answered(replies, free)[0]
        found(replace(replies[0], reader=self.reader.name, model=self.reader.model))
        return self._answered(replies, free, stream)[0]

    def _found(self, questions: Sequence[str], budget: int, free: bool) -> list[Reply]:
        """Replies with their evidence, before anybody answers from it."""
        cleaned = [clean_question(text) for text in questions]
        problems = [question_problem(text) for text in cleaned]
        usable = [text for text, problem in zip(cleaned, problems, strict=True) if problem is None]
        found = iter(self.retrieve([Question(str(n), text) for n, text in enumerate(usable)], free))
        return [
            self._evidence(text, next(found), budget, free) if problem is None else _not_asked(text, problem)
            for text, problem in zip(cleaned, problems, strict=True)
        ]

    def _evidence(self, question: str, item: Retrieved, budget: int, free: bool) -> Reply:
        shown = evidence_within(self._system(free), item, budget)
        unsupported = () if shown.segments else unsupported_sentences(shown.text, self._routed_texts(item, free))
        return Reply(
            question=question,
            answerable=item.answerable,
            confidence=item.confidence,
            answer="" if item.answerable else REFUSALS[detect_language(question)],
            evidence=shown.text,
            sources=self._sources(shown.segments, free),
            nearest=() if item.answerable else self._sources(item.segments[:_NEAREST], free),
            verified=not unsupported,
            unsupported=unsupported,
            routing=self._routing(item, free),
            reader="",
            model="",
            error=None,
            latency_ms=item.latency_ms,
            notes=self._notes(question),
        )

    def _answered(self, replies: list[Reply], free: bool, stream: AnswerStream | None = None) -> list[Reply]:
        """The replies with the reader's answers; with `stream`, there is one and the reader can show it."""
        name = self._system(free).name
        requests = [
            AnswerRequest(str(n), name, reply.question, reply.evidence, detect_language(reply.question))
            for n, reply in enumerate(replies)
            if reply.answerable
        ]
        if self.reader is None or not requests:
            return replies
        began = time.perf_counter()
        if stream is not None and isinstance(self.reader, StreamingReader):
            answers = [self.reader.answer_streamed(requests[0], stream)]
        else:
            answers = self.reader.answer(requests)
        each_ms = (time.perf_counter() - began) * 1000 / len(requests)
        for answer in answers:
            reply = replies[number := int(answer.question_id)]
            replies[number] = replace(
                reply,
                answer=answer.answer,
                reader=answer.reader,
                model=answer.model,
                error=answer.error,
                latency_ms=reply.latency_ms + each_ms,
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

    def _sources(self, segments: Sequence[Segment], free: bool) -> tuple[Source, ...]:
        found = self._system(free).found
        return tuple(
            Source(
                s.document_id,
                found[s.document_id].title,
                s.start,
                s.end,
                s.text,
                s.score,
                s.reading if s.shown != s.text else "",
            )
            for s in segments
        )

    def _routed_texts(self, item: Retrieved, free: bool) -> list[str]:
        return [self._system(free).found[document_id].text for document_id in item.document_ids]

    def _routing(self, item: Retrieved, free: bool) -> tuple[RoutedDocument, ...]:
        found = self._system(free).found
        return tuple(
            RoutedDocument(document_id, found[document_id].title, math.exp(score))
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
