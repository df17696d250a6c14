"""MLflow: text in runs, traces and data sets, artifacts, and registered versions whose checkpoint is gone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from zrag_pipeline.platform import paths
from zrag_pipeline.purging.erased import Erased
from zrag_pipeline.purging.folders import redact_files
from zrag_pipeline.purging.patterns import Patterns
from zrag_pipeline.purging.sqlite_files import redact_database


def purge_mlflow(patterns: Patterns) -> list[Erased]:
    """Cut the document out of the database and the artifacts, and unregister models without a folder.

    Raises:
        ZragError: the database is in use.
    """
    artifacts = redact_files("MLflow files", [paths.mlartifacts_dir()], patterns)
    database = paths.data_path() / "mlflow.db"
    if not database.exists():
        return [artifacts]
    counts = {"versions of models": _unregister(), "values with text cut out": redact_database(database, patterns)}
    return [artifacts, Erased("MLflow", counts)]


def _unregister() -> int:
    """Delete registered versions whose checkpoint folder on this machine no longer exists."""
    from zrag_pipeline.platform.tracking import Tracking

    client = Tracking(paths.data_path()).client
    deleted = 0
    for version in client.search_model_versions(max_results=10_000):
        source = urlparse(version.source)
        if source.scheme == "file" and not Path(unquote(source.path)).exists():
            client.delete_model_version(version.name, version.version)
            deleted += 1
    return deleted
