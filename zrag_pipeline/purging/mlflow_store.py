"""MLflow: text in runs, traces and data sets, artifacts, and registered versions whose checkpoint is gone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from zrag_pipeline.platform import paths
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.patterns import Patterns
from zrag_pipeline.purging.redaction import redact


def purge_mlflow(patterns: Patterns) -> list[Erasure]:
    """Cut the document out of the database and the artifacts, and unregister models without a folder.

    Raises:
        ZragError: the database is in use.
    """
    erased = [redact("MLflow files", patterns, folders=[paths.mlartifacts_dir()])]
    database = paths.data_path() / paths.MLFLOW
    if database.exists():
        versions = _unregister()
        counts = redact("MLflow", patterns, databases=[database]).counts
        erased.append(Erasure("MLflow", {"versions of models": versions, **counts}))
    return erased


def _unregister() -> int:
    """Delete registered versions whose checkpoint folder on this machine no longer exists; returns how many."""
    from zrag_pipeline.platform.tracking import Tracking

    client = Tracking(paths.data_path()).client
    deleted = 0
    for version in client.search_model_versions(max_results=10_000):
        source = urlparse(version.source)
        if source.scheme == "file" and not Path(unquote(source.path)).exists():
            client.delete_model_version(version.name, version.version)
            deleted += 1
    return deleted
