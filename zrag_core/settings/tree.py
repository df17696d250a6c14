"""All settings of a run."""

from __future__ import annotations

from pydantic import model_validator

from zrag_core.settings.answers import AnswerSettings
from zrag_core.settings.backbone import BackboneSettings
from zrag_core.settings.baselines import BaselineSettings
from zrag_core.settings.benchmark import BenchmarkSettings
from zrag_core.settings.codec import CodecSettings
from zrag_core.settings.corpus import CorpusSettings
from zrag_core.settings.decoding import DecodingSettings
from zrag_core.settings.engine import EngineSettings
from zrag_core.settings.evaluation import EvaluationSettings
from zrag_core.settings.joint import JointSettings
from zrag_core.settings.memorag import MemoragSettings
from zrag_core.settings.policy import MemorySettings
from zrag_core.settings.section import Section
from zrag_core.settings.separated import SeparatedSettings
from zrag_core.settings.skill import SkillSettings
from zrag_core.settings.targets import TargetSettings
from zrag_core.settings.updates import UpdateSettings
from zrag_core.settings.writing import WritingSettings


class Settings(Section):
    """All settings of one run."""

    corpus: CorpusSettings = CorpusSettings()
    targets: TargetSettings = TargetSettings()
    backbone: BackboneSettings = BackboneSettings()
    memory: MemorySettings = MemorySettings()
    separated: SeparatedSettings = SeparatedSettings()
    codec: CodecSettings = CodecSettings()
    skill: SkillSettings = SkillSettings()
    writing: WritingSettings = WritingSettings()
    joint: JointSettings = JointSettings()
    decoding: DecodingSettings = DecodingSettings()
    baselines: BaselineSettings = BaselineSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    answers: AnswerSettings = AnswerSettings()
    memorag: MemoragSettings = MemoragSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    updates: UpdateSettings = UpdateSettings()
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _answers_a_measured_budget(self) -> Settings:
        if self.answers.budget not in self.evaluation.budgets:
            raise ValueError(f"answers.budget {self.answers.budget} is not one of evaluation.budgets")
        if unmeasured := [budget for budget in self.answers.curve_budgets if budget not in self.evaluation.budgets]:
            raise ValueError(f"answers.curve_budgets: {unmeasured[0]} is not one of evaluation.budgets")
        return self
