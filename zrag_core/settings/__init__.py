"""Every setting of a run, typed: one tree for the command line, the YAML files and the Dagster UI, one file a section.

Defaults are those of `make demo`.
"""

from zrag_core.settings.answers import LOCAL_MODEL, AnswerSettings, JudgeSettings
from zrag_core.settings.backbone import BackboneSettings, LoraSettings, TinySettings
from zrag_core.settings.baselines import BaselineSettings
from zrag_core.settings.benchmark import BenchmarkSettings
from zrag_core.settings.codec import CodecSettings
from zrag_core.settings.corpus import AlmanacSettings, CorpusSettings, HuggingFaceSettings, SplitSettings
from zrag_core.settings.decoding import DecodingSettings
from zrag_core.settings.engine import EngineSettings
from zrag_core.settings.evaluation import EvaluatedSplit, EvaluationSettings, QuestionType
from zrag_core.settings.joint import JointSettings
from zrag_core.settings.load import load_settings
from zrag_core.settings.memorag import MemoragSettings
from zrag_core.settings.policy import MemorySettings
from zrag_core.settings.section import Section, from_environment
from zrag_core.settings.separated import SeparatedSettings
from zrag_core.settings.skill import SkillSettings
from zrag_core.settings.targets import TargetSettings
from zrag_core.settings.tree import Settings
from zrag_core.settings.updates import UpdateSettings
from zrag_core.settings.writing import WritingSettings

__all__ = [
    "LOCAL_MODEL",
    "AlmanacSettings",
    "AnswerSettings",
    "BackboneSettings",
    "BaselineSettings",
    "BenchmarkSettings",
    "CodecSettings",
    "CorpusSettings",
    "DecodingSettings",
    "EngineSettings",
    "EvaluatedSplit",
    "EvaluationSettings",
    "HuggingFaceSettings",
    "JointSettings",
    "JudgeSettings",
    "LoraSettings",
    "MemoragSettings",
    "MemorySettings",
    "QuestionType",
    "Section",
    "SeparatedSettings",
    "Settings",
    "SkillSettings",
    "SplitSettings",
    "TargetSettings",
    "TinySettings",
    "UpdateSettings",
    "WritingSettings",
    "from_environment",
    "load_settings",
]
