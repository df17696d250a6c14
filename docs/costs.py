"""Writes the tables of docs/costs.md, below its marker, from constants that were measured.

    python docs/costs.py

The page above the marker is written by hand. A test fails where the rest is not what this script makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("costs.md")
MARKER = "<!-- below: made by docs/costs.py -->\n"
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)

_GPU_FLOPS = 0.35 * 989e12  # an H100 in bf16, dense, at the share of its peak that is aimed at
_GPUS = 64
_PATIENCE_MS = 100.0  # what routing may take before a person notices
_RAM, _DISK = 16e9, 1e12  # bytes of a laptop
_WEEK = 7 * 86_400.0


@dataclass(frozen=True)
class Memory:
    """What a document costs in a memory of one kind.

    Attributes:
        name: of the backbone, and what its documents are.
        text, slots, keys, words: bytes of a document; words are those of text and title, as they are kept.
        index: bytes of the index of words, which is made when a memory is opened.
        read_ms: the LLM reads a question, two threads.
        scan_ns: all keys and words of a document against one question, two threads.
        written_per_s: documents, one thread; None where it was not measured.
        flops: of writing a document, two for each parameter and token; None where a GPU would have nothing to do.
    """

    name: str
    text: float
    slots: float
    keys: float
    words: float
    index: float
    read_ms: float
    scan_ns: float
    written_per_s: float | None
    flops: float | None

    @property
    def whole(self) -> float:
        """Bytes of a document on disk, text aside."""
        return self.slots + self.keys + self.words

    @property
    def in_memory(self) -> float:
        """Bytes of a document that every question touches."""
        return self.keys + self.index


# A document takes longer to compare the less of all keys the cache holds: 69 ns at 100,000, 96 at 1,000,000.
TINY = Memory("zrag-tiny, almanac", 487, 7_542, 450, 468, 614, 4.7, 96, 58, None)
# 63 ns at 100,000; more of them were not measured, and are taken to cost as much more as above.
SMOLLM2 = Memory("SmolLM2, paragraphs", 797, 7_876, 674, 674, 888, 18, 87, 11.5, 2 * 135e6 * 250)
# Never trained here: bytes and operations follow from the shape, keys and words are those of the row above.
QWEN3 = Memory("Qwen3-8B, 4 x 256 (computed)", 797, 4 * 260, 674, 674, 888, 0, 87, None, 2 * 8.2e9 * 250)
MEMORIES = (TINY, SMOLLM2, QWEN3)


@dataclass(frozen=True)
class Llm:
    """The shape of a Qwen3-like LLM.

    Attributes:
        heads, groups, head_width: query heads, key/value heads, numbers of each.
        inner: width of the feed-forward layers.
    """

    layers: int
    hidden: int
    heads: int
    groups: int
    head_width: int
    inner: int
    vocabulary: int

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's linear maps; attention's four come first."""
        q, kv = self.heads * self.head_width, self.groups * self.head_width
        attention = ((self.hidden, q), (self.hidden, kv), (self.hidden, kv), (q, self.hidden))
        return (*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden))

    @property
    def linear(self) -> int:
        """Parameters of all linear maps, embeddings aside."""
        return self.layers * sum(given * made for given, made in self.matrices)

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter of attention's maps."""
        return self.layers * rank * sum(given + made for given, made in self.matrices[:4])


@dataclass(frozen=True)
class Step:
    """A micro-batch of joint training: every question is read behind its document's slots and routed, and half as many
    documents are rebuilt.

    Attributes:
        questions: of the micro-batch.
        slots, query, evidence: tokens of each.
        rank: of the adapter.
    """

    questions: int
    slots: int
    query: int
    evidence: int
    rank: int

    @property
    def sequences(self) -> tuple[tuple[int, int, int], ...]:
        """Number, length and label positions of the sequences that the LLM reads."""
        rebuilt = max(1, round(self.questions / 2))
        return (
            (self.questions, self.slots + self.query + 1 + self.evidence, self.evidence),
            (self.questions, 1 + self.query, 0),
            (rebuilt, self.slots + 1 + self.evidence, self.evidence),
        )


def step_flops(llm: Llm, step: Step, passes: int) -> float:
    """Operations of a micro-batch in the LLM's linear maps; attention adds 2% at these lengths.

    Args:
        passes: over the layers: 2 (forward, and backward to the inputs, since the maps are frozen), 3 where activations
            are computed again instead of kept.
    """
    total = 0
    for number, length, labels in step.sequences:
        adapter = llm.adapter(step.rank)  # whose backward pass computes gradients of its weights too
        total += number * 2 * length * (passes * (llm.linear + adapter) + adapter)
        total += number * 4 * labels * llm.hidden * llm.vocabulary
    return total


def step_bytes(llm: Llm, step: Step, numbers_of_z: int) -> dict[str, float]:
    """Largest memory of a micro-batch by part, weights in NF4, activations computed again layer by layer."""
    tokens = max(number * length for number, length, _ in step.sequences)
    labels = max(number * own for number, _, own in step.sequences)
    trained = llm.adapter(step.rank) + numbers_of_z
    return {
        "linear maps, NF4 with doubly quantised scales": 0.516 * llm.linear,
        "embeddings and LM head, float32": 2 * 4 * llm.hidden * llm.vocabulary,
        "adapter and Z with gradients and Adam's moments, float32": 16 * trained,
        "inputs of all layers, bfloat16": 2 * llm.layers * tokens * llm.hidden,
        "one layer while it is computed again": 4 * tokens * (8 * llm.hidden + 3 * llm.inner),
        "logits at label positions and their gradients, float32": 12 * labels * llm.vocabulary,
    }


