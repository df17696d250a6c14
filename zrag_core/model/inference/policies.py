"""The evidence system of each policy."""

from __future__ import annotations

from zrag_core.model.architecture.separated import SeparatedMemory
from zrag_core.model.inference.joint_system import JointSystem
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.inference.rank_fusion import RankFusion
from zrag_core.model.inference.separated_system import SeparatedSystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.settings import DecodingSettings


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
    kind = SeparatedSystem if isinstance(checkpoint.model, SeparatedMemory) else JointSystem
    return kind(name, checkpoint, settings, free=free, threads=threads, fusion=fusion)
