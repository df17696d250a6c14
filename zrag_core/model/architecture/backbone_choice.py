"""Which backbone `auto` stands for: the language of the corpus decides, and what is installed."""

from __future__ import annotations

from zrag_core.corpus.source_language import source_language
from zrag_core.model.architecture import packaged_llms
from zrag_core.settings import Settings
from zrag_core.settings.backbone import AUTO, TINY

_GENERATED = "almanac"  # what zrag-tiny was trained on


def choose_backbone(settings: Settings) -> tuple[Settings, str]:
    """The settings with a backbone in the place of `auto`, and why it was chosen ("" where it was named)."""
    if settings.backbone.name != AUTO:
        return settings, ""
    if settings.corpus.format == _GENERATED:
        name, why = TINY, "the corpus is of the kind that it was trained on"
    else:
        english = source_language(settings.corpus) == "en"
        llm, language = (packaged_llms.SMOLLM2, "English") if english else (packaged_llms.GEMMA3, "Korean")
        if llm.is_available():
            name, why = llm.name, f"the corpus is {language}"
        else:
            name, why = TINY, f"{llm.name}, which reads {language}, is not installed: {llm.install}"
    backbone = settings.backbone.model_copy(update={"name": name})
    return settings.model_copy(update={"backbone": backbone}), f"backbone {name}: {why}"


def calibration_warning(settings: Settings) -> str:
    """What to expect of a skill that was trained on texts of another kind; "" where there is nothing to say.

    Args:
        settings: with a backbone in the place of `auto`.
    """
    own = settings.memory.policy == "separated" and settings.backbone.name == TINY and settings.skill.corpus is None
    if not own or settings.corpus.format == _GENERATED:
        return ""
    return (
        f"{TINY} was trained on generated text: of documents by people it knows the words and little else, misses much "
        "and refuses too much. Take backbone.name: auto for English, or give texts of the same kind as skill.corpus"
    )
