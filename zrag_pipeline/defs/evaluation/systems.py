"""The systems of a run, made from what the assets before left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.corpus.version import corpus_version, questions_version
from zrag_core.errors import CheckpointError
from zrag_core.evidence import EvidenceSystem
from zrag_core.settings import EvaluationSettings, Settings
from zrag_pipeline.defs.evaluation.memorag import make_memorag, memorag_params
from zrag_pipeline.platform.handles import CorpusHandle, EvidenceHandle, IndexHandle, MemoryHandle

if TYPE_CHECKING:
    from zrag_core.model.store.checkpoint import Checkpoint

_POLICIES = {
    "zrag": "separated",
    "zrag_free": "separated",
    "zrag_hybrid": "separated",
    "zrag_joint": "joint",
    "zrag_joint_free": "joint",
}


def policy_of(name: str, settings: Settings) -> str | None:
    """Policy of the checkpoint that a system reads, whose id its rows carry; None for a system that reads none."""
    if name == "zrag_full_prefix":
        return settings.memory.policy
    if name == "memorag":
        return "separated" if settings.memorag.memory == "z" else None
    return _POLICIES.get(name)


def reads_joint(settings: Settings) -> bool:
    """Whether a configured system reads the checkpoint of the policy `joint`."""
    return any(policy_of(name, settings) == "joint" for name in settings.evaluation.systems)


def refuse_other_questions(corpus: Corpus, handle: CorpusHandle | MemoryHandle | EvidenceHandle, what: str) -> None:
    """Refuse an artefact that was made under other questions or splits of the same documents.

    What one set of splits trains on, another may test; such figures would not be held out.

    Raises:
        CheckpointError: the artefact's questions version is not the corpus' present one.
    """
    if handle.questions_version != questions_version(corpus.questions):
        raise CheckpointError(
            f"the {what} was made under other questions or splits of this corpus, so nothing would be held out",
            remedy="run the job `full` with one configuration",
        )


def system_params(
    settings: Settings,
    *,
    memories: Mapping[str, MemoryHandle],
    bm25: IndexHandle,
    dense: IndexHandle,
) -> dict[str, dict[str, Any]]:
    """What tells each system from the others, as its artefacts were made (not as the settings are now)."""
    hybrid = {**bm25.params, **dense.params, "rrf_k": settings.baselines.rrf_k}
    params = {
        "bm25": bm25.params,
        "bm25_sentence": bm25.params,
        "dense": dense.params,
        "hybrid": hybrid,
        "zrag_hybrid": {**bm25.params, "rrf_k": settings.baselines.rrf_k},
        "memorag": {
            **{"bm25": bm25.params, "dense": dense.params, "hybrid": hybrid}[settings.memorag.retriever],
            **memorag_params(settings.memorag),
            "rrf_k": settings.baselines.rrf_k,
        },
    }
    names = settings.evaluation.systems
    return {name: _memory_params(name, settings, memories) | params.get(name, {}) for name in names}


def _memory_params(name: str, settings: Settings, memories: Mapping[str, MemoryHandle]) -> dict[str, Any]:
    policy = policy_of(name, settings)
    if policy is None:
        return {}
    free = name.endswith("_free") or name in ("zrag_full_prefix", "memorag")
    return {
        **memories[policy].params,
        "checkpoint_id": memories[policy].checkpoint_id,
        "k": "all" if name == "zrag_full_prefix" else settings.decoding.routed_documents,
        "decode": "free" if free else "constrained",
    }


def evaluated_questions(corpus: Corpus, settings: EvaluationSettings) -> list[Question]:
    """Questions of the evaluated splits and types, in corpus order; a fixed sample where a limit is set."""
    questions = [
        question
        for question in corpus.questions
        if question.split in settings.splits and question.question_type in settings.question_types
    ]
    if settings.limit_questions is not None and len(questions) > settings.limit_questions:
        order = hash_order((question.id for question in questions), settings.seed, "evaluation")
        kept = set(order[: settings.limit_questions])
        questions = [question for question in questions if question.id in kept]
    return questions


def make_systems(
    settings: Settings,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    *,
    memories: Mapping[str, MemoryHandle],
    bm25: IndexHandle,
    dense: IndexHandle,
    ledger: SpendingLedger,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Callable[[], EvidenceSystem]]:
    """Makers of the configured systems, in order, so that one is in memory at a time.

    Args:
        memories: handles of the checkpoints by policy.
        bm25, dense: handles of the indexes.
        ledger: holds the spending limit over all systems that ask an LLM.
        environ: where the key of that LLM is.

    Raises:
        CheckpointError: an artefact was made from another corpus version.
    """
    from zrag_core.baselines.bm25 import Bm25Index, Bm25SentenceSystem, Bm25System
    from zrag_core.baselines.dense import DenseIndex, DenseSystem
    from zrag_core.baselines.hybrid import HybridSystem
    from zrag_core.baselines.reference import ClosedBookSystem, GoldEvidenceSystem

    documents, names = corpus.documents, settings.evaluation.systems
    version = corpus_version(documents)
    used = {policy: memories[policy] for name in names if (policy := policy_of(name, settings)) is not None}
    artefacts = [(f"checkpoint of policy {policy}", handle) for policy, handle in used.items()]
    for what, handle in (*artefacts, ("BM25 index", bm25), ("dense index", dense)):
        if handle.corpus_version != version:
            raise CheckpointError(
                f"the {what} was made from corpus {handle['corpus_version']}, the corpus is now {version}",
                remedy="run the job `full` with the same configuration, or materialise what is stale",
            )
    for policy, handle in used.items():
        refuse_other_questions(corpus, handle, f"checkpoint of policy {policy}")
        if handle.checkpoint is None:
            raise CheckpointError(
                f"there is no checkpoint of policy {policy}, which a system of this run reads",
                where="evaluation.systems",
                remedy="run the job `full` with this configuration (and memory.policy separated for zrag); "
                "`update_memory` leaves the policy joint out",
            )

    def checkpoint(name: str) -> Checkpoint:
        from zrag_core.model.store.checkpoint import load_checkpoint

        return load_checkpoint(used[policy_of(name, settings)].checkpoint.folder, device=settings.backbone.device)

    def memory(name: str) -> EvidenceSystem:
        from zrag_core.model.inference.memory_system import MemorySystem
        from zrag_core.model.inference.rank_fusion import RankFusion

        loaded = checkpoint(name)
        fusion = None
        if name == "zrag_hybrid":
            fusion = RankFusion(passages(), loaded.documents, rrf_k=settings.baselines.rrf_k)
        free = name.endswith("_free")
        return MemorySystem(
            name, loaded, settings.decoding, free=free, threads=settings.training.threads, fusion=fusion
        )

    def full_prefix() -> EvidenceSystem:
        from zrag_core.model.inference.full_prefix import FullPrefixSystem

        name = "zrag_full_prefix"
        return FullPrefixSystem(name, checkpoint(name), settings.decoding, threads=settings.training.threads)

    def memorag() -> EvidenceSystem:
        loaded = checkpoint("memorag") if policy_of("memorag", settings) else None
        retriever = makers[settings.memorag.retriever]()
        return make_memorag(settings, corpus, retriever, checkpoint=loaded, ledger=ledger, environ=environ)

    def passages() -> Bm25System:
        return Bm25System(Bm25Index.load(bm25.folders["passage"]), documents)

    def vectors() -> DenseSystem:
        return DenseSystem(DenseIndex.load(dense.folders["passage"]), documents)

    by_question = {target.id: target for target in targets}
    makers: dict[str, Callable[[], EvidenceSystem]] = {
        **{name: partial(memory, name) for name in _POLICIES},
        "zrag_full_prefix": full_prefix,
        "memorag": memorag,
        "bm25": passages,
        "bm25_sentence": lambda: Bm25SentenceSystem(Bm25Index.load(bm25.folders["sentence"]), documents),
        "dense": vectors,
        "hybrid": lambda: HybridSystem([passages(), vectors()], documents, rrf_k=settings.baselines.rrf_k),
        "closed_book": ClosedBookSystem,
        "gold_evidence": lambda: GoldEvidenceSystem(by_question, documents),
    }
    return {name: makers[name] for name in names}
