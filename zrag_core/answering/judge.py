"""An LLM as judge: correct, incorrect or not attempted, as in SimpleQA (Wei et al. 2024, arXiv 2411.04368).

Exact match and F1 count words; a judge sees that "Quandt, in 1887" answers "Elvira Quandt". Beyond
SimpleQA, a question without golden answers is answered correctly by saying so. The wording is the
project's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zrag_core.answering.prompts import load_template
from zrag_core.answering.types import Completer, CostEstimate, Messages, Progress, Prompt

Verdict = Literal["correct", "incorrect", "not_attempted"]

# A verdict is at most five tokens in common tokenizers.
_MAX_TOKENS = 16
# The word alone, with the marks that models put around a word.
_VERDICT = re.compile(r"[\s\"'`*.]*(correct|incorrect|not[_ -]attempted)[\s\"'`*.]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One answer to judge.

    Attributes:
        system: the system whose evidence the answer was given from.
        golds: accepted answers; empty for an unanswerable question.
        language: "en" or "ko"; decides the wording of the prompt.
    """

    question_id: str
    system: str
    question: str
    golds: tuple[str, ...]
    answer: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict: a row of the table `judgements`; the other fields mean what they mean in `Answer`.

    Attributes:
        verdict: None where `error` says why there is none.
    """

    question_id: str
    system: str
    judge_model: str
    verdict: Verdict | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    latency_ms: float
    cached: bool
    prompt_hash: str
    error: str | None = None


class Judge:
    """Judges answers.

    Args:
        completer: the judging model, at temperature 0.
    """

    def __init__(self, completer: Completer):
        self._completer = completer
        self.model = completer.model

    def judge(self, requests: Sequence[JudgeRequest], progress: Progress | None = None) -> list[Judgement]:
        """Return one `Judgement` for each request, in order; a reply that is no verdict is an error on its row.

        Raises:
            AnsweringError: nothing can be judged at all (wrong key, unreachable server, unknown price).
        """
        completions = self._completer.complete([_prompt(request) for request in requests], progress)
        judged = []
        for request, done in zip(requests, completions, strict=True):
            verdict = None if done.error else parse_verdict(done.text)
            error = done.error or (None if verdict else f"no verdict in the judge's reply: {done.text[:80]!r}")
            call = {**done.call(), "error": error}
            judged.append(Judgement(request.question_id, request.system, self.model, verdict, **call))
        return judged

    def estimate(self, requests: Sequence[JudgeRequest]) -> CostEstimate:
        """Estimate what judging `requests` costs at most; sends nothing."""
        return self._completer.estimate_prompts([_prompt(request) for request in requests])


def judge_messages(request: JudgeRequest) -> Messages:
    """The chat messages that ask for a verdict."""
    sections = load_template("judge", request.language)
    values = {
        "question": request.question.strip(),
        "golds": "\n".join(gold.strip() for gold in request.golds),
        "answer": request.answer.strip(),
    }
    user = "user" if request.golds else "unanswerable.user"
    return [
        {"role": "system", "content": sections["system"].substitute(values)},
        {"role": "user", "content": sections[user].substitute(values)},
    ]


def parse_verdict(reply: str) -> Verdict | None:
    """The verdict that `reply` consists of, or None: a verdict among other words may be a quotation or a denial."""
    found = _VERDICT.fullmatch(reply)
    if found is None:
        return None
    verdicts: dict[str, Verdict] = {"correct": "correct", "incorrect": "incorrect"}
    return verdicts.get(found.group(1).lower(), "not_attempted")


def _prompt(request: JudgeRequest) -> Prompt:
    labels = {"purpose": "judge", "question_id": request.question_id, "system": request.system}
    return Prompt(judge_messages(request), _MAX_TOKENS, labels)
