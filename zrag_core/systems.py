"""The registry of systems: every complete way from a question to evidence that is measured.

A system is one `SystemSpec` here and one function elsewhere that makes it. Nothing is imported until a system is made,
so that settings, asset definitions and reports may look things up at no cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from zrag_core.registry import Registry

Policy = Literal["separated", "joint"]
Family = Literal["memory", "memorag", "retrieval", "bound"]
EvidenceForm = Literal["sentences", "the model's own words", "passages", "nothing", "the targets"]

OWN_WORDS: EvidenceForm = "the model's own words"
MEMORY_SYSTEM = "zrag"
"""The system that speaks for the memory where one has to."""
REFERENCE_SYSTEM = "bm25_sentence"
"""The system that the others are compared with, unless the settings name another."""


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """What a system is and needs.

    Attributes:
        name: in settings, tables and on the leaderboard.
        description: what it is, in one line.
        family: systems of one family are drawn alike; a `bound` (no evidence, the target itself) is a floor or a
            ceiling and no rival. `retrieval` systems may be references of comparisons.
        evidence: what fills the evidence budget.
        make: `module:function` that makes it from its spec and `zrag_core.system_factory.SystemInputs`.
        policy: of the memory that it reads; None for one that reads none.
        indexes: kinds of index that it reads.
        settings: settings, as `section.field`, that tell it from a system of the same name in another run.
        configure: `module:function` that completes the spec where the settings decide what is needed: of this spec
            and the settings.
        params: further parameters for the comparison of runs.
    """

    name: str
    description: str
    family: Family
    evidence: EvidenceForm
    make: str
    policy: Policy | None = None
    indexes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    configure: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


SYSTEMS: Registry[SystemSpec] = Registry("system")

_MEMORY = "zrag_core.model.inference.create_system:make_memory_system"
_BASELINES = "zrag_core.baselines"
_RRF = ("baselines.rrf_k",)

for _spec in (
    SystemSpec("zrag", "the memory's sentences, ranked", "memory", "sentences", _MEMORY, "separated"),
    SystemSpec("zrag_free", "the memory in the model's own words", "memory", OWN_WORDS, _MEMORY, "separated"),
    SystemSpec("zrag_joint", "sentences of a memory trained with theta", "memory", "sentences", _MEMORY, "joint"),
    SystemSpec("zrag_joint_free", "the same memory in the model's own words", "memory", OWN_WORDS, _MEMORY, "joint"),
    SystemSpec(
        "zrag_hybrid",
        "routing fused with BM25, then the memory's sentences",
        "memory",
        "sentences",
        _MEMORY,
        "separated",
        indexes=("bm25",),
        settings=_RRF,
    ),
    SystemSpec(
        "zrag_full_prefix",
        "all of Z before the question, nothing routed",
        "memory",
        OWN_WORDS,
        "zrag_core.model.inference.full_prefix:make_full_prefix",
        configure="zrag_core.model.inference.full_prefix:configure",
    ),
    SystemSpec(
        "memorag",
        "passages for the question and for the clues that a memory gives",
        "memorag",
        "passages",
        "zrag_core.memorag.factory:make_memorag_system",
        settings=_RRF,
        configure="zrag_core.memorag.factory:configure",
    ),
    SystemSpec(
        "bm25", "BM25 over passages", "retrieval", "passages", f"{_BASELINES}.bm25:make_bm25", indexes=("bm25",)
    ),
    SystemSpec(
        "bm25_sentence",
        "BM25 over sentences",
        "retrieval",
        "sentences",
        f"{_BASELINES}.bm25:make_bm25_sentence",
        indexes=("bm25",),
    ),
    SystemSpec(
        "dense",
        "nearest passages by their vectors",
        "retrieval",
        "passages",
        f"{_BASELINES}.dense:make_dense",
        indexes=("dense",),
    ),
    SystemSpec(
        "hybrid",
        "reciprocal-rank fusion of bm25 and dense",
        "retrieval",
        "passages",
        f"{_BASELINES}.hybrid:make_hybrid",
        indexes=("bm25", "dense"),
        settings=_RRF,
    ),
    SystemSpec("closed_book", "no evidence at all", "bound", "nothing", f"{_BASELINES}.reference:make_closed_book"),
    SystemSpec(
        "gold_evidence",
        "the evidence target itself",
        "bound",
        "the targets",
        f"{_BASELINES}.reference:make_gold_evidence",
    ),
):
    SYSTEMS.add(_spec)


def in_family(name: str, family: Family) -> bool:
    """Whether a system is of a family; False for one that is not registered, which a former run may have measured."""
    return name in SYSTEMS and SYSTEMS[name].family == family


def without_evidence(name: str) -> bool:
    """Whether a system hands over nothing by design, so that the reader answers from what it knows."""
    return name in SYSTEMS and SYSTEMS[name].evidence == "nothing"


def system_spec(name: str, settings: Any) -> SystemSpec:
    """The spec of a system under some settings (`zrag_core.settings.Settings`)."""
    spec = SYSTEMS[name]
    return spec if spec.configure is None else resolve(spec.configure)(spec, settings)


def policies_read(settings: Any) -> set[Policy]:
    """The policies of the memories that the evaluated systems read."""
    specs = (system_spec(name, settings) for name in settings.evaluation.systems)
    return {spec.policy for spec in specs if spec.policy is not None}


def indexes_read(settings: Any) -> set[str]:
    """The kinds of index that the evaluated systems read."""
    return {kind for name in settings.evaluation.systems for kind in system_spec(name, settings).indexes}


def resolve(reference: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
