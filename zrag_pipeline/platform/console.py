"""A logger for the terminal: short lines for people instead of Dagster's event log.

Dagster hands every message and event of a run to its loggers as `logging` records that carry
`dagster_meta` (see dagster._core.log_manager). Of the events, only those that a person waits for
are shown: steps, materialisations, check results and failures. The UI keeps the full log.
"""

import logging
import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TextIO

import dagster as dg
from dagster import DagsterEventType as Type

from zrag_core.errors import ZragError

_SHOWN_METADATA = 4
_LONGEST_METADATA = 40
_SHORT_METADATA = (dg.IntMetadataValue, dg.FloatMetadataValue, dg.BoolMetadataValue, dg.TextMetadataValue)
# Errors of Dagster's own whose message says it all.
_PLAIN_DAGSTER_ERRORS = {"Failure", "DagsterAssetCheckFailedError"}
_FAILURES = {Type.RUN_FAILURE, Type.STEP_FAILURE, Type.ENGINE_EVENT, Type.HOOK_ERRORED}
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
# One such error for each step behind a failed one would bury the message that matters.
_NOT_RUN = re.compile(r"Dependencies for step \S+ (failed|were not executed): .* Not executing\.$")


class ConsoleFormatter(logging.Formatter):
    """Makes one line (a block for failures) of a record, or "" for what is not worth showing.

    Args:
        level: plain messages below it are not shown; above ERROR, failures are all that is shown of the run's events.
        check_steps: steps that only check an asset; their result is all that is shown of them.
    """

    def __init__(self, level: int = logging.INFO, check_steps: Collection[str] = ()):
        super().__init__()
        self._level = level
        self._check_steps = frozenset(check_steps)
        self._run_started: float | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return `HH:MM:SS  asset or step  message`."""
        meta = getattr(record, "dagster_meta", None) or {}
        event: dg.DagsterEvent | None = meta.get("dagster_event")
        name = meta.get("step_key") or meta.get("job_name") or ""
        text = None
        if event is not None:
            if self._level > logging.ERROR and event.event_type not in _FAILURES:
                return ""
            asset = event.asset_key or getattr(event.event_specific_data, "asset_key", None)
            name = asset.to_user_string() if asset else name
            text = self._event_text(event, meta["run_id"], record.created)
        elif record.levelno >= self._level:
            text = _message_text(meta.get("orig_message", record.getMessage()), record)
            if text is not None and record.exc_info:
                text += f"\n{self.formatException(record.exc_info)}"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return "" if text is None else f"{clock}  {name:<20}  {text}"

    def _event_text(self, event: dg.DagsterEvent, run_id: str, now: float) -> str | None:
        kind = event.event_type
        data: Any = event.event_specific_data
        error = getattr(data, "error", None)
        after = "" if self._run_started is None else f" after {_duration(now - self._run_started)}"
        match kind:
            case Type.RUN_START:
                self._run_started = now
                return f"run {run_id} started"
            case Type.RUN_SUCCESS:
                return f"run succeeded{after}"
            case Type.RUN_CANCELED:
                return f"run canceled{after}"
            case Type.RUN_FAILURE:
                told = error is None or data.first_step_failure_event
                return f"RUN FAILED{after}" + ("" if told else f": {_error_text(error)}")
            case Type.STEP_START | Type.STEP_SUCCESS if event.step_key in self._check_steps:
                return None
            case Type.STEP_START:
                return "started"
            case Type.STEP_SUCCESS:
                return f"done in {_duration(data.duration_ms / 1000)}"
            case Type.STEP_SKIPPED:
                return "skipped"
            case Type.STEP_UP_FOR_RETRY:
                return f"will be tried again: {_error_text(error)}"
            case Type.STEP_FAILURE:
                described = data.user_failure_data.description if data.user_failure_data else None
                return f"FAILED: {described or _error_text(error)}"
            case Type.ASSET_MATERIALIZATION:
                return f"materialised{_metadata_text(data.materialization.metadata)}"
            case Type.ASSET_CHECK_EVALUATION:
                return _check_text(data)
            case Type.ENGINE_EVENT | Type.HOOK_ERRORED if error is not None:
                return f"FAILED: {_error_text(error)}"
            case _:
                return None


class ConsoleHandler(logging.StreamHandler):
    """Writes what the formatter shows, and nothing for what it does not."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record in one piece (several processes share the terminal)."""
        try:
            text = self.format(record)
            if text:
                self.stream.write(f"{text}\n")
                self.flush()
        except Exception:
            self.handleError(record)


