"""Every setting of a run, typed; one tree for the command line, the YAML files and the Dagster UI.

`load_settings` checks a nested mapping and reports every problem at once, each naming its field,
what is wrong and, for an unknown field, the nearest known one. Defaults are those of `make demo`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zrag_core.corpus_formats import FORMATS
from zrag_core.errors import ProblemList, SettingsError, ZragError

System = Literal[
    "zrag",
    "zrag_free",
    "zrag_joint",
    "zrag_joint_free",
    "zrag_hybrid",
    "zrag_full_prefix",
    "memorag",
    "bm25",
    "bm25_sentence",
    "dense",
    "hybrid",
    "closed_book",
    "gold_evidence",
]
EvaluatedSplit = Literal["train", "dev", "test", "new_documents", "unanswerable"]
QuestionType = Literal["single", "two_hop", "vague"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0.0)]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# People paste keys and passwords here; what they typed is not repeated to terminals and logs.
_NEVER_SHOWN = frozenset(
    f"{section}.{field}" for section in ("answers", "answers.judge") for field in ("api_key_env", "base_url")
)


class Section(BaseModel):
    """Base of every settings section: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AlmanacSettings(Section):
    """The built-in generator of fictional documents."""

    documents: Positive = Field(64, description="how many documents to generate")
    language: Literal["en", "ko"] = Field("en", description="language of documents and questions")
    seed: int = Field(0, description="another seed is another world")


class HuggingFaceSettings(Section):
    """How the columns of a Hugging Face dataset map to documents and questions."""

    subset: str | None = Field(None, description="dataset configuration name")
    split: str = Field("validation", description="dataset split to read")
    text: str = Field("context", description="column with the passage")
    title: str | None = Field("title", description="column with the title, if any")
    question: str | None = Field("question", description="column with the question, if any")
    answers: str | None = Field("answers", description="column with the answers (SQuAD style or a list), if any")


class SplitSettings(Section):
    """Shares of the facts (never of single questions) that are held out."""

    dev: Share = Field(0.1, description="share of facts for tuning and calibration")
    test: Share = Field(0.3, description="share of facts that are only ever evaluated")

    @model_validator(mode="after")
    def _leaves_training_facts(self) -> SplitSettings:
        if self.dev + self.test >= 1.0:
            raise ValueError("dev + test must be below 1 so that some facts are left to train on")
        return self


def from_environment(value: Any) -> Any:
    """The value of an environment variable where `value` is {env: NAME}; else `value`.

    Raises:
        ValueError: no such variable.
    """
    if isinstance(value, Mapping) and set(value) == {"env"}:
        name = value["env"]
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ValueError("env takes the name of an environment variable, as in {env: ZRAG_CORPUS}")
        if not os.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set; export {name}=/path/to/corpus")
        return os.environ[name]
    return value


class CorpusSettings(Section):
    """Where documents and questions come from."""

    format: str = Field(
        "almanac", description="`auto` recognises what `location` holds", json_schema_extra={"enum": [*FORMATS]}
    )
    location: str | None = Field(
        None,
        description="folder, file or Hugging Face dataset name; {env: NAME} reads an environment variable",
    )
    name: str | None = Field(
        None,
        description="what to call the corpus, and what keeps its changes by command apart; from `location` if left out",
    )
    limit_documents: Positive | None = Field(None, description="keep this many documents (a fixed sample)")
    limit_questions: Positive | None = Field(None, description="keep this many questions (a fixed sample)")
    passage_tokens: Positive = Field(
        384, description="documents longer than this many evidence tokens (UTF-8 bytes / 4) become passages"
    )
    seed: int = Field(0, description="seed of samples and splits")
    splits: SplitSettings = SplitSettings()
    almanac: AlmanacSettings = AlmanacSettings()
    huggingface: HuggingFaceSettings = HuggingFaceSettings()

    @field_validator("format")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        try:
            return FORMATS[value].name
        except ZragError as error:
            raise ValueError(str(error)) from None

    @field_validator("location", mode="before")
    @classmethod
    def _from_environment(cls, value: Any) -> Any:
        return from_environment(value)

    @model_validator(mode="after")
    def _has_location(self) -> CorpusSettings:
        if FORMATS[self.format].summary and not self.location:
            raise ValueError(f"format '{self.format}' needs a location (a path or a dataset name)")
        return self


