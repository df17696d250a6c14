"""The systems of a run: what they are made from, held against the present corpus, and what tells them apart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CheckpointError
from zrag_core.settings import Settings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec, indexes_read, system_spec
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import IndexHandle, MemoryHandle, Params, refuse_other_questions


@dataclass(frozen=True)
class Artefacts:
    """What the assets before left behind.

    Attributes:
        memories: by policy.
        indexes: by kind (bm25, dense).
    """

    memories: Mapping[str, MemoryHandle]
    indexes: Mapping[str, IndexHandle]

    @property
    def checkpoint_ids(self) -> dict[str, str | None]:
        """Return the checkpoints' ids by policy; None where there is none."""
        return {policy: memory.checkpoint_id for policy, memory in self.memories.items()}


def system_inputs(
    settings: Settings,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    artefacts: Artefacts,
    ledger: SpendingLedger,
    environ: Mapping[str, str] = os.environ,
) -> SystemInputs:
    """What the configured systems are made from.

    Raises:
        CheckpointError: an artefact that they read is missing, or was made from another corpus version or under other
            questions.
    """
    specs = [system_spec(name, settings) for name in settings.evaluation.systems]
    version = corpus_version(corpus.documents)
    read = {str(spec.policy): artefacts.memories[spec.policy] for spec in specs if spec.policy is not None}
    kinds = sorted(indexes_read(settings))
    made: dict[str, MemoryHandle | IndexHandle] = {
        **{f"checkpoint of policy {policy}": memory for policy, memory in read.items()},
        **{f"{kind} index": artefacts.indexes[kind] for kind in kinds},
    }
    for what, handle in made.items():
        if handle.corpus_version != version:
            raise CheckpointError(
                f"the {what} was made from corpus {handle.corpus_version}, the corpus is now {version}",
                remedy="run the job `full` with the same configuration, or materialise what is stale",
            )
    checkpoints = {}
    for policy, memory in read.items():
        refuse_other_questions(corpus, memory, f"checkpoint of policy {policy}")
        if memory.checkpoint is None:
            raise CheckpointError(
                f"there is no checkpoint of policy {policy}, which a system of this run reads",
                where="evaluation.systems",
                remedy="run the job `full` with this configuration (and memory.policy separated for zrag); "
                "`update_memory` leaves the policy joint out",
            )
        checkpoints[policy] = memory.checkpoint.folder
    folders = {kind: _index_folders(kind, artefacts.indexes[kind]) for kind in kinds}
    folder, cache = paths.memorag_dir(), paths.answer_cache_file()
    return SystemInputs(settings, corpus, targets, checkpoints, folders, folder, cache, ledger, environ)


def _index_folders(kind: str, index: IndexHandle) -> Mapping[str, Path]:
    if index.left_out:
        raise CheckpointError(
            f"there is no {kind} index, which a system of this run reads ({index.left_out})",
            where="evaluation.systems",
            remedy="run the job `evaluate` or `full` with this configuration",
        )
    return index.folders


def system_params(settings: Settings, artefacts: Artefacts) -> dict[str, Params]:
    """What tells each system from the others, as its artefacts were made (not as the settings are now)."""
    return {name: _params(system_spec(name, settings), settings, artefacts) for name in settings.evaluation.systems}


def _params(spec: SystemSpec, settings: Settings, artefacts: Artefacts) -> Params:
    params: Params = {}
    if spec.policy is not None:
        memory = artefacts.memories[spec.policy]
        decode = "constrained" if spec.evidence == "sentences" else "free"
        own = {"checkpoint_id": memory.checkpoint_id, "k": settings.decoding.routed_documents, "decode": decode}
        params |= {**memory.params, **own}
    for index in spec.indexes:
        params |= artefacts.indexes[index].params
    for path in spec.settings:
        section, _, name = path.partition(".")
        params[name] = getattr(getattr(settings, section), name)
    return params | spec.params