@dg.logger(
    {"log_level": dg.Field(str, is_required=False, default_value="INFO", description="plain messages from here up")},
    description=ConsoleFormatter.__doc__,
)
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Show a run on the terminal in short lines (use as `Definitions(loggers={"console": ...})`)."""
    # Dagster logs most events at DEBUG, so the logger takes all and the formatter chooses.
    logger = logging.Logger("zrag", level=logging.DEBUG)
    handler = ConsoleHandler(_terminal())
    level = logging.getLevelNamesMapping()[context.logger_config["log_level"].upper()]
    handler.setFormatter(ConsoleFormatter(level, _check_steps(context.job_def)))
    logger.addHandler(handler)
    return logger


def _terminal() -> TextIO:
    """Return standard error as it is now, before Dagster captures a step's output.

    What is captured reaches the terminal through a `tail` process, a second late, and is lost
    when the step ends before that: just the lines that say how it ended.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # not a real file, in some test runners
        return sys.stderr
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace")


def _check_steps(job: dg.JobDefinition | None) -> set[str]:
    definitions = job.asset_layer.asset_graph.assets_defs if job is not None else ()
    return {assets.node_def.name for assets in definitions if assets.check_keys and not assets.keys}


def _message_text(message: str, record: logging.LogRecord) -> str | None:
    if _NOT_RUN.match(message):
        return None
    return f"{record.levelname}: {message}" if record.levelno > logging.INFO else message


def _error_text(error: Any) -> str:
    """Return the message alone for errors made for people, the whole traceback for others."""
    origin = error
    while origin.cause is not None and (origin.cls_name or "").startswith("Dagster"):
        origin = origin.cause
    if origin.cls_name in _INTERRUPTS:
        return "interrupted"
    if origin.cls_name in _PLAIN_DAGSTER_ERRORS:
        return " ".join(origin.message.partition(": ")[2].split())
    if origin.cls_name in _names_of(ZragError):
        return origin.message.partition(": ")[2].strip()
    return origin.to_string().strip()


def _names_of(error: type[Exception]) -> Iterator[str]:
    """Yield the names of an exception class and of all classes derived from it."""
    yield error.__name__
    for derived in error.__subclasses__():
        yield from _names_of(derived)


def _check_text(check: dg.AssetCheckEvaluation) -> str:
    if check.passed:
        verdict = "passed"
    else:
        verdict = "warn" if check.severity == dg.AssetCheckSeverity.WARN else "FAILED"
    shown = check.description or _metadata_text(check.metadata).removeprefix(": ")
    return f"check {check.check_name} {verdict}{f': {shown}' if shown else ''}"


def _metadata_text(metadata: Mapping[str, Any]) -> str:
    """Return the first few short values, `: rows 64, share 0.512`."""
    parts = []
    for name, wrapped in metadata.items():
        value = wrapped.value
        if name.startswith("dagster/") and name != "dagster/row_count":
            continue
        if isinstance(value, float) and math.isfinite(value):
            value = f"{value:.4g}"
        if not isinstance(wrapped, _SHORT_METADATA):
            continue
        if len(str(value)) <= _LONGEST_METADATA and "\n" not in str(value):
            parts.append(f"{name.removeprefix('dagster/').replace('_', ' ')} {value}")
    return f": {', '.join(parts[:_SHOWN_METADATA])}" if parts else ""


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
