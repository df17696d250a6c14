"""The memory model of each policy."""

from __future__ import annotations

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.joint_memory import JointMemory
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.settings import Settings


def create_memory(backbone: Backbone, settings: Settings, n_documents: int) -> MemoryModel:
    """A new model of the policy that the settings name, with `n_documents` rows of zeros."""
    if settings.memory.policy == "separated":
        return SeparatedMemory(backbone, settings.separated, n_documents)
    return JointMemory(backbone, settings.joint, n_documents)
