"""MLflow's model registry: checkpoints as versions of registered models that can be served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.packaged_model import is_packaged, package_model, set_decoding
from zrag_pipeline.platform.tracking import TrackedRun, Tracking

MODEL, JOINT_MODEL = "zrag", "zrag-joint"
"""Names of the registered models: the memory that can be updated, and that of the policy `joint`."""
ALIAS = "champion"
CHECKPOINT_TAG = "checkpoint_id"
"""Tag of a version: which checkpoint it is."""


class ModelRegistry:
    """The registered models in a tracking store."""

    def __init__(self, tracking: Tracking):
        self._tracking = tracking

    def register(self, run: TrackedRun, name: str, checkpoint: CheckpointReference) -> str:
        """Add a checkpoint as a model that can be served, and return its version.

        A checkpoint that is registered already (a repeated materialisation) keeps its version. Tags of the version are
        `checkpoint_id` and `corpus_version`.
        """
        from mlflow.exceptions import MlflowException

        client, model = self._tracking.client, self.folder(name, checkpoint.checkpoint_id)
        with self._tracking.locked():
            if not is_packaged(checkpoint.folder, model):
                package_model(checkpoint.folder, model)
            try:
                client.create_registered_model(name)
            except MlflowException:
                client.get_registered_model(name)  # it exists already; anything else is raised here
            if version := self.version(name, checkpoint.checkpoint_id):
                return version
            tags = {CHECKPOINT_TAG: checkpoint.checkpoint_id, "corpus_version": checkpoint.corpus_version}
            made = client.create_model_version(name, model.as_uri(), run.run_id, tags=tags)
        return str(made.version)

    def folder(self, name: str, checkpoint_id: str) -> Path:
        """Return where the registered model of a checkpoint lies, or would lie."""
        return self._tracking.data_dir / "mlartifacts" / "registered" / name / checkpoint_id

    def version(self, name: str, checkpoint_id: str) -> str | None:
        """Return the version of a registered model that is this checkpoint; None where there is none.

        Versions without a model to serve, which older versions of zRAG registered, do not count.
        """
        for version in self._tracking.client.search_model_versions(f"name='{name}'"):
            if version.tags.get(CHECKPOINT_TAG) == checkpoint_id:
                return str(version.version)
        return None

    def set_champion(self, checkpoint_id: str, decoding: Mapping[str, Any]) -> None:
        """Point the alias at the version of this checkpoint, and let its model read it as `zrag ask` does.

        What `zrag add` and `zrag remove` write has no version until the next run of the pipeline registers it; until
        then nobody has the alias, so that no other model answers in its name.

        Args:
            decoding: fields of the settings section `decoding`.
        """
        client, version = self._tracking.client, self.version(MODEL, checkpoint_id)
        if version is None:
            if client.search_registered_models(f"name='{MODEL}'"):
                client.delete_registered_model_alias(MODEL, ALIAS)
            return
        client.set_registered_model_alias(MODEL, ALIAS, version)
        model = self.folder(MODEL, checkpoint_id)
        if (model / "MLmodel").is_file():
            set_decoding(model, decoding)
