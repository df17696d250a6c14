"""MLflow tracking: one run per materialisation, child runs for the systems it compares.

Runs live in an SQLite store in the data folder, artifacts beside it. The client is used directly,
not MLflow's global "active run", so that code in other threads never logs into the wrong run.
MLflow is imported on first use (it takes a second).
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.file_lock import locked
from zrag_pipeline.platform.mlflow_links import ui_url
from zrag_pipeline.platform.provenance import ZRAG_VERSION, git_sha

if TYPE_CHECKING:
    import pandas
    from mlflow import MlflowClient

EXPERIMENT = "zrag"
# MLflow's own limits (mlflow.utils.validation).
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_DIGEST_LENGTH = 36
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000


class Tracking:
    """The MLflow experiment "zrag" in the data folder.

    Args:
        data_dir: folder of `mlflow.db` and `mlartifacts/`; both are created on first use.
    """

    def __init__(self, data_dir: str | os.PathLike[str]):
        self.data_dir = Path(data_dir).absolute()

    @property
    def uri(self) -> str:
        """The store's URI, as `mlflow server --backend-store-uri` takes it."""
        return f"sqlite:///{self.data_dir / paths.MLFLOW}"

    @functools.cached_property
    def client(self) -> MlflowClient:
        """An MLflow client for this store and its model registry; creates the store if need be."""
        # Neither the pipeline's nor MLflow's own usage data leaves the machine unless asked to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with self.locked():
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @functools.cached_property
    def experiment_id(self) -> str:
        """The experiment's id; creates the experiment where it does not exist yet."""
        client = self.client
        with self.locked():
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                location = (self.data_dir / "mlartifacts").as_uri()
                return client.create_experiment(EXPERIMENT, artifact_location=location)
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id

    def run(
        self,
        name: str,
        *,
        asset: str,
        context_tags: Mapping[str, str | None] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> AbstractContextManager[TrackedRun]:
        """Track one materialisation.

        Args:
            name: the run's name in the UI.
            asset: the asset's key.
            context_tags: tags that lead back to the Dagster run, see `dagster_tags`.
            params: settings, nested as they are.

        The run ends FINISHED, FAILED when the block raises, KILLED when it is interrupted; what
        was raised goes on.
        """
        return self._start(name, {"dagster.asset": asset, **(context_tags or {})}, params)

    def child(
        self,
        parent: TrackedRun,
        name: str,
        *,
        context_tags: Mapping[str, str | None] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> AbstractContextManager[TrackedRun]:
        """Track a part of `parent` (one system, for instance) as a run of its own below it."""
        tags = {**parent.context_tags, **(context_tags or {}), "mlflow.parentRunId": parent.run_id}
        return self._start(name, tags, params)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out: MLflow does not guard the creation of its tables itself."""
        return locked(self.data_dir / ".mlflow.lock")

    @contextlib.contextmanager
    def _start(
        self, name: str, context_tags: Mapping[str, str | None], params: Mapping[str, Any] | None
    ) -> Iterator[TrackedRun]:
        sha = git_sha()
        tags = {
            **context_tags,
            "zrag.git_sha": sha,
            "zrag.version": ZRAG_VERSION,
            "mlflow.source.name": context_tags.get("dagster.asset"),
            "mlflow.source.type": "JOB",
            "mlflow.source.git.commit": sha and sha.removesuffix("-dirty"),
        }
        given = {key: str(value)[:MAX_TAG_LENGTH] for key, value in tags.items() if value is not None}
        info = self.client.create_run(self.experiment_id, tags=given, run_name=name).info
        run = TrackedRun(self.client, info.experiment_id, info.run_id, context_tags)
        status = "FINISHED"
        try:
            if params:
                run.log_params(params)
            yield run
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            raise
        finally:
            self.client.set_terminated(run.run_id, status)


class TrackedRun:
    """One MLflow run that is under way.

    Attributes:
        run_id: MLflow's id of the run.
        context_tags: the tags that child runs take over.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, run_id: str, context_tags: Mapping[str, str | None]):
        self._client = client
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.context_tags = dict(context_tags)

    @property
    def url(self) -> str:
        """The run's page in the MLflow UI (`$ZRAG_MLFLOW_URL`, or where `make ui` serves it)."""
        return f"{ui_url()}/experiments/{self.experiment_id}/runs/{self.run_id}"

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set tags that were not known when the run began; child runs take them over, None is left out."""
        for name, value in tags.items():
            if value is not None:
                self._client.set_tag(self.run_id, name, str(value)[:MAX_TAG_LENGTH])
        self.context_tags.update(tags)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; nested mappings become dotted names, long values are cut."""
        from mlflow.entities import Param

        flat = [Param(name, _shorten(value)) for name, value in _flatten(params)]
        for start in range(0, len(flat), _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=flat[start : start + _PARAMS_PER_BATCH])

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Log numbers, at `step` for curves; None and NaN are left out, `recall@1` becomes `recall_at_1`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = [
            Metric(_metric_name(name), float(value), now, step or 0)
            for name, value in metrics.items()
            if value is not None and not math.isnan(value)
        ]
        for start in range(0, len(numbers), _METRICS_PER_BATCH):
            self._client.log_batch(self.run_id, metrics=numbers[start : start + _METRICS_PER_BATCH])

    def log_table(self, frame: pandas.DataFrame, name: str) -> None:
        """Log a table that the UI shows and compares across runs, as `<name>.json`."""
        self._client.log_table(self.run_id, frame, f"{name}.json")

    def log_figure(self, png: bytes, name: str) -> None:
        """Log a plot, as `<name>.png`; `name` may contain folders."""
        folder, _, file = name.removesuffix(".png").rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, f"{file}.png")
            path.write_bytes(png)
            self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_text(self, text: str, name: str) -> None:
        """Log text under the file name `name` (with its ending: `leaderboard.md`)."""
        self._client.log_text(self.run_id, text, name)

    def log_dataset(
        self, name: str, digest: str, profile: Mapping[str, Any], *, source: str, context: str | None = None
    ) -> None:
        """Log what the run read.

        Args:
            name: the corpus' short name.
            digest: its version (MLflow keeps the first 36 characters).
            profile: counts and other facts, shown in the UI.
            source: where it came from (a path, a URL, `almanac`).
            context: what it was used for: "training", "evaluation".
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:MAX_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}, ensure_ascii=False),
            profile=json.dumps(dict(profile), ensure_ascii=False),
        )
        tags = [InputTag("mlflow.data.context", context)] if context else []
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags)])


def dagster_tags(context: Any, corpus_version: str | None = None) -> dict[str, str | None]:
    """Return the tags that lead from an MLflow run back to its Dagster run.

    Args:
        context: an asset's execution context.
        corpus_version: the corpus version that is worked on, if there is one.
    """
    return {
        "dagster.run_id": context.run.run_id,
        "dagster.job": context.run.job_name,
        "zrag.corpus_version": corpus_version,
    }


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            yield f"{prefix}{name}", value
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)


def _shorten(value: str) -> str:
    return value if len(value) <= MAX_PARAM_LENGTH else f"{value[: MAX_PARAM_LENGTH - 3]}..."


def _metric_name(name: str) -> str:
    """Make a name that MLflow takes: letters, digits, `_-. :/`, and a plain relative path."""
    cleaned = re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
    return re.sub(r"/+", "/", cleaned).strip("/")
