"""The local reader: SmolLM2-135M-Instruct, a small pretrained LLM on this machine, asked through a loopback server.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prompts import build_messages
from zrag_core.answering.types import AnswerRequest, CallObserver, Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import LOCAL_MODEL, AnswerSettings

# What servers that need no key are sent instead of one.
_NO_KEY = "none"


class LocalReader(OpenAIReader):
    """Answers by `LOCAL_MODEL` at the server of `settings.base_url`; it is sent no key, and costs nothing.

    It has a prompt of its own, as so small a model follows no list of rules.

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

    def _prompt(self, request: AnswerRequest) -> Prompt:
        messages = build_messages(
            request.question, request.evidence, request.language, request.closed_book, purpose="answer_small"
        )
        labels = {"purpose": "answer", "question_id": request.question_id, "system": request.system}
        return Prompt(messages, self._settings.max_answer_tokens, labels)
