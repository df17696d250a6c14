"""The local reader: SmolLM2-135M-Instruct, a small pretrained LLM on this machine, asked through a loopback server.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prompts import REFUSALS, build_messages
from zrag_core.answering.types import Answer, AnswerRequest, CallObserver, Progress, Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import LOCAL_MODEL, AnswerSettings

# What servers that need no key are sent instead of one.
_NO_KEY = "none"


class LocalReader(OpenAIReader):
    """Answers by `LOCAL_MODEL` at the server of `settings.base_url`; it is sent no key, and costs nothing.

    So small a model follows no list of rules and cannot tell what the evidence does not hold. Its prompt is made of
    examples, whose answers stand in quotation marks, and questions without any evidence are refused for it.

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
        return [next(given) if _is_asked(request) else self._refused(request) for request in requests]

    def answer_streamed(self, request: AnswerRequest, stream: AnswerStream) -> Answer:
        """Return the answer to one request as it is written; one without evidence is refused and not sent."""
        if _is_asked(request):
            return super().answer_streamed(request, stream)
        refused = self._refused(request)
        stream.reach(refused.answer)
        return refused

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
            request.question, request.evidence, request.language, request.closed_book, purpose="answer_small"
        )
        labels = {"purpose": "answer", "question_id": request.question_id, "system": request.system}
        return Prompt(messages, self._settings.max_answer_tokens, labels)


def unquoted(text: str) -> str:
    """The answer without the quotation marks of the prompt's examples, and without what follows them."""
    line = text.strip().partition("\n")[0]
    return line[1:].partition('"')[0].strip() if line.startswith('"') else line.strip()


def _is_asked(request: AnswerRequest) -> bool:
    return request.closed_book or bool(request.evidence.strip())
