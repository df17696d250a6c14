"""The web application: the page, OpenAI's chat and responses interfaces, retrieval, documents, and a health check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from zrag_core.corpus.cleaning import clean_question
from zrag_core.errors import ZragError
from zrag_core.memory import Reply, question_problem
from zrag_core.text import is_blank
from zrag_core.web.messages import chat_chunks, chat_completion, message_of, response_events, response_object
from zrag_core.web.service import MemoryService

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
        question = clean_question(question)
        if is_blank(question):
            raise BadRequest("no question: the last user message is empty or missing")
        if problem := question_problem(question):
            raise BadRequest(problem)
        reply = await run_in_threadpool(service.ask, question, options.budget, options.free)
        if reply.error is not None:
            raise ZragError(f"the answering model failed: {reply.error}")
        return reply

    @app.post("/v1/chat/completions")
    async def _chat(request: ChatRequest) -> Response:
        """Answer the last message of the user, as OpenAI's chat interface does."""
        reply = await ask(_last_question(request.messages), request)
        message = message_of(reply)
        if request.stream:
            events = (f"data: {_json(chunk)}\n\n" for chunk in chat_chunks(message, reply, MODEL))
            return _stream([*events, "data: [DONE]\n\n"])
        return JSONResponse(chat_completion(message, reply, MODEL))

    @app.post("/v1/responses")
    async def _responses(request: ResponseRequest) -> Response:
        """Answer a question, as OpenAI's responses interface does."""
        given = request.input
        reply = await ask(given if isinstance(given, str) else _last_question(given), request)
        message = message_of(reply)
        if request.stream:
            events = response_events(message, reply, MODEL)
            return _stream(f"event: {event['type']}\ndata: {_json(event)}\n\n" for event in events)
        return JSONResponse(response_object(message, reply, MODEL))

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
    return JSONResponse({"error": {"message": message, "type": kind, "code": None, "param": None}}, status_code=status)


def _stream(events: Iterable[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