QWEN3_8B = Llm(layers=36, hidden=4096, heads=32, groups=8, head_width=128, inner=12_288, vocabulary=151_936)
# Of dagster_home/configs/evidence_poc.yaml; questions and evidence as long as they may be.
REFERENCE = Step(questions=2, slots=4, query=128, evidence=256, rank=32)
_MICRO_BATCHES = 8
_NUMBERS_OF_Z = 2_000 * 4 * 256


def page(text: str) -> str:
    """The whole page: what stands above the marker in `text`, and the tables as they come out."""
    by_hand, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"no line {MARKER.strip()!r} in the page")
    return by_hand + marker + "\n" + "\n".join(_tables()) + "\n"


def _tables() -> Iterator[str]:
    yield from _table("Bytes of a document", ("", *(own.name for own in MEMORIES)), _bytes_of_a_document())
    for own in MEMORIES:
        yield from _table(own.name, ("documents", *(f"{n:,}" for n in SIZES)), _as_documents_grow(own))
    yield from _table(
        "Where a part has to change",
        ("part", *(own.name for own in MEMORIES), "to what"),
        _limits(),
    )
    title = "A training step of the reference setting"
    yield from _table(title, ("Qwen3-8B, N = 2,000, m = 4, d = 256", "computed"), _a_training_step())


def _a_training_step() -> Iterator[Sequence[str]]:
    flops = _MICRO_BATCHES * step_flops(QWEN3_8B, REFERENCE, passes=3)
    seconds = flops / _GPU_FLOPS
    yield "parameters of the linear maps", f"{QWEN3_8B.linear / 1e9:.2f} billion"
    yield "parameters of the adapter", f"{QWEN3_8B.adapter(REFERENCE.rank) / 1e6:.1f} million"
    yield f"operations of a step of {_MICRO_BATCHES * REFERENCE.questions} questions", f"{flops / 1e12:,.0f} TFLOP"
    yield "its time on one H100 at 35% of its bf16 peak", duration(seconds)
    parts = step_bytes(QWEN3_8B, REFERENCE, _NUMBERS_OF_Z)
    yield from ((label, size(value)) for label, value in parts.items())
    yield "largest memory, together", size(sum(parts.values()))


def _bytes_of_a_document() -> Iterator[Sequence[str]]:
    parts = {"text": "text", "slots (Z)": "slots", "keys of sentences": "keys", "words": "words"}
    for label, name in {**parts, "index of words, in memory": "index"}.items():
        yield label, *(f"{getattr(own, name):,.0f}" for own in MEMORIES)


def _as_documents_grow(own: Memory) -> Iterator[Sequence[str]]:
    def row(label: str, values: Iterable[str]) -> Sequence[str]:
        return label, *values

    yield row("text", (size(own.text * n) for n in SIZES))
    yield row("memory on disk (slots, keys, words)", (size(own.whole * n) for n in SIZES))
    yield row("of it read for every question, in RAM", (size(own.in_memory * n) for n in SIZES))
    if own.read_ms:
        yield row("routing, one machine of 2 cores", (duration(_routing_ms(own, n) / 1e3) for n in SIZES))
        yield row(f"routing, {_GPUS} such machines", (duration(_routing_ms(own, n / _GPUS) / 1e3) for n in SIZES))
    if own.written_per_s:
        rate = own.written_per_s
        yield row("writing, one core", (duration(n / rate) for n in SIZES))
    if own.flops:
        seconds = own.flops / _GPU_FLOPS
        yield row("writing, one GPU, at best (computed)", (duration(n * seconds) for n in SIZES))
        yield row(f"writing, {_GPUS} GPUs, at best (computed)", (duration(n * seconds / _GPUS) for n in SIZES))


def _routing_ms(own: Memory, n: float) -> float:
    return own.read_ms + own.scan_ns * n / 1e6


def _limits() -> Iterator[Sequence[str]]:
    def at(values: Iterable[float | None]) -> list[str]:
        return ["" if value is None else f"{significant(value):,.0f}" for value in values]

    yield (
        f"exact comparison with all keys takes over {_PATIENCE_MS:.0f} ms",
        *at((_PATIENCE_MS - own.read_ms) * 1e6 / own.scan_ns if own.read_ms else None for own in MEMORIES),
        "documents in shards, a machine each, whose best ones are merged (still exact); on one machine an inverted "
        "file over the keys (Faiss IVF), whose candidates are scored exactly",
    )
    yield (
        f"keys and index of words outgrow {_RAM / 1e9:.0f} GB",
        *at(_RAM / own.in_memory for own in MEMORIES),
        "product-quantised keys (16 bytes a sentence) and an inverted index of words on disk",
    )
    yield (
        f"memory outgrows {_DISK / 1e12:.0f} TB",
        *at(_DISK / own.whole for own in MEMORIES),
        "slots in shards on object storage; a question reads those of ten documents",
    )
    yield (
        "writing on one core takes over a week",
        *at(own.written_per_s * _WEEK if own.written_per_s else None for own in MEMORIES),
        "shards of documents, a process or GPU each: a document's row depends on that document alone",
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield from (f"## {title}", "", f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}")
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def size(n: float) -> str:
    """Bytes as people read them."""
    power = min(4, int(math.log10(max(1.0, significant(n)))) // 3)
    return f"{significant(n / 1000**power):,g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    for unit, length, least in (("days", 86_400.0, 2), ("h", 3_600.0, 2), ("min", 60.0, 2), ("s", 1.0, 1)):
        if seconds >= least * length:
            return f"{significant(seconds / length):,g} {unit}"
    return f"{significant(seconds * 1000):,g} ms"


def significant(value: float) -> float:
    """Two significant digits: the constants are not known better."""
    return float(f"{value:.2g}")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
