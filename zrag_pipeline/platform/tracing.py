"""Calls to models as MLflow traces: one for each prompt, written in batches by a thread of its own.

The traces go straight to the run's own store: MLflow's tracing decorators and its `start_trace` write
to whatever store is globally set, one transaction each.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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

    `record` only notes the call, and never raises. The end of the block waits until everything is written, a few
    milliseconds for each call that is not yet. What cannot be written is counted, said once at the end, and never stops
    a run: the answers are what was paid for.

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
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="call-traces")
        self._pending: list[tuple[int, Prompt, Completion]] = []
        self._due = time.monotonic() + _LONGEST_WAIT_S
        self._seen = 0
        self._problem = ""
        self.written = 0
        self._beyond = 0  # the limit
        self._lost = 0

    @property
    def left_out(self) -> int:
        """Calls that were not traced."""
        return self._beyond + self._lost

    def record(self, prompt: Prompt, completion: Completion) -> None:
        """Note a call that has just ended."""
        if self._seen >= self._limit:
            self._beyond += 1
            return
        self._seen += 1
        self._pending.append((time.time_ns(), prompt, completion))
        if len(self._pending) == _BATCH or time.monotonic() >= self._due:
            self._flush()

    def _flush(self) -> None:
        calls, self._pending = self._pending, []
        self._due = time.monotonic() + _LONGEST_WAIT_S
        if not calls:
            return
        try:
            self._writer.submit(self._store, calls)
        except RuntimeError as error:  # no thread can be started any more
            self._lose(calls, error)

    def __enter__(self) -> CallTraces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.shutdown()
        if self.left_out:
            reason = self._problem or f"answers.max_traces is {self._limit:,}"
            self._log(f"{self.left_out:,} calls were not traced in MLflow: {reason}")

    def _store(self, calls: Sequence[tuple[int, Prompt, Completion]]) -> None:
        try:
            from mlflow.tracing.client import TracingClient

            spans = [self._span(*call) for call in calls]
            TracingClient(self._tracking.uri).log_spans(self._run.experiment_id, spans)
            self._tracking.client.link_traces_to_run([span.trace_id for span in spans], self._run.run_id)
        except BaseException as error:  # whatever ends the writer, in its thread nobody else would hear of it
            self._lose(calls, error)
        else:
            self.written += len(calls)

    def _lose(self, calls: Sequence[tuple[int, Prompt, Completion]], error: BaseException) -> None:
        self._lost += len(calls)
        self._problem = (str(error) or type(error).__name__).splitlines()[0]

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
