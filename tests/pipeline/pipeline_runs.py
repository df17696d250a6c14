"""The smallest run of the whole lineage, in this process or on the command line."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.systems import SYSTEMS

CHECKOUT = Path(__file__).parents[2]
SETTINGS = {
    "corpus": {"format": "almanac", "almanac": {"documents": 12}},
    "backbone": {"threads": 1, "tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
    "separated": {
        "slots": 4,
        "width": 32,
        "key_width": 8,
    },
    "skill": {
        "start": "scratch",
        "steps": 4,
        "languages": ["en"],
        "documents": 4,
        "save_every": 2,
    },
    "writing": {"steps": 3, "queries": 2},
    "joint": {"slots": 3, "width": 24, "steps": 8, "batch_size": 4},
    "decoding": {"routed_documents": 2, "max_new_tokens": 8},
    "evaluation": {"systems": list(SYSTEMS), "limit_questions": 12, "bootstrap_samples": 50},
    "answers": {"reader": "offline", "curve_budgets": [64]},
}


def config(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """A run configuration: the tiny settings, with the given fields of some sections changed."""
    settings = copy.deepcopy(SETTINGS)
    for name, fields in sections.items():
        settings[name] = {**settings.get(name, {}), **fields}
    return {"loggers": {"console": {}}, "resources": {"settings": {"config": settings}}}


def rows_of(checkpoint: Checkpoint) -> dict[str, dict[str, bytes]]:
    """What a written memory holds of each document, by its id: the very bytes."""
    tables = checkpoint.separated.held.tables.items()
    return {
        document.id: {
            name: tensor.numpy().tobytes()
            for table_name, table in tables
            for name, tensor in table.select([row]).stored(table_name).items()
        }
        for row, document in enumerate(checkpoint.documents)
    }


def native_corpus(folder: Path) -> Path:
    """Write a corpus of 16 documents with questions, in the native format, and return its folder."""
    corpus = generate_almanac(n_documents=16, language="en", seed=5)
    rows = [{"id": d.id, "title": d.title, "text": d.text} for d in corpus.documents]
    asked = [
        {"id": q.id, "question": q.question, "golden_answers": list(q.golden_answers), "doc_ids": list(q.document_ids)}
        for q in corpus.questions
        if q.document_ids
    ]
    folder.mkdir()
    for name, items in (("corpus.jsonl", rows), ("questions.jsonl", asked)):
        (folder / name).write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return folder


def with_small_skills(patch: pytest.MonkeyPatch) -> None:
    """Let skills be calibrated on a handful of documents in this process: seconds instead of a minute."""
    for name, number in (("_DOCUMENTS", 8), ("_OUTSIDE", 2), ("_QUESTIONS", 2)):
        patch.setattr(f"zrag_core.model.training.calibration.{name}", number)


def execute(job: str, data: Path, *, run_config: dict[str, Any] | None = None, **options: Any):
    """Run a job in this process on the data folder `data`; `options` go to `execute_in_process`."""
    from zrag_pipeline.definitions import defs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZRAG_DATA_DIR", str(data))
        with_small_skills(patch)
        return defs.resolve_job_def(job).execute_in_process(run_config=run_config or config(), **options)


def command_line(job: str, folder: Path, run_config: dict[str, Any], **environment: str) -> tuple[list[str], dict]:
    """What `dagster job execute` is called with: command and environment; its home is below `folder`."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((CHECKOUT / "dagster_home" / "dagster.yaml").read_text("utf-8"), "utf-8")
    file = folder / f"{job}.yaml"
    file.write_text(yaml.safe_dump(run_config, allow_unicode=True), "utf-8")
    arguments = ["-m", "zrag_pipeline.definitions", "-j", job, "-c", str(file)]
    variables = {"DAGSTER_HOME": str(home), "ZRAG_DATA_DIR": str(folder / "data"), "PYTHONWARNINGS": "ignore"}
    return [sys.executable, "-m", "dagster", "job", "execute", *arguments], os.environ | variables | environment


def run_command(job: str, folder: Path, run_config: dict[str, Any], *, before_exec: Any = None, **environment: str):
    """Run a job by `dagster job execute` on the data folder `folder/data`; return exit code and terminal text."""
    command, variables = command_line(job, folder, run_config, **environment)
    result = subprocess.run(
        command,
        env=variables,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        preexec_fn=before_exec,
    )
    return result.returncode, result.stdout


@dataclass(frozen=True)
class Lineage:
    """One finished run of the job `full`.

    Attributes:
        data: the data folder; tests that change it take the fixture `own_lineage`.
        result: Dagster's result of the run, where this process made it.
    """

    data: Path
    result: dg.ExecuteInProcessResult

    @property
    def run_id(self) -> str:
        return self.result.run_id
