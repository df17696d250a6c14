"""The local reader: SmolLM2-135M-Instruct, a small pretrained LLM on this machine, asked through a loopback server.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prompts import REFUSALS, build_messages
from zrag_core.answering.types import Answer, AnswerRequest, CallObserver, Progress, Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import LOCAL_MODEL, AnswerSettings
from zrag_core.text import search_terms

# What servers that need no key are sent instead of one.
_NO_KEY = "none"
_SHORTEST_PIECE = 30  # characters
_SAY_NOTHING = frozenset("a an are at be been by for in is it its of on the there to was were".split())


class LocalReader(OpenAIReader):
    """Answers by `LOCAL_MODEL` at the server of `settings.base_url`; it is sent no key, and costs nothing.

    So small a model follows no list of rules, loses its way in long texts and makes things up. Its prompt is made of
    examples, whose answers stand in quotation marks; it reads the best piece of the evidence alone; where it says
    anything that neither this piece nor the question says, the answer is the piece itself; and questions without any
    evidence are refused for it.

    Args:
        settings: those of the answers; `model` is not looked at.
        cache, ledger, observe: as for `OpenAIReader`.

    Raises:
        AnsweringError: there is no server, or its address cannot be used.
    """

    name = "local"

    def __init__(
        self,
        settings: AnswerSettings,
        *,
        cache: AnswerCache | None = None,
        ledger: SpendingLedger | None = None,
        observe: CallObserver | None = None,
    ):
        if settings.base_url is None:
            raise AnsweringError(
                "the reader 'local' asks a server, and none is running",
                where="answers.base_url",
                remedy="start one by `zrag serve-reader` and give its address",
            )
        settings = settings.model_copy(update={"model": LOCAL_MODEL})
        super().__init__(settings, _NO_KEY, cache=cache, ledger=ledger, observe=observe)
        # The server's port changes from run to run, the model does not.
        self._identity = f"{LOCAL_MODEL}@local"

    def answer(self, requests: Sequence[AnswerRequest], progress: Progress | None = None) -> list[Answer]:
        """Return one `Answer` for each request, in order; one without evidence is refused and not sent."""
        asked = [request for request in requests if _is_asked(request)]
        given = iter(super().answer(asked, progress))
        answers = [next(given) if _is_asked(request) else self._refused(request) for request in requests]
        return [_kept_to_evidence(*pair) for pair in zip(requests, answers, strict=True)]

    def answer_streamed(self, request: AnswerRequest, stream: AnswerStream) -> Answer:
        """Return the answer to one request, shown when it is whole: only then is it known to be supported."""
        if not _is_asked(request):
            answer = self._refused(request)
        else:
            held = AnswerStream(lambda piece: None)
            with stream.stopping_by(held.stop):
                answer = _kept_to_evidence(request, super().answer_streamed(request, held))
        stream.reach(answer.answer)
        return answer

    def _worded(self, text: str) -> str:
        return unquoted(text)

    def _refused(self, request: AnswerRequest) -> Answer:
        return Answer(
            question_id=request.question_id,
            system=request.system,
            reader=self.name,
            model=self.model,
            answer=REFUSALS[request.language],
            prompt_tokens=0,
            completion_tokens=0,
            cost_usd=0.0,
            latency_ms=0.0,
            cached=False,
            prompt_hash=self._hash(self._prompt(request)),
        )

    def _prompt(self, request: AnswerRequest) -> Prompt:
        messages = build_messages(
            request.question,
            best_piece(request.evidence),
            request.language,
            request.closed_book,
            purpose="answer_small",
        )
        labels = {"purpose": "answer", "question_id": request.question_id, "system": request.system}
        return Prompt(messages, self._settings.max_answer_tokens, labels)


def unquoted(text: str) -> str:
    """The answer without the quotation marks of the prompt's examples, and without what follows them."""
    line = text.strip().partition("\n")[0]
    return line[1:].partition('"')[0].strip() if line.startswith('"') else line.strip()


def best_piece(evidence: str) -> str:
    """The first line of the evidence, which is what a system puts first; with the next ones where it is very short."""
    lines = [line.strip() for line in evidence.splitlines() if line.strip()]
    n = 1
    while n < len(lines) and len(" ".join(lines[:n])) < _SHORTEST_PIECE:
        n += 1
    return "\n".join(lines[:n])


def is_supported(answer: str, question: str, evidence: str) -> bool:
    """Whether the answer says something of the evidence, and nothing that neither evidence nor question says."""
    said, asked, known = (set(search_terms(text)) - _SAY_NOTHING for text in (answer, question, evidence))
    return said <= known | asked and bool((said & known) - asked)


def _kept_to_evidence(request: AnswerRequest, answer: Answer) -> Answer:
    piece = best_piece(request.evidence)
    as_it_is = request.closed_book or not piece or answer.error
    if as_it_is or is_supported(answer.answer, request.question, piece):
        return answer
    return replace(answer, answer=piece)


def _is_asked(request: AnswerRequest) -> bool:
    return request.closed_book or bool(request.evidence.strip())
