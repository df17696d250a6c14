"""A light chat model that is told summaries of the corpus, as MemoRAG's memory model."""

from __future__ import annotations

from collections.abc import Sequence

from zrag_core.answering.thinking import strip_thinking
from zrag_core.answering.types import Completer, Prompt
from zrag_core.corpus.types import Question
from zrag_core.memorag.clue_memory import Clues, Draft, Usage
from zrag_core.memorag.clue_parser import parse_clues
from zrag_core.memorag.corpus_summaries import CorpusSummaries
from zrag_core.memorag.prompts import load_template
from zrag_core.settings import AnswerSettings, MemoragSettings


def light_settings(answers: AnswerSettings, settings: MemoragSettings) -> AnswerSettings:
    """Settings of the light model's client: the answering model's server, key and limits, another model."""
    return answers.model_copy(update={"model": settings.light_model, "temperature": settings.light_temperature})


class SummaryMemory:
    """Asks a light model that is told the summaries of the corpus.

    Args:
        completer: the light model, for instance an `OpenAIReader` with its cache and spending limit.
        summaries: `memory_tokens` of them go into each prompt. They stand first and are the same in all prompts, so
            that servers which cache prompts charge less for them.
        settings: lengths of memory, draft and clues.
    """

    name = "summary"

    def __init__(self, completer: Completer, summaries: CorpusSummaries, settings: MemoragSettings):
        self.summaries = summaries
        self._completer = completer
        self._text = summaries.text(settings.memory_tokens)
        self._settings = settings

    @property
    def figures(self) -> dict[str, float | None]:
        """What making the summaries took."""
        return {
            "summaries_made": self.summaries.made,
            "summaries_reused": self.summaries.reused,
            "building_cost_usd": self.summaries.usage.cost_usd,
        }

    def draft(self, questions: Sequence[Question]) -> list[Draft]:
        """Ask for drafts; a question whose request failed gets an empty one with the error.

        Raises:
            AnsweringError: nothing can be asked at all, or there is no prompt in a question's language.
        """
        prompts = [self._prompt("draft", question, self._settings.draft_tokens) for question in questions]
        return [
            Draft(strip_thinking(done.text), Usage.of(done), done.error) for done in self._completer.complete(prompts)
        ]

    def clues(self, questions: Sequence[Question], drafts: Sequence[Draft]) -> list[Clues]:
        """Ask for clues; the draft is the only one where the request failed, and there is none without a draft.

        Raises:
            AnsweringError: nothing can be asked at all, or there is no prompt in a question's language.
        """
        pairs = list(zip(questions, drafts, strict=True))
        asked = [(question, draft) for question, draft in pairs if not draft.error]
        prompts = [self._prompt("clues", question, self._settings.clue_tokens, draft.text) for question, draft in asked]
        completions = iter(self._completer.complete(prompts))
        found = []
        for question, draft in pairs:
            if draft.error:
                found.append(Clues(()))
                continue
            done = next(completions)
            found.append(Clues(parse_clues(done.text, question.question, draft.text), Usage.of(done), done.error))
        return found

    def _prompt(self, task: str, question: Question, max_tokens: int, draft: str = "") -> Prompt:
        sections = load_template("recall", question.language)
        messages = [
            {"role": "system", "content": sections["memory"].substitute(memory=self._text)},
            {"role": "user", "content": sections[task].substitute(question=question.question.strip(), draft=draft)},
        ]
        return Prompt(messages, max_tokens)
