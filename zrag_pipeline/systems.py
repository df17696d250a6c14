"""The systems of a run, made from what the assets before left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zrag_core.corpus.sampling import hash_order
from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.corpus.version import corpus_version, questions_version
from zrag_core.errors import CheckpointError
from zrag_core.evidence import EvidenceSystem
from zrag_core.settings import EvaluationSettings, Settings

MEMORY_OF = {"zrag": "separated", "zrag_free": "separated", "zrag_joint": "joint", "zrag_joint_free": "joint"}
"""Systems that read a checkpoint, with its policy; their rows carry its id."""


def reads_joint(settings: Settings) -> bool:
    """Whether a configured system reads the checkpoint of the policy `joint`."""
    return any(MEMORY_OF.get(name) == "joint" for name in settings.evaluation.systems)


def refuse_other_questions(corpus: Corpus, handle: Mapping[str, Any], what: str) -> None:
    """Refuse an artefact that was made under other questions or splits of the same documents.

    What one set of splits trains on, another may test; such figures would not be held out.

    Raises:
        CheckpointError: the artefact's questions version is not the corpus' present one.
    """
    if handle["questions_version"] != questions_version(corpus.questions):
        raise CheckpointError(
            f"the {what} was made under other questions or splits of this corpus, so nothing would be held out",
            remedy="run the job `full` with one configuration",
        )


def system_params(
    settings: Settings,
    *,
    memories: Mapping[str, Mapping[str, Any]],
    bm25: Mapping[str, Any],
    dense: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """What tells each system from the others, as its artefacts were made (not as the settings are now)."""
    params = {
        name: {
            **memories[policy]["params"],
            "checkpoint_id": memories[policy]["checkpoint_id"],
            "k": settings.decoding.routed_documents,
            "decode": "free" if name.endswith("_free") else "constrained",
        }
        for name, policy in MEMORY_OF.items()
    }
    params |= {
        "bm25": bm25["params"],
        "bm25_sentence": bm25["params"],
        "dense": dense["params"],
        "hybrid": {**bm25["params"], **dense["params"], "rrf_k": settings.baselines.rrf_k},
    }
    return {name: params.get(name, {}) for name in settings.evaluation.systems}


def evaluated_questions(corpus: Corpus, settings: EvaluationSettings) -> list[Question]:
    """Questions of the evaluated splits, in corpus order; a fixed sample where a limit is set."""
    questions = [question for question in corpus.questions if question.split in settings.splits]
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
    memories: Mapping[str, Mapping[str, Any]],
    bm25: Mapping[str, Any],
    dense: Mapping[str, Any],
) -> dict[str, Callable[[], EvidenceSystem]]:
    """Makers of the configured systems, in order, so that one is in memory at a time.

    Args:
        memories: handles of the checkpoints by policy.
        bm25, dense: handles of the indexes.

    Raises:
        CheckpointError: an artefact was made from another corpus version.
    """
    from zrag_core.baselines.bm25 import Bm25Index, Bm25SentenceSystem, Bm25System
    from zrag_core.baselines.dense import DenseIndex, DenseSystem
    from zrag_core.baselines.hybrid import HybridSystem
    from zrag_core.baselines.reference import ClosedBookSystem, GoldEvidenceSystem

    documents = corpus.documents
    version = corpus_version(documents)
    used = {MEMORY_OF[name]: memories[MEMORY_OF[name]] for name in settings.evaluation.systems if name in MEMORY_OF}
    artefacts = [(f"checkpoint of policy {policy}", handle) for policy, handle in used.items()]
    for what, handle in (*artefacts, ("BM25 index", bm25), ("dense index", dense)):
        if handle["corpus_version"] != version:
            raise CheckpointError(
                f"the {what} was made from corpus {handle['corpus_version']}, the corpus is now {version}",
                remedy="run the job `full` with the same configuration, or materialise what is stale",
            )

    def memory(name: str) -> EvidenceSystem:
        from zrag_core.model.checkpoint import load_checkpoint
        from zrag_core.model.system import MemorySystem

        loaded = load_checkpoint(Path(used[MEMORY_OF[name]]["folder"]), device=settings.backbone.device)
        free = name.endswith("_free")
        return MemorySystem(name, loaded, settings.decoding, free=free, threads=settings.training.threads)

    def passages() -> Bm25System:
        return Bm25System(Bm25Index.load(Path(bm25["passage"])), documents)

    def vectors() -> DenseSystem:
        return DenseSystem(DenseIndex.load(Path(dense["folder"])), documents)

    for policy, handle in used.items():
        refuse_other_questions(corpus, handle, f"checkpoint of policy {policy}")
        if handle["folder"] is None:
            raise CheckpointError(
                f"there is no checkpoint of policy {policy}, which a system of this run reads",
                where="evaluation.systems",
                remedy="run the job `full` with this configuration (and memory.policy separated for zrag)",
            )
    by_question = {target.id: target for target in targets}
    makers: dict[str, Callable[[], EvidenceSystem]] = {
        **{name: partial(memory, name) for name in MEMORY_OF},
        "bm25": passages,
        "bm25_sentence": lambda: Bm25SentenceSystem(Bm25Index.load(Path(bm25["sentence"])), documents),
        "dense": vectors,
        "hybrid": lambda: HybridSystem([passages(), vectors()], documents, rrf_k=settings.baselines.rrf_k),
        "closed_book": ClosedBookSystem,
        "gold_evidence": lambda: GoldEvidenceSystem(by_question, documents),
    }
    return {name: makers[name] for name in settings.evaluation.systems}
