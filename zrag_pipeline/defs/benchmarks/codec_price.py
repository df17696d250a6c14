"""What a pretrained LLM's memory costs on disk, and what it is worth at that price: other strides and widths of slots.

Every codec is trained anew, for fewer steps than the shipped one; adapter, keys and weights are those of the skill and
were trained for its own codec. Choices are made by this curve, so it asks dev questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from zrag_core.corpus.prose.sources import prose_documents
from zrag_core.corpus.read import read_corpus
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Corpus, Question
from zrag_core.evaluation.canvas import PALETTE, new_figure, percent_axis, png
from zrag_core.evaluation.metrics.coverage import coverage_at
from zrag_core.model.architecture.create_memory import create_separated
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.skill_folder import load_skill
from zrag_core.model.store.write import write_documents
from zrag_core.model.training.codec_training import codec_accuracy, train_codec
from zrag_core.model.training.fixed_slots import optimise_slots
from zrag_core.settings import Settings
from zrag_pipeline.defs.benchmarks.measurement import Measurement

_HELD_OUT = 20_000  # tokens of prose that measure a codec
_BUDGET = 64
_SLOTS, _WIDTH = 4, 256  # the reference shape
_READ = 128  # tokens of a document that they are optimised for
_SYSTEMS = {"zrag": False, "zrag_free": True}


def measure_codecs(settings: Settings, skill: Path, log: Callable[[str], None]) -> Measurement:
    """Train, write and ask with every codec of `settings.benchmark.codecs`."""
    torch.set_num_threads(settings.backbone.cpu_threads)
    corpus = read_corpus(settings.corpus)
    dev = {question.id: question for question in corpus.questions if question.split == "dev"}
    asked = [dev[key] for key in hash_order(dev, 0, "codec benchmark")[: settings.benchmark.questions]]
    trained = load_skill(skill, device=settings.backbone.device).model
    assert isinstance(trained, LanguageMemory)
    ids = torch.tensor([t for document in prose_documents() for t in trained.backbone.encode(document.contents)])
    rows = []
    for stride, width in (map(int, codec.split("x")) for codec in settings.benchmark.codecs):
        shape = {"stride": stride, "width": width, "steps": settings.benchmark.codec_steps}
        own = settings.model_copy(update={"codec": settings.codec.model_copy(update=shape)})
        figures = dict(_measure_one(own, trained, ids, corpus, asked))
        log(f"{stride} tokens in {width} bytes: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        rows.append({"stride": stride, "width": width, **figures})
    frame = pd.DataFrame(rows)
    long = frame.melt(id_vars=["stride", "width"], var_name="metric", value_name="value")
    system = "codec " + long["stride"].astype(str) + "x" + long["width"].astype(str)
    unit = long["metric"].map(lambda name: "bytes" if name == "bytes_per_document" else "share")
    table = pd.DataFrame({"system": system, "metric": long["metric"], "value": long["value"], "unit": unit})
    table = table.assign(n_documents=len(corpus.documents))
    if settings.benchmark.optimised_documents:
        table = pd.concat([table, _optimised(settings, trained, corpus, log)], ignore_index=True)
    metrics = {f"{s.replace(' ', '_')}/{m}": v for s, m, v in zip(system, long["metric"], long["value"], strict=True)}
    return Measurement(table, frame, metrics, {"questions": len(asked)}, {"codec_price": frame}, {"price": draw(frame)})


def _measure_one(
    settings: Settings, trained: LanguageMemory, ids: torch.Tensor, corpus: Corpus, asked: list[Question]
) -> Iterator[tuple[str, float]]:
    model = create_separated(trained.backbone, settings).eval()
    assert isinstance(model, LanguageMemory)
    for own, other in ((model.router, trained.router), (model.relevance, trained.relevance)):
        own.load_state_dict(other.state_dict())
    model.ranking.copy_(trained.ranking)
    result = train_codec(
        model.codec, model.vocabulary, ids[_HELD_OUT:], ids[:_HELD_OUT], settings.codec, fingerprint="price"
    )
    yield "token_accuracy", result.accuracy
    slots = ids[: _HELD_OUT // settings.codec.stride * settings.codec.stride].view(-1, settings.codec.stride)
    yield "token_accuracy_float32", codec_accuracy(model.codec, model.vocabulary, slots, quantised=False)
    written = write_documents(model, corpus.documents, (), settings.writing)
    model.remember(corpus.documents, written.z, written.spans)
    yield "bytes_per_document", model.bytes_per_document()
    checkpoint = Checkpoint("", Path(), model, corpus.documents, settings, {})
    for name, free in _SYSTEMS.items():
        system = create_system("zrag", checkpoint, settings.decoding, free=free, threads=settings.backbone.cpu_threads)
        found = zip(asked, system.retrieve(asked), strict=True)
        covered = [bool(coverage_at(question, item, _BUDGET)) for question, item in found]
        yield f"{name}_coverage_at_{_BUDGET}", sum(covered) / len(covered)


def _optimised(settings: Settings, trained: LanguageMemory, corpus: Corpus, log: Callable[[str], None]) -> pd.DataFrame:
    """Rows of the reference shape, optimised for each of some documents alone."""
    encoded = (trained.backbone.encode(document.contents, _READ) for document in corpus.documents)
    long = [ids for ids in encoded if len(ids) == _READ][: settings.benchmark.optimised_documents]
    if not long:
        log(f"no document has {_READ} tokens: none is optimised by itself")
        return pd.DataFrame()
    slots, width = _SLOTS, min(_WIDTH, trained.backbone.hidden_size)
    steps = settings.benchmark.optimised_steps
    found = optimise_slots(trained.backbone, torch.tensor(long), slots=slots, width=width, steps=steps, log=log)
    rows = [(f"tokens_right_{name}", value) for name, value in asdict(found).items()]
    log(f"{slots} x {width} optimised: " + ", ".join(f"{name} {value:.3f}" for name, value in rows))
    table = pd.DataFrame(rows, columns=["metric", "value"])
    return table.assign(system=f"optimised {slots}x{width}", unit="share", n_documents=len(long))


def draw(frame: pd.DataFrame) -> bytes:
    """Coverage by bytes per document as a PNG, each codec named."""
    figure, axes = new_figure(7.5, 4.5)
    frame = frame.sort_values("bytes_per_document")
    for number, name in enumerate(_SYSTEMS):
        column = frame[f"{name}_coverage_at_{_BUDGET}"]
        axes.plot(frame["bytes_per_document"], column, "o-", color=PALETTE[number], label=name)
    for row in frame.to_dict("records"):
        place = (row["bytes_per_document"], row[f"zrag_coverage_at_{_BUDGET}"])
        text = f"{row['stride']:.0f}x{row['width']:.0f}"
        axes.annotate(text, place, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:,.0f}")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("bytes per document, keys and words included; labels: tokens x bytes of a slot")
    axes.set_ylabel(f"answer coverage at {_BUDGET} tokens")
    percent_axis(axes, "y")
    axes.legend(frameon=False)
    return png(figure)
