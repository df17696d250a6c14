"""The evidence system of each policy."""

from __future__ import annotations

from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.inference.joint_system import JointSystem
from zrag_core.model.inference.language_system import LanguageSystem
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.inference.rank_fusion import RankFusion
from zrag_core.model.inference.separated_system import SeparatedSystem
from zrag_core.model.store.checkpoint import Checkpoint, load_checkpoint
from zrag_core.settings import DecodingSettings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import OWN_WORDS, SystemSpec, resolve


def create_system(
    name: str,
    checkpoint: Checkpoint,
    settings: DecodingSettings,
    *,
    free: bool = False,
    threads: int = 2,
    fusion: RankFusion | None = None,
) -> MemorySystem:
    """The system that reads a checkpoint as its policy does; for the arguments see `MemorySystem`."""
    kind: type[MemorySystem] = JointSystem
    if isinstance(checkpoint.model, LanguageMemory):
        kind = LanguageSystem
    elif isinstance(checkpoint.model, SeparatedMemory):
        kind = SeparatedSystem
    return kind(name, checkpoint, settings, free=free, threads=threads, fusion=fusion)


def make_memory_system(spec: SystemSpec, inputs: SystemInputs) -> MemorySystem:
    """The memory of the spec's policy; its routing is fused with BM25's ranking where the spec reads that index."""
    settings = inputs.settings
    checkpoint = load_checkpoint(inputs.checkpoints[str(spec.policy)], device=settings.backbone.device)
    fusion = None
    if "bm25" in spec.indexes:
        fusion = RankFusion(inputs.make("bm25"), checkpoint.documents, rrf_k=settings.baselines.rrf_k)
    free, threads = spec.evidence == OWN_WORDS, settings.backbone.cpu_threads
    return create_system(spec.name, checkpoint, settings.decoding, free=free, threads=threads, fusion=fusion)


def reads_memory_alone(spec: SystemSpec) -> bool:
    """Whether a checkpoint is all that a system is made from."""
    return resolve(spec.make) is make_memory_system and not spec.indexes
