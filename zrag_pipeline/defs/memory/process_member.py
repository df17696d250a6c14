"""One of the processes that do a training job together: `accelerate launch -m MODULE FOLDER`.

The folder holds the job, and gets the result. The main process reports to Dagster through Pipes.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

from zrag_core.errors import TrainingError, ZragError
from zrag_core.files import write_text_atomic
from zrag_core.model.architecture.create_backbone import resolve_device
from zrag_core.model.training.process_group import ProcessGroup, joined
from zrag_core.model.training.progress import Progress, TrainingHooks
from zrag_pipeline.defs.memory.joint_job import JointJob
from zrag_pipeline.defs.memory.skill_job import SkillJob
from zrag_pipeline.defs.memory.training_job import TrainingJob

JOB, LOCK, RESULT, OUTPUT = "job.json", "lock", "result.json", "output.log"
"""Files of the folder; the lock is held by the run for as long as it waits."""
PROGRESS, RESUMED, ERROR = "progress", "resumed_from", "error"
"""What the main process reports."""
_LAST_WORDS_S = 5.0  # the end of one process is that of all; the main one, which fails likewise, is to say why
_KINDS: dict[str, Any] = {kind.kind: kind for kind in (JointJob, SkillJob)}


def main(folder: Path) -> None:
    """Train; the exit code says whether it went well."""
    end_without(folder / LOCK)
    values = json.loads((folder / JOB).read_text(encoding="utf-8"))
    job: TrainingJob = _KINDS[values["kind"]].of(values)
    with joined(resolve_device(job.settings.backbone.device)) as group:
        if not group.is_main:
            _train_along(job, group)
            return
        with open_dagster_pipes() as pipes:
            # The parent is the launcher, which leads the group; the others end with it.
            pipes.log.info(f"processes: {group.size}, on {group.device}; kill -- -{os.getppid()} ends them")
            done = _train_and_report(job, values["points"], folder, pipes, group)
    sys.exit(0 if done else 1)


def end_without(lock: Path) -> None:
    """End this process as soon as nobody holds a lock any more: there is none left to train for."""
    file = lock.open()

    def wait() -> None:
        fcntl.flock(file, fcntl.LOCK_SH)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def ended_early(what: str, folder: Path) -> TrainingError:
    """The error of a training that came to no result."""
    remedy = "look there for more; the next run goes on from the last saved state"
    return TrainingError(what, where=str(folder / OUTPUT), remedy=remedy)


def _train_along(job: TrainingJob, group: ProcessGroup) -> None:
    """Train in one of the processes that say nothing."""
    try:
        job.train(TrainingHooks, lambda line: None, group)
    except Exception:
        time.sleep(_LAST_WORDS_S)
        raise


def _train_and_report(job: TrainingJob, points: int, folder: Path, pipes: PipesContext, group: ProcessGroup) -> bool:
    """Whether it went well; if not, Dagster is told why, and the output has the traceback."""

    def resumed(step: int) -> None:
        pipes.report_custom_message({RESUMED: step})

    def progressed(progress: Progress) -> None:
        pipes.report_custom_message({PROGRESS: asdict(progress)})

    try:
        made = job.train(lambda state: TrainingHooks(state, resumed, progressed, points), pipes.log.info, group)
        write_text_atomic(folder / RESULT, json.dumps(made))
    except Exception as error:
        traceback.print_exc()
        if not isinstance(error, ZragError):
            message = (str(error) or "no message").splitlines()[0]
            error = ended_early(f"training failed ({type(error).__name__}: {message})", folder)
        pipes.report_custom_message({ERROR: str(error)})
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
