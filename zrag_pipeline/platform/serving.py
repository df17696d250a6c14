"""The registered model: a memory behind MLflow's Responses interface.

This is model code: MLflow copies the file into the model and runs it there (`mlflow models serve`), beside a copy of
`zrag_core` (see `packaged_model`). So it imports `zrag_core` and MLflow, and nothing else of this package.

The last user message is the question; the output text is the answer, or the evidence where nobody answers.
`custom_outputs` is the whole reply: evidence, its sources with offsets, routing, confidence, whether it was answerable,
and who answered (see `zrag_core.memory`). `custom_inputs` may set `budget` (evidence tokens) and `free` (the model's
own words). The server's environment decides who answers: nobody, or with `ZRAG_READER=openai` the model
`ZRAG_READER_MODEL` (with OPENAI_API_KEY, and OPENAI_BASE_URL where it is a server of one's own); and with
`ZRAG_LEAST_CONFIDENCE`, where refusal begins. Without it, and in everything else, the memory is read as when it became
the champion (`decoding.json` beside the checkpoint).
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from zrag_core.answering.choice import choose_reader
from zrag_core.corpus.cleaning import clean_question
from zrag_core.errors import ZragError
from zrag_core.memory import Memory, question_problem
from zrag_core.settings import load_settings
from zrag_core.text import is_blank
from zrag_core.web.messages import message_of

_BUDGET = 256
# A file in the folder that MLflow is shown while it saves the model (see `packaged_model`).
_UNFINISHED = ".unfinished"
_DECODING = "decoding.json"


class MemoryAgent(ResponsesAgent):
    """Answers from the checkpoint among the model's artifacts, one request at a time."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint when the server starts, so that a damaged one never serves.

        MLflow calls this and `predict` while it saves the model as well, when there is nothing to load yet.
        """
        self._lock = threading.Lock()
        folder = Path(context.artifacts["checkpoint"])
        self._memory = None if (folder / _UNFINISHED).exists() else _open(folder, os.environ)

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:  # type: ignore[override]
        """Answer the last user message.

        Raises:
            MlflowException: a request without a question or with unknown options (status 400), or the answering model
                failed (status 500).
        """
        answer, reply = self._answer(request)
        return ResponsesAgentResponse(
            id=_new_id("resp"),
            created_at=time.time(),
            model=reply.get("checkpoint_id"),
            status="completed",
            parallel_tool_calls=False,
            tool_choice="none",
            tools=[],
            output=[self._message(answer, _new_id("msg"))],
            custom_outputs=reply,
        )

    def predict_stream(  # type: ignore[override]
        self, request: ResponsesAgentRequest
    ) -> Generator[ResponsesAgentStreamEvent, None, None]:
        """Answer as a stream: the text, then the finished message with the whole reply."""
        answer, reply = self._answer(request)
        message = _new_id("msg")
        yield ResponsesAgentStreamEvent(**self.create_text_delta(answer, message))
        done = {"type": "response.output_item.done", "item": self._message(answer, message), "custom_outputs": reply}
        yield ResponsesAgentStreamEvent.model_validate(done)

    def _message(self, answer: str, name: str) -> dict[str, Any]:
        return {**self.create_text_output_item(answer, name), "status": "completed"}  # OpenAI's client wants it

    def _answer(self, request: ResponsesAgentRequest) -> tuple[str, dict[str, Any]]:
        question = _question(request)
        options = _options(request.custom_inputs or {})
        if self._memory is None:
            return "", {}
        try:
            with self._lock:  # neither the tokenizer nor what is kept between questions takes two threads at once
                (reply,) = self._memory.ask([question], **options)
        except ZragError as error:
            raise MlflowException(str(error)) from error
        if reply.error is not None:
            raise MlflowException(f"the answering model failed: {reply.error}")
        return message_of(reply).text, {**reply.to_dict(), "checkpoint_id": self._memory.checkpoint.id}


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _question(request: ResponsesAgentRequest) -> str:
    for item in reversed(request.input):
        if getattr(item, "role", None) == "user":
            content: Any = getattr(item, "content", "")
            if not isinstance(content, str):
                parts = (part if isinstance(part, dict) else part.model_dump() for part in content)
                content = "\n".join(part["text"] for part in parts if part["type"] == "input_text")
            question = clean_question(content)
            problem = question_problem(question)
            if problem is None:
                return question
            if not is_blank(question):
                raise MlflowException.invalid_parameter_value(problem)
            break
    raise MlflowException.invalid_parameter_value("no question: the last user message is empty or missing")


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    budget, free = given.get("budget", _BUDGET), given.get("free", False)
    unknown = sorted(set(given) - {"budget", "free"})
    if unknown or isinstance(budget, bool) or not isinstance(budget, int) or budget < 1 or not isinstance(free, bool):
        raise MlflowException.invalid_parameter_value(
            "custom_inputs: 'budget' is a number of tokens above 0, 'free' is true or false"
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    return {"budget": budget, "free": free}


def _open(folder: Path, environ: Mapping[str, str]) -> Memory:
    answers = {"reader": environ.get("ZRAG_READER", "offline")}
    if model := environ.get("ZRAG_READER_MODEL"):
        answers["model"] = model
    given: dict[str, Any] = {"answers": answers}
    promoted = folder.with_name(_DECODING)
    if promoted.is_file():
        given["decoding"] = json.loads(promoted.read_text(encoding="utf-8"))
    if least := environ.get("ZRAG_LEAST_CONFIDENCE"):
        given["decoding"] = {**given.get("decoding", {}), "least_confidence": least}
    settings = load_settings(given)
    return Memory.open(
        folder,
        decoding=settings.decoding if promoted.is_file() else None,
        least_confidence=settings.decoding.least_confidence if least else None,
        reader=None if settings.answers.reader == "offline" else choose_reader(settings.answers, environ),
    )


set_model(MemoryAgent())
