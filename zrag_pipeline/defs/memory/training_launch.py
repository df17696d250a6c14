"""Where a job is trained: in the process of the run, or in several of its own by `accelerate launch`, which is started
and followed through Dagster Pipes.

The processes belong to no process group of the run, so that whoever kills them kills nothing else; what they report
comes here while they train. They end with the run that waits for them, however that ends.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster_pipes import PipesParams

from zrag_core.errors import SettingsError, TrainingError
from zrag_core.files import write_json_atomic
from zrag_core.model.training.progress import Progress
from zrag_core.settings import Settings
from zrag_pipeline.defs.corpus.preflight import process_problems
from zrag_pipeline.defs.memory import process_leader, process_member
from zrag_pipeline.defs.memory.process_member import (
    ERROR,
    JOB,
    LOCK,
    OUTPUT,
    PROGRESS,
    RESULT,
    RESUMED,
    ended_early,
)
from zrag_pipeline.defs.memory.training_job import TrainingJob
from zrag_pipeline.defs.memory.training_log import TrainingLog
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.file_lock import locked


def train_job(job: TrainingJob, progress: TrainingLog, context: dg.AssetExecutionContext) -> dict[str, Any]:
    """Do a job, in this process or in those that it is to have, and return what it says of its result.

    Raises:
        SettingsError: it cannot have them.
        TrainingError: they ended early; what they had saved is where the next run goes on.
    """
    if job.processes:
        return _in_processes(job, progress, context)
    made = job.train(progress.hooks, progress.log)
    assert made is not None  # this process is the main one
    return made


def refuse_processes(settings: Settings) -> None:
    """Refuse settings of processes that cannot be.

    Raises:
        SettingsError: there are fewer GPUs, or this training has no processes of its own.
    """
    for problem in process_problems(settings):
        raise SettingsError(problem)


def _in_processes(job: TrainingJob, progress: TrainingLog, context: dg.AssetExecutionContext) -> dict[str, Any]:
    refuse_processes(job.settings)
    folder = paths.checkpoints_dir() / ".training" / f"processes-{context.run.run_id}-{job.kind}"
    write_json_atomic(folder / JOB, {"kind": job.kind, "points": progress.points, **job.values()})
    n, messages = job.processes, _Messages(progress)
    threads = max(1, job.settings.backbone.cpu_threads // n)
    client = dg.PipesSubprocessClient(env={"OMP_NUM_THREADS": str(threads)}, message_reader=messages)
    context.log.info(f"training in {n} process{'es' if n > 1 else ''} of its own; output: {folder / OUTPUT}")
    try:
        with locked(folder / LOCK):
            client.run(context=context, command=_command(n, threads, folder))
    except DagsterPipesExecutionError as error:
        if messages.error is not None:
            raise TrainingError(messages.error) from error
        code = str(error).rpartition(" ")[2]
        how = f"by {signal.Signals(-int(code)).name}" if code.startswith("-") else f"with code {code}"
        raise ended_early(f"the training processes ended early, {how}", folder) from error
    made: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    return made


def _command(n: int, threads: int, folder: Path) -> list[str]:
    # With `--cpu` accelerate starts one process, however many are asked for. `--multi_gpu` starts them all, on GPUs or
    # not; each says itself where it works.
    several = ["--multi_gpu", "--main_process_port", "0"] if n > 1 else []
    launch = ["--num_processes", str(n), "--num_machines", "1", *several, "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)]
    python = [sys.executable, "-m"]
    leader = [*python, process_leader.__name__, str(folder / OUTPUT)]
    return [*leader, *python, "accelerate.commands.launch", *launch, "-m", process_member.__name__, str(folder)]


class _Messages(dg.PipesTempFileMessageReader):
    """Takes what the main process reports, while it trains: Dagster's own reader keeps such messages to the end.

    Attributes:
        error: why the main process gave up, as it says; None where it does not.
    """

    def __init__(self, progress: TrainingLog):
        super().__init__()
        self.error: str | None = None
        self._progress = progress

    @property
    def expected_writer_count(self) -> int:
        """One process reports; Dagster's own property says so too, with a warning that it is new."""
        return 1

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[PipesParams]:
        """Read messages until the processes have ended; `handler` gets them all."""
        handed_on: Any = _Handler(handler, self)
        with super().read_messages(handed_on) as params:
            yield params

    def take(self, message: Mapping[str, Any]) -> None:
        """Act on one message: {what it is: what it says}."""
        if PROGRESS in message:
            self._progress.on_progress(Progress(**message[PROGRESS]))
        elif RESUMED in message:
            self._progress.on_resume(message[RESUMED])
        else:
            self.error = message[ERROR]


class _Handler:
    """Dagster's handler of messages, and the messages of our own to the one who takes them."""

    def __init__(self, handler: Any, messages: _Messages):
        self._handler, self._messages = handler, messages

    def handle_message(self, message: Mapping[str, Any]) -> None:
        self._handler.handle_message(message)
        if message["method"] == "report_custom_message":
            self._messages.take(message["params"]["payload"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)
