"""The memory model of each policy."""

from __future__ import annotations

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.joint_memory import JointMemory
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.settings import Settings
from zrag_core.settings.backbone import TINY


def create_memory(backbone: Backbone, settings: Settings, n_documents: int) -> MemoryModel:
    """A new model of the policy that the settings name; of `joint` with `n_documents` rows of zeros."""
    if settings.memory.policy == "separated":
        return create_separated(backbone, settings)
    return JointMemory(backbone, settings.joint, n_documents)


def create_separated(backbone: Backbone, settings: Settings) -> SeparatedMemory:
    """A new memory of the policy `separated`: that of a pretrained LLM, or of `zrag-tiny`, whose encoder learns with
    it."""
    if backbone.source != TINY:
        return LanguageMemory(backbone, settings.separated, settings.codec)
    return SeparatedMemory(backbone, settings.separated)
