"""MemoRAG with the memory that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from zrag_core.answering.types import Completer
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import SettingsError
from zrag_core.memorag.clue_memory import ClueMemory
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_core.model.architecture import packaged_llms
from zrag_core.settings import LOCAL_MODEL, Settings
from zrag_core.settings.backbone import SMOLLM2
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import OWN_WORDS, SYSTEMS, Policy, SystemSpec


@dataclass(frozen=True, slots=True)
class MemoryKind:
    """A kind of memory model.

    Attributes:
        make: makes one from all that a system may be made from.
        settings: those of `memorag` that tell one from others of its kind.
        policy: of the memory Z that it reads.
    """

    make: Callable[[SystemInputs], ClueMemory]
    settings: tuple[str, ...] = ()
    policy: Policy | None = None


def configure(spec: SystemSpec, settings: Settings) -> SystemSpec:
    """Reads the indexes of its retriever, and the memory Z where that drafts."""
    own = settings.memorag
    kind = MEMORIES[own.memory]
    names = ("retriever", "passages_per_clue", *kind.settings)
    return replace(
        spec,
        policy=kind.policy,
        indexes=SYSTEMS[own.retriever].indexes,
        params={"memorag_memory": own.memory, **{name: getattr(own, name) for name in names}},
    )


def make_memorag_system(spec: SystemSpec, inputs: SystemInputs) -> MemoragSystem:
    """MemoRAG with its memory and its retriever.

    Summaries and KV caches are kept in the folder of the inputs. A summary is a file named by what it is made of, so
    that all corpus versions share one folder and an updated corpus pays for what changed; a KV cache has a folder per
    corpus version, and goes on from the one that begins like it.

    Raises:
        SettingsError: no model can be asked, or a local one cannot be loaded.
        AnsweringError: a summary could not be made; what was made so far is kept.
    """
    settings = inputs.settings
    own = settings.memorag
    memory = MEMORIES[own.memory].make(inputs)
    retriever, documents = inputs.make(own.retriever), inputs.corpus.documents
    rrf_k = settings.baselines.rrf_k
    return MemoragSystem(spec.name, memory, retriever, documents, own.passages_per_clue, rrf_k=rrf_k)


def _z_memory(inputs: SystemInputs) -> ClueMemory:
    from zrag_core.memorag.z_memory import ZMemory
    from zrag_core.model.inference.create_system import make_memory_system

    spec = replace(inputs.spec("memorag"), evidence=OWN_WORDS, indexes=())
    return ZMemory(make_memory_system(spec, inputs))


def _summary_memory(inputs: SystemInputs) -> ClueMemory:
    from zrag_core.memorag.corpus_summaries import build_summaries
    from zrag_core.memorag.summary_memory import SummaryMemory

    own = inputs.settings.memorag
    completer = _local_light_model(inputs) if own.light_model == SMOLLM2 else _served_light_model(inputs)
    summaries = build_summaries(inputs.corpus.documents, completer, inputs.folder / "summaries", own)
    return SummaryMemory(completer, summaries, own)


def _local_light_model(inputs: SystemInputs) -> Completer:
    from zrag_core.answering.local_model import LocalChatModel
    from zrag_core.memorag.local_completer import LocalCompleter

    settings = inputs.settings
    model = LocalChatModel(packaged_llms.SMOLLM2.model_folder(), LOCAL_MODEL, settings.backbone.cpu_threads)
    return LocalCompleter(model, settings.memorag.light_temperature)


def _served_light_model(inputs: SystemInputs) -> Completer:
    from zrag_core.answering.choice import choose_reader
    from zrag_core.answering.client import OpenAIReader
    from zrag_core.memorag.summary_memory import light_settings

    answers = inputs.settings.answers
    if answers.reader != "local":
        light = light_settings(answers, inputs.settings.memorag)
        reader = choose_reader(light, inputs.environ, inputs.answer_cache, ledger=inputs.ledger)
        if isinstance(reader, OpenAIReader):
            return reader
    who = "local" if answers.reader == "local" else "offline"
    raise SettingsError(
        f"a summary memory asks a light LLM, and the {who} reader is none",
        where="memorag.memory",
        remedy=f"export {answers.api_key_env} (with answers.reader auto or openai), give answers.base_url with "
        f"reader openai, set memorag.light_model to {SMOLLM2}, or set memorag.memory to z",
    )


def _kv_memory(inputs: SystemInputs) -> ClueMemory:
    import torch

    from zrag_core.memorag.kv_decoder import load_causal_lm
    from zrag_core.memorag.kv_memory import KvMemory

    settings, documents = inputs.settings, inputs.corpus.documents
    own = settings.memorag
    assert own.kv_model is not None, "the settings demand it"
    torch.set_num_threads(settings.backbone.cpu_threads)
    folder = inputs.folder / "kv"
    lm, tokenizer = load_causal_lm(own.kv_model, device=settings.backbone.device, dtype=own.kv_dtype)
    earlier = sorted(path for path in folder.glob("*") if path.is_dir())
    return KvMemory.build(lm, tokenizer, documents, folder / corpus_version(documents), own, earlier)


MEMORIES = {
    "z": MemoryKind(_z_memory, policy="separated"),
    "summary": MemoryKind(
        _summary_memory,
        (
            "light_model",
            "light_temperature",
            "group_tokens",
            "summary_tokens",
            "page_tokens",
            "memory_tokens",
            "draft_tokens",
            "clue_tokens",
        ),
    ),
    "kv": MemoryKind(_kv_memory, ("kv_model", "kv_window", "kv_dtype", "draft_tokens", "clue_tokens")),
}
