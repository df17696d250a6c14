"""A light chat model with a summary of the corpus as MemoRAG's memory model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zrag_core.answering.types import Completer, Prompt
from zrag_core.corpus.types import Document, Question
from zrag_core.memorag.clues import parse_clues, strip_thinking
from zrag_core.memorag.memory import Clues, Draft, Spent
from zrag_core.memorag.prompts import load_template
from zrag_core.memorag.summaries import GlobalMemory, build_summaries
from zrag_core.settings import AnswerSettings

LIGHT_MODEL = "gpt-4o-mini"
LIGHT_TEMPERATURE = 0.3


def light_settings(
    answers: AnswerSettings, model: str = LIGHT_MODEL, temperature: float = LIGHT_TEMPERATURE
) -> AnswerSettings:
    """Settings of the light model's client: the answering model's server, key and limits, another model."""
    return answers.model_copy(update={"model": model, "temperature": temperature})


class SummaryMemory:
    """Asks a light model that is told a global memory of the corpus.

    Args:
        completer: the light model, for instance an `OpenAIReader` with its cache and spending limit.
        memory: what it is told; see `build_summaries`.
        memory_tokens: evidence tokens of `memory` that go into each prompt. They stand first and are the same in all
            prompts, so that servers which cache prompts charge less for them.
        draft_tokens, clue_tokens: longest draft, and longest list of clues, in the model's tokens.
    """

    name = "summary"

    def __init__(
        self,
        completer: Completer,
        memory: GlobalMemory,
        *,
        memory_tokens: int = 6000,
        draft_tokens: int = 160,
        clue_tokens: int = 160,
    ):
        self.memory = memory
        self._completer = completer
        self._text = memory.text(memory_tokens)
        self._draft_tokens = draft_tokens
        self._clue_tokens = clue_tokens

    @classmethod
    def build(cls, completer: Completer, documents: Sequence[Document], folder: Path) -> SummaryMemory:
        """The memory of a corpus with lengths as they are by default; see `build_summaries` for folder and errors."""
        return cls(completer, build_summaries(documents, completer, folder))

    def draft(self, questions: Sequence[Question]) -> list[Draft]:
        """Ask for drafts; a question whose request failed gets an empty one with the error.

        Raises:
            AnsweringError: nothing can be asked at all, or there is no prompt in a question's language.
        """
        prompts = [self._prompt("draft", question, self._draft_tokens) for question in questions]
        return [
            Draft(strip_thinking(done.text), Spent.of(done), done.error) for done in self._completer.complete(prompts)
        ]

    def clues(self, questions: Sequence[Question], drafts: Sequence[Draft]) -> list[Clues]:
        """Ask for clues; the draft is the only one where the request failed, and there is none without a draft.

        Raises:
            AnsweringError: nothing can be asked at all, or there is no prompt in a question's language.
        """
        pairs = list(zip(questions, drafts, strict=True))
        asked = [(question, draft) for question, draft in pairs if not draft.error]
        prompts = [self._prompt("clues", question, self._clue_tokens, draft.text) for question, draft in asked]
        completions = iter(self._completer.complete(prompts))
        found = []
        for question, draft in pairs:
            if draft.error:
                found.append(Clues(()))
                continue
            done = next(completions)
            found.append(Clues(parse_clues(done.text, question.question, draft.text), Spent.of(done), done.error))
        return found

    def _prompt(self, task: str, question: Question, max_tokens: int, draft: str = "") -> Prompt:
        sections = load_template("recall", question.language)
        messages = [
            {"role": "system", "content": sections["memory"].substitute(memory=self._text)},
            {"role": "user", "content": sections[task].substitute(question=question.question.strip(), draft=draft)},
        ]
        return Prompt(messages, max_tokens)