class TargetSettings(Section):
    """How evidence targets are made beside gold evidence and answer sentences."""

    self_study_per_sentence: Annotated[int, Field(ge=0)] = Field(
        2, description="self-study queries (title + words of the sentence) for each sentence"
    )
    llm_questions_per_document: Annotated[int, Field(ge=0)] = Field(
        0, description="questions written by the answering model, kept if they lead back to their document"
    )


class LoraSettings(Section):
    """The adapter theta of a pretrained backbone (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Positive = Field(32, description="rank r")
    alpha: Positive = Field(64, description="scale alpha")
    dropout: Share = Field(0.05, description="dropout on the adapter's input")
    target_modules: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), description="adapted layers")


class TinySettings(Section):
    """Architecture of the embedded backbone (a small Qwen3)."""

    hidden_size: Positive = Field(128, description="width of the hidden states")
    layers: Positive = Field(4, description="transformer layers")
    heads: Positive = Field(4, description="attention heads; half as many key/value heads")
    vocabulary: Positive = Field(2048, description="byte-level BPE tokens, learned from the corpus")


class BackboneSettings(Section):
    """The local causal LLM."""

    name: str = Field("zrag-tiny", description="`zrag-tiny`, or a Hugging Face name or local path of a causal LM")
    quantization: Literal["none", "nf4"] = Field("none", description="nf4: 4-bit weights by bitsandbytes (QLoRA)")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on GPU, else float32")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    lora: LoraSettings = LoraSettings()
    tiny: TinySettings = TinySettings()


class MemorySettings(Section):
    """The memory Z [documents, slots, width] and its routing keys."""

    policy: Literal["separated", "joint"] = Field(
        "separated",
        description="separated: theta learns the skill on other documents and Z alone holds the corpus; "
        "joint: theta and Z are trained together on the corpus",
    )
    slots: Positive = Field(80, description="m: vectors per document")
    width: Positive = Field(128, description="d: numbers per vector")
    joint_slots: Positive = Field(4, description="m of the memory zrag_joint that is trained beside a separated one")
    joint_width: Positive = Field(256, description="d of that memory")
    stride: Positive = Field(3, description="separated: tokens of the document per slot, at least")
    window: Positive = Field(
        1024, description="separated: tokens that are read at once in writing; longer documents are read in passages"
    )
    key_width: Positive = Field(64, description="separated: numbers of a slot's routing key (made from the slot)")
    title_width: Positive = Field(1024, description="separated: numbers of the lexical key of the title")
    text_width: Positive = Field(1024, description="separated: numbers of the lexical key of the text")

    def joint(self) -> MemorySettings:
        """The shape of the memory that is trained together with theta: this one, or one that stands beside it."""
        if self.policy == "joint":
            return self
        return self.model_copy(update={"policy": "joint", "slots": self.joint_slots, "width": self.joint_width})

    @model_validator(mode="after")
    def _leaves_room_to_refine(self) -> MemorySettings:
        # Refinement moves a slot in directions that its key does not see; a wide key leaves none.
        if self.policy == "separated" and self.key_width >= self.width:
            raise ValueError(f"key_width {self.key_width} must be below width {self.width}, or nothing can be refined")
        return self


class SkillSettings(Section):
    """Skill training: theta learns to write, route and read on documents that are thrown away."""

    start: Literal["auto", "scratch"] = Field(
        "auto", description="auto: from the shipped skill, where the backbone has one; scratch: from random weights"
    )
    steps: Annotated[int, Field(ge=0)] = Field(
        0, description="optimiser steps; 0 takes the skill as it is shipped (with a corpus: only calibrates it there)"
    )
    languages: tuple[Literal["en", "ko"], ...] = Field(
        ("en", "ko"), min_length=1, description="languages of the generated skill documents"
    )
    corpus: str | None = Field(
        None,
        description="corpus to learn from instead of generated documents, in any format that is read; never the "
        "memory's own",
    )
    documents: Positive = Field(32, description="documents written in a step")
    questions: Positive = Field(3, description="questions read for each of them")
    level_loss: Rate = Field(0.9, description="evidence loss below which slots get a token fuller, up to the stride")
    unanswerable_share: Share = Field(
        1.0, description="chance of each question without an answer, and of one about another document, to be asked"
    )
    query_mask: Share = Field(0.3, description="most of a query's tokens that are masked where a span is to be found")
    absent_share: Share = Field(0.1, description="questions about documents not in memory, per document in memory")
    renamed_share: Share = Field(
        0.6, description="documents in which some tokens are replaced by random ones, question and evidence alike"
    )
    finding_weight: Rate = Field(1.0, description="weight of finding the sentence among the document's")
    reconstruction_weight: Rate = Field(1.0, description="weight of rebuilding sentences from their slots")
    routing_weight: Rate = Field(0.3, description="weight of the routing cross-entropy over the step's documents")
    mask_least: Share = Field(0.3, description="least share of masked tokens in rebuilding; drawn up to 1")
    lr: Rate = Field(3e-3, description="learning rate of AdamW (embeddings, heads, and all of a LoRA adapter)")
    lr_matrices: Rate = Field(5e-3, description="learning rate of Muon (weight matrices of zrag-tiny)")
    warmup: Share = Field(0.02, description="share of the steps with rising learning rate")
    decay: Share = Field(0.4, description="share of the steps, at the end, with falling learning rate")
    document_tokens: Positive = Field(256, description="longer documents are cut in skill training")
    query_tokens: Positive = Field(64, description="longer queries are cut")
    evidence_tokens: Positive = Field(96, description="longer evidence is cut")
    autocast: bool = Field(False, description="matrix products in bfloat16; faster where the processor has them")
    compile: bool = Field(False, description="torch.compile; about a minute at the start, faster after it")
    seed: int = Field(0, description="same seed, settings and versions: same skill")
    save_every: Positive = Field(200, description="steps between resumable states")
    threads: Positive = Field(2, description="CPU threads")

    @field_validator("corpus", mode="before")
    @classmethod
    def _from_environment(cls, value: Any) -> Any:
        return from_environment(value)


class WritingSettings(Section):
    """Writing the corpus into Z, theta frozen."""

    steps: Annotated[int, Field(ge=0)] = Field(60, description="gradient steps on a document's slots, at most; 0: none")
    lr: Rate = Field(0.05, description="learning rate of the slots")
    tolerance: Rate = Field(0.03, description="a document is done when its running loss falls below this")
    queries: Positive = Field(6, description="questions read in a step, per document")
    asked_share: Share = Field(0.5, description="share of training questions among them; the others are self-study")
    batch_size: Positive = Field(32, description="documents at once")
    query_tokens: Positive = Field(64, description="longer queries are cut")
    evidence_tokens: Positive = Field(96, description="longer evidence is cut")
    seed: int = Field(0, description="of the self-study queries")
    threads: Positive = Field(2, description="CPU threads")


class TrainingSettings(Section):
    """Optimisation of the joint policy."""

    steps: Positive | None = Field(600, description="optimiser steps; leave out to count in epochs")
    epochs: Positive | None = Field(None, description="passes over the training targets, if `steps` is left out")
    batch_size: Positive = Field(32, description="queries per micro-batch")
    gradient_accumulation: Positive = Field(1, description="micro-batches per optimiser step")
    lr_theta: Rate = Field(2e-3, description="learning rate of the backbone or its adapter")
    lr_memory: Rate = Field(1e-2, description="learning rate of Z")
    lr_projections: Rate = Field(2e-3, description="learning rate of projections and router heads")
    warmup: Share = Field(0.1, description="share of the steps with rising learning rate; cosine decay after it")
    query_tokens: Positive = Field(128, description="longer queries are cut (reported)")
    evidence_tokens: Positive = Field(256, description="longer targets are cut (reported)")
    self_study: Share = Field(0.5, description="share of each batch that are self-study queries")
    evidence_weight: Rate = Field(1.0, description="weight of the evidence loss; 0 trains the router alone")
    reconstruction_weight: Rate = Field(1.0, description="weight of document reconstruction, sentences shuffled")
    reconstruction_share: Share = Field(0.5, description="documents rebuilt per query of a batch (the costly part)")
    routing_weight: Rate = Field(0.5, description="weight of the routing cross-entropy over all documents")
    query_dropout: Share = Field(0.1, description="dropout on the router's query vectors")
    token_dropout: Share = Field(0.3, description="share of input tokens masked in reconstruction")
    query_mask: Share = Field(
        0.0, description="most of a query's tokens that are masked; how many, is drawn for each query"
    )
    wrong_reads: Share = Field(
        0.0,
        description="share of the queries that read another document, as a wrong routing would have it: theta then "
        "learns the facts under the query (a trap to see z_shuffle_coverage fail; not for use)",
    )
    seed: int = Field(0, description="same seed, settings and versions: same checkpoint")
    save_every: Positive = Field(200, description="steps between resumable states")
    threads: Positive = Field(2, description="CPU threads; more than there are free cores is far slower")

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs (set the other to null)")
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> TrainingSettings:
        if not (self.evidence_weight or self.reconstruction_weight or self.routing_weight):
            raise ValueError(
                "evidence_weight, reconstruction_weight and routing_weight are all 0; nothing would be learned"
            )
        return self


class DecodingSettings(Section):
    """How evidence is read from the memory."""

    routed_documents: Positive = Field(4, description="k: documents read for a query")
    steps: Literal[1, 2] = Field(
        2,
        description="separated: 2 routes once more with question and first evidence, for questions over two documents",
    )
    prior_weight: Rate = Field(
        1.0,
        description="joint: how much of a sentence's likelihood without the question is subtracted; "
        "1: mutual information (separated: fitted with the skill)",
    )
    free_spans: Positive = Field(8, description="free decoding: most spans (sentences) that are written for a question")
    max_new_tokens: Positive = Field(96, description="length of freely decoded evidence, per span")
    least_confidence: Share = Field(
        0.0, description="separated: questions answered with less confidence are refused (empty evidence); 0: none"
    )
    batch_size: Positive = Field(32, description="questions routed and freely decoded at once")


class BaselineSettings(Section):
    """The retrieval systems zRAG is measured against."""

    bm25_k1: Rate = Field(1.5, description="BM25 term saturation")
    bm25_b: Share = Field(0.75, description="BM25 length normalisation")
    dense_encoder: str = Field(
        "lsa",
        description="`lsa`, a sentence-transformers name or path, or `openai:MODEL` for OpenAI embeddings",
    )
    lsa_dimensions: Positive = Field(256, description="dimensions of the offline LSA encoder")
    rrf_k: Positive = Field(60, description="constant of reciprocal-rank fusion (Cormack et al. 2009)")


class EvaluationSettings(Section):
    """What is measured, on which questions."""

    systems: tuple[System, ...] = Field(
        (
            "zrag",
            "zrag_free",
            "bm25",
            "bm25_sentence",
            "dense",
            "hybrid",
            "memorag",
            "closed_book",
            "gold_evidence",
        ),
        min_length=1,
        description="systems, in the order of the leaderboard",
    )
    splits: tuple[EvaluatedSplit, ...] = Field(("test",), min_length=1, description="splits to evaluate")
    question_types: tuple[QuestionType, ...] = Field(
        ("single", "two_hop", "vague"), min_length=1, description="types of question to evaluate"
    )
    budgets: tuple[Positive, ...] = Field((64, 128, 256, 512), min_length=1, description="evidence tokens per question")
    limit_questions: Positive | None = Field(None, description="at most this many questions (a fixed sample)")
    bootstrap_samples: Positive = Field(1000, description="resamples of documents behind each interval")
    confidence: Annotated[float, Field(gt=0.0, le=0.99)] = Field(0.95, description="level of intervals and verdicts")
    seed: int = Field(0, description="seed of the sample and of the bootstrap")
    reference: System | None = Field(
        None,
        description="system that the others are compared with, beside zrag; left out: bm25_sentence where it is "
        "evaluated, else the first retrieval baseline",
    )

    @field_validator("systems", "splits", "question_types", "budgets")
    @classmethod
    def _named_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if repeated := [str(value) for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        return values

    @model_validator(mode="after")
    def _compares_with_what_is_evaluated(self) -> EvaluationSettings:
        if self.reference is not None and self.reference not in self.systems:
            raise ValueError(f"reference '{self.reference}' is not one of systems")
        return self


def _without_credentials(address: str | None) -> str | None:
    # Settings are logged and kept as parameters of runs.
    if address is not None and any(mark in address for mark in "@?#"):
        raise ValueError(
            "holds a user name, password or query, which would be logged (not shown here); give only "
            "https://host/path and put the key into the environment variable that api_key_env names"
        )
    return address


def _variable_name(name: str | None) -> str | None:
    if name is not None and not _VARIABLE.fullmatch(name):
        raise ValueError(
            "not the name of an environment variable (not shown, as it may be a key); export the key as "
            "OPENAI_API_KEY, say, and give that name"
        )
    return name


class JudgeSettings(Section):
    """An LLM that compares answers with the golden ones; its cost counts against `max_cost_usd` too."""

    model: str | None = Field(None, description="judges the answers at answers.budget; left out: nothing is judged")
    base_url: str | None = Field(None, description="any OpenAI-compatible server; left out: the one that answers")
    api_key_env: str | None = Field(
        None, description="environment variable that holds the judge's key; left out: that of the answers"
    )

    _address = field_validator("base_url")(_without_credentials)
    _variable = field_validator("api_key_env")(_variable_name)


class AnswerSettings(Section):
    """The answering model, and what it may spend."""

    reader: Literal["auto", "offline", "openai"] = Field(
        "auto", description="auto: openai where the key's variable is set, else the offline extractive reader"
    )
    model: str = Field("gpt-4o", description="model name sent to the server")
    temperature: Rate = Field(0.0, description="sampling temperature")
    base_url: str | None = Field(None, description="any OpenAI-compatible server; left out: api.openai.com")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    max_answer_tokens: Positive = Field(64, description="longest answer")
    budget: Positive = Field(256, description="evidence budget that is answered from")
    curve_budgets: tuple[Positive, ...] = Field(
        (), description="further evidence budgets to answer from, for F1 by evidence tokens; each costs as much again"
    )
    concurrency: Positive = Field(8, description="requests in flight at once")
    timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="seconds before a request is given up")
    max_retries: Annotated[int, Field(ge=0)] = Field(5, description="retries with exponential back-off")
    max_cost_usd: Rate = Field(5.0, description="hard spending limit of one run, in US dollars")
    limit_questions: Positive | None = Field(None, description="at most this many questions per system")
    batch: bool = Field(False, description="send everything through the Batch API: half the price, up to 24 hours")
    max_traces: Annotated[int, Field(ge=0)] = Field(
        5000, description="at most this many calls are traced in MLflow (a few milliseconds each); 0: none"
    )
    judge: JudgeSettings = JudgeSettings()

    _address = field_validator("base_url")(_without_credentials)
    _variable = field_validator("api_key_env")(_variable_name)


class MemoragSettings(Section):
    """MemoRAG: a memory model drafts an answer and gives clues, which are looked up beside the question."""

    memory: Literal["z", "summary", "kv"] = Field(
        "z",
        description="z: the separated memory Z, offline; summary: a light model (server, key and limits of `answers`) "
        "with a summary of the corpus; kv: a local model that has read the corpus, its KV cache kept on disk",
    )
    retriever: Literal["bm25", "dense", "hybrid"] = Field("bm25", description="what looks up question and clues")
    passages_per_clue: Positive = Field(3, description="passages that the question and each clue bring")
    draft_tokens: Positive = Field(160, description="summary, kv: longest draft, in the model's tokens")
    clue_tokens: Positive = Field(160, description="summary, kv: longest list of clues, in the model's tokens")
    light_model: str = Field("gpt-4o-mini", description="summary: model name sent to the server")
    light_temperature: Rate = Field(0.3, description="summary: sampling temperature")
    group_tokens: Positive = Field(3000, description="summary: evidence tokens that one summary is made of")
    summary_tokens: Positive = Field(300, description="summary: evidence tokens that a summary should have")
    page_tokens: Positive = Field(700, description="summary: evidence tokens of the page at the top")
    memory_tokens: Positive = Field(6000, description="summary: evidence tokens of memory in each prompt")
    kv_model: str | None = Field(None, description="kv: Hugging Face name or local path of a long-context causal LM")
    kv_window: Positive | None = Field(None, description="kv: tokens of context; left out: as many as the model allows")
    kv_dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="kv: auto: bfloat16 on GPU")
    kv_chunk_tokens: Positive = Field(1024, description="kv: tokens of the corpus that are read at once")
    kv_batch_size: Positive = Field(1, description="kv: questions decoded at once; each takes a copy of the cache")

    @model_validator(mode="after")
    def _names_its_model(self) -> MemoragSettings:
        if self.memory == "kv" and self.kv_model is None:
            raise ValueError("memory 'kv' needs kv_model (a Hugging Face name or a local path)")
        return self


class BenchmarkSettings(Section):
    """The jobs `benchmark_memory` and `benchmark_update`: almanacs that nothing was chosen on."""

    seeds: tuple[int, ...] = Field((311, 312, 313), min_length=1, description="almanac seeds")
    languages: tuple[Literal["en", "ko"], ...] = Field(("en", "ko"), min_length=1, description="almanac languages")
    documents: tuple[Positive, ...] = Field((64, 200), min_length=1, description="numbers of documents in memory")
    questions: Positive = Field(300, description="questions of each type per almanac, at most (a fixed sample)")
    updated: Positive = Field(50, description="documents that are added to the memory, and others removed from it")


class UpdateSettings(Section):
    """How the memory follows a corpus that changes, and when it is made afresh."""

    settle_seconds: Rate = Field(
        30.0, description="a changed corpus is acted on when nothing more has changed for this long"
    )
    retrain_share: Share = Field(
        0.3, description="share of the corpus changed since the last full run above which everything is run afresh"
    )
    least_margin_share: Share = Field(
        0.5, description="share of its value after the last full run that the routing margin may fall to"
    )
    coverage_drop: Share = Field(
        0.05, description="most that coverage on the probe questions may fall since the last full run"
    )
    non_inferiority: Share = Field(
        0.02, description="most coverage that a new champion may lose, at the lower bound of the paired difference"
    )
    old_sample: Positive = Field(
        100, description="questions about untouched documents that are asked before and after an update"
    )


class Settings(Section):
    """All settings of one run."""

    corpus: CorpusSettings = CorpusSettings()
    targets: TargetSettings = TargetSettings()
    backbone: BackboneSettings = BackboneSettings()
    memory: MemorySettings = MemorySettings()
    skill: SkillSettings = SkillSettings()
    writing: WritingSettings = WritingSettings()
    training: TrainingSettings = TrainingSettings()
    decoding: DecodingSettings = DecodingSettings()
    baselines: BaselineSettings = BaselineSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    answers: AnswerSettings = AnswerSettings()
    memorag: MemoragSettings = MemoragSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    updates: UpdateSettings = UpdateSettings()

    @model_validator(mode="after")
    def _answers_a_measured_budget(self) -> Settings:
        if self.answers.budget not in self.evaluation.budgets:
            raise ValueError(f"answers.budget {self.answers.budget} is not one of evaluation.budgets")
        if unmeasured := [budget for budget in self.answers.curve_budgets if budget not in self.evaluation.budgets]:
            raise ValueError(f"answers.curve_budgets: {unmeasured[0]} is not one of evaluation.budgets")
        return self


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Check a nested mapping (a parsed YAML file, a Dagster resource's config) and return settings.

    Raises:
        SettingsError: one problem; ProblemList: several, all of them at once.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors()]
    if len(problems) == 1:
        raise SettingsError(problems[0])
    raise ProblemList(f"{len(problems)} problems in the configuration", problems)


def _describe(item: Mapping[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    field = ".".join(location) or "configuration"
    if item["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known fields: {', '.join(known)}"
        return f"{field}: unknown field -> {hint}"
    message = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    plain = isinstance(given, str | int | float | bool | None) and field not in _NEVER_SHOWN
    shown = f" (given: {given!r})" if plain else ""
    return f"{field}: {message}{shown}"


def _fields_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for name in path:
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return list(model.model_fields)
