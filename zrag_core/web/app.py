"""The web application: the page, OpenAI's chat and responses interfaces, retrieval, documents, and a health check."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from zrag_core.corpus.cleaning import clean_question
from zrag_core.errors import ZragError
from zrag_core.memory import question_problem
from zrag_core.replies import Reply
from zrag_core.text import is_blank
from zrag_core.web.messages import (
    ChatStream,
    ResponseStream,
    chat_completion,
    error_object,
    message_of,
    response_object,
)
from zrag_core.web.service import MemoryService
from zrag_core.web.told import EventResponse, MessageStream, Telling, answered

MODEL = "zrag"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class BadRequest(Exception):
    """A request that cannot be answered; the message says why."""


class Options(BaseModel):
    """What every request may say besides its question; what else OpenAI's clients say is left alone."""

    model_config = ConfigDict(extra="ignore")

    budget: int = Field(256, ge=1, le=8_192, description="most evidence tokens (UTF-8 bytes / 4)")
    free: bool = Field(False, description="evidence in the memory's own words instead of sentences of the documents")
    stream: bool = False
    model: str = MODEL


class ChatRequest(Options):
    """The last message of the user is the question."""

    messages: list[dict[str, Any]]


class ResponseRequest(Options):
    """A question, or a list of messages of which the last one of the user is the question."""

    input: str | list[dict[str, Any]]


class RetrieveRequest(Options):
    """A question whose evidence is wanted, without an answer."""

    query: str


def create_app(service: MemoryService, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The application that asks this memory.

    Args:
        hosts: names that it answers under; a server on loopback takes its own alone, so that no page of the web can
            reach it under a name of theirs (DNS rebinding).
    """
    app = FastAPI(title="zRAG", description="Questions to a memory inside a local LLM.", docs_url="/docs")
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    _add_errors(app)
    _add_answers(app, service)
    _add_contents(app, service)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(BadRequest)
    async def _bad(_: Request, error: BadRequest) -> JSONResponse:
        return _error(400, "invalid_request_error", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(400, "invalid_request_error", f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(ZragError)
    async def _failed(_: Request, error: ZragError) -> JSONResponse:
        return _error(503, "server_error", str(error))


def _add_answers(app: FastAPI, service: MemoryService) -> None:
    async def ask(question: str, options: Options) -> Reply:
        return answered(await run_in_threadpool(service.ask, _asked(question), options.budget, options.free))

    async def stream(question: str, options: Options, form: MessageStream) -> Response:
        asked = _asked(question)
        telling = Telling(lambda to, found: service.ask_streamed(asked, to, found, options.budget, options.free))
        return EventResponse(telling, answered(await telling.begin()), form)

    @app.post("/v1/chat/completions")
    async def _chat(request: ChatRequest) -> Response:
        """Answer the last message of the user, as OpenAI's chat interface does."""
        question = _last_question(request.messages)
        if request.stream:
            return await stream(question, request, ChatStream(MODEL))
        reply = await ask(question, request)
        return JSONResponse(chat_completion(message_of(reply), reply, MODEL))

    @app.post("/v1/responses")
    async def _responses(request: ResponseRequest) -> Response:
        """Answer a question, as OpenAI's responses interface does."""
        question = request.input if isinstance(request.input, str) else _last_question(request.input)
        if request.stream:
            return await stream(question, request, ResponseStream(MODEL))
        reply = await ask(question, request)
        return JSONResponse(response_object(message_of(reply), reply, MODEL))

    @app.post("/v1/retrieve")
    async def _retrieve(request: RetrieveRequest) -> dict[str, Any]:
        """Evidence, its sources and the documents that the question was routed to."""
        reply = (await ask(request.query, request)).to_dict()
        names = ("answerable", "confidence", "evidence", "sources", "nearest", "routing", "latency_ms")
        return {"query": request.query, **{name: reply[name] for name in names}}


def _add_contents(app: FastAPI, service: MemoryService) -> None:
    page = resources.files("zrag_core.web").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def _page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @app.get("/healthz")
    async def _health() -> dict[str, Any]:
        """Which memory is asked."""
        return {"status": "ok", **await run_in_threadpool(service.describe)}

    @app.get("/v1/models")
    async def _models() -> dict[str, Any]:
        """The one model that there is."""
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "zrag"}]}

    @app.get("/v1/documents/{identifier:path}")
    async def _document(identifier: str) -> Response:
        """A document in memory."""
        found = await run_in_threadpool(service.document, identifier)
        if found is None:
            return _error(404, "invalid_request_error", f"no document '{identifier}' in the memory")
        return JSONResponse({"id": found.id, "title": found.title, "text": found.text, "source_id": found.source_id})


def _asked(text: str) -> str:
    """The question, cleaned.

    Raises:
        BadRequest: it cannot be asked.
    """
    question = clean_question(text)
    if is_blank(question):
        raise BadRequest("no question: the last user message is empty or missing")
    if problem := question_problem(question):
        raise BadRequest(problem)
    return question


def _last_question(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):  # parts: {"type": "text" | "input_text", "text": ...}
                parts = [part.get("text") for part in content if isinstance(part, dict)]
                content = "\n".join(part for part in parts if isinstance(part, str))
            return content if isinstance(content, str) else ""
    return ""


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse(error_object(kind, message), status_code=status)
