"""Calls to models as MLflow traces: one for each prompt, written in batches by a thread of its own.

The traces go straight to the run's own store: MLflow's tracing decorators and its `start_trace` write
to whatever store is globally set, one transaction each.
"""

from __future__ import annotations

import base64
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zrag_core.answering.types import Completion, Prompt
from zrag_pipeline.platform.tracking import TrackedRun, Tracking

if TYPE_CHECKING:
    from mlflow.entities import Span

# As many as MLflow links to a run in one call.
_BATCH = 100
_LONGEST_WAIT_S = 2.0


class CallTraces:
    """Turns calls into traces of an MLflow run; use as a context manager, its `record` as a `CallObserver`.

    `record` only puts the call into a queue. The end of the block waits until everything is written, a few
    milliseconds for each call that is still in the queue. What cannot be written is said and never stops a run.

    Args:
        model_of: the model's name by the prompt's label "purpose".
        limit: calls after this many are not traced.
        log: where the reason goes when traces are lost.

    Attributes:
        written: traces in the store.
        left_out: calls beyond the limit, and traces that could not be written.
    """

    def __init__(
        self,
        tracking: Tracking,
        run: TrackedRun,
        *,
        model_of: Mapping[str, str],
        limit: int,
        log: Callable[[str], None],
    ):
        self._tracking = tracking
        self._run = run
        self._model_of = dict(model_of)
        self._limit = limit
        self._log = log
        self._queue: queue.SimpleQueue[tuple[int, Prompt, Completion] | None] = queue.SimpleQueue()
        self._seen = 0
        self._thread: threading.Thread | None = None
        self._problem = ""
        self.written = 0
        self.left_out = 0

    def record(self, prompt: Prompt, completion: Completion) -> None:
        """Note a call that has just ended."""
        if self._seen >= self._limit:
            self.left_out += 1
            return
        self._seen += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="call-traces", daemon=True)
            self._thread.start()
        self._queue.put((time.time_ns(), prompt, completion))

    def __enter__(self) -> CallTraces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self.left_out:
            reason = self._problem or f"answers.max_traces is {self._limit:,}"
            self._log(f"{self.left_out:,} calls were not traced in MLflow: {reason}")

    def _write(self) -> None:
        open_ = True
        while open_:
            spans = []
            item = self._queue.get()
            deadline = time.monotonic() + _LONGEST_WAIT_S
            while item is not None:
                spans.append(self._span(*item))
                if len(spans) == _BATCH:
                    break
                try:
                    item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
            else:
                open_ = False
            if spans:
                self._store(spans)

    def _store(self, spans: list[Span]) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracing.client import TracingClient
        from sqlalchemy.exc import SQLAlchemyError

        try:
            TracingClient(self._tracking.uri).log_spans(self._run.experiment_id, spans)
            self._tracking.client.link_traces_to_run([span.trace_id for span in spans], self._run.run_id)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            # The answers are what was paid for: they must not be lost for want of a trace.
            self.left_out += len(spans)
            self._problem = str(error).splitlines()[0]
        else:
            self.written += len(spans)

    def _span(self, ended_ns: int, prompt: Prompt, completion: Completion) -> Span:
        from mlflow.entities import Span

        trace_id, span_id = secrets.token_bytes(16), secrets.token_bytes(8)
        labels = dict(prompt.labels)
        purpose = labels.get("purpose", "completion")
        status = {"code": "STATUS_CODE_ERROR" if completion.error else "STATUS_CODE_OK"}
        return Span.from_dict(
            {
                "name": purpose,
                "trace_id": base64.b64encode(trace_id).decode("ascii"),
                "span_id": base64.b64encode(span_id).decode("ascii"),
                "parent_span_id": "",
                "start_time_unix_nano": ended_ns - round(1e6 * completion.latency_ms),
                "end_time_unix_nano": ended_ns,
                "status": {**status, "message": completion.error or ""},
                "attributes": {
                    name: json.dumps(value, ensure_ascii=False)
                    for name, value in self._attributes(trace_id.hex(), labels, purpose, prompt, completion).items()
                },
            }
        )

    def _attributes(
        self, trace_id: str, labels: Mapping[str, str], purpose: str, prompt: Prompt, completion: Completion
    ) -> dict[str, Any]:
        model = self._model_of.get(purpose, "")
        tokens = {"input_tokens": completion.prompt_tokens, "output_tokens": completion.completion_tokens}
        # As tags they can be searched for, and stand in the UI's table of traces.
        tags = {
            **{name: value for name, value in labels.items() if name != "purpose"},
            "model": model,
            "cached": str(completion.cached).lower(),
        }
        return {
            "mlflow.traceRequestId": f"tr-{trace_id}",
            "mlflow.spanType": "CHAT_MODEL",
            "mlflow.spanInputs": {"messages": prompt.messages, "max_tokens": prompt.max_tokens},
            "mlflow.spanOutputs": completion.text,
            "mlflow.llm.model": model,
            "mlflow.chat.tokenUsage": {**tokens, "total_tokens": sum(tokens.values())},
            "mlflow.llm.cost": {"total_cost": completion.cost_usd or 0.0},
            "cost_usd": completion.cost_usd,
            "latency_ms": completion.latency_ms,
            "cached": completion.cached,
            "error": completion.error,
            "prompt_hash": completion.prompt_hash,
            "mlflow.traceTag.mlflow.traceName": purpose,
            "mlflow.traceTag.dagster.run_id": self._run.context_tags.get("dagster.run_id") or "",
            **{f"mlflow.traceTag.zrag.{name}": value for name, value in tags.items()},
        }
