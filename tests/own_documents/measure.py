"""What the shipped skills make of everyday documents: `python tests/own_documents/measure.py [--held-out]`.

For each folder: in how many of the 15 questions the first piece of evidence holds the answer and is from the right file
(`first`; beside it BM25 over sentences), how many of these questions are refused although they are answered, and how
many of the 8 others are refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from zrag_core.answer_matching import answer_coverage
from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.corpus.read import read_documents
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved
from zrag_core.memory import LEAST_CONFIDENCE
from zrag_core.model.architecture.packaged_llms import PACKAGED
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.model.store.write import write_documents
from zrag_core.settings import BaselineSettings, DecodingSettings, WritingSettings
from zrag_core.settings.backbone import GEMMA3, SMOLLM2, TINY

HERE = Path(__file__).parent
CHOSEN_BY = ("handbook", "products", "notices_ko", "project", "club", "rules_ko")
HELD_OUT = ("workshop", "clinic", "apartment_ko")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--held-out", action="store_true", help="the folders that nothing is chosen by")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skill", type=Path, help="folder of a skill instead of the shipped ones")
    parser.add_argument("--plot", type=Path, help="PNG file for the table as bars")
    parser.add_argument("--each", action="store_true", help="a line for every question too")
    given = parser.parse_args()
    print(f"{'corpus':<12} {'skill':<24} {'first':>8} {'bm25':>6} {'wrongly refused':>16} {'refused':>8}")
    rows = []
    for name in HELD_OUT if given.held_out else CHOSEN_BY:
        documents, questions = read(HERE / name)
        for backbone in [given.skill.name] if given.skill else readers_of(name):
            rows.append((f"{name}\n{backbone}", *_measure(name, backbone, given, documents, questions)))
    if given.plot:
        plot(rows, given.plot)


def readers_of(name: str) -> list[str]:
    """Backbones that a folder is asked with: for Korean `zrag-tiny`, and Gemma 3 where it is installed."""
    if name.endswith("_ko"):
        return [TINY, *([GEMMA3] if PACKAGED[GEMMA3].is_available() else [])]
    return [SMOLLM2]


def _measure(
    name: str, backbone: str, given: argparse.Namespace, documents: tuple[Document, ...], questions: list[Question]
) -> tuple[float, float, float, float]:
    memory = write(documents, given.skill or shipped_skill(backbone))
    torch.set_num_threads(given.threads)
    found = create_system("zrag", memory, memory.settings.decoding, threads=given.threads).retrieve(questions)
    words = Bm25System(Bm25Index.build(documents, BaselineSettings(), unit="sentence"), documents).retrieve(questions)
    answered = [i for i, question in enumerate(questions) if question.golden_answers]
    first, bm25 = (sum(is_first(questions[i], items[i]) for i in answered) for items in (found, words))
    refused = [not item.answerable for item in found]
    wrongly = sum(refused[i] for i in answered)
    others = len(questions) - len(answered)
    rightly = sum(refused) - wrongly
    print(
        f"{name:<12} {backbone:<24} {first:>5}/{len(answered)} {bm25:>3}/{len(answered)} "
        f"{wrongly:>13}/{len(answered)} {rightly:>6}/{others}",
        flush=True,
    )
    if given.each:
        for question, item in zip(questions, found, strict=True):
            text = item.segments[0].text if item.segments else ""
            mark = ("+" if is_first(question, item) else "-") if question.golden_answers else "?"
            print(f"  {mark} {item.confidence or 0:.2f}  {question.question}\n         {text[:110]!r}")
    return first / len(answered), bm25 / len(answered), wrongly / len(answered), rightly / others


def plot(rows: Sequence[tuple[str, float, float, float, float]], file: Path) -> None:
    """Draw shares of each folder: first of `zrag` and BM25, refused wrongly and rightly."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 1.1 * len(rows), 4.2), layout="constrained")
    axes = figure.subplots()
    labels = ("evidence that answers first", "the same, BM25 over sentences", "wrongly refused", "rightly refused")
    for number, (label, color) in enumerate(zip(labels, ("#1d5fbf", "#9aa5b1", "#d1495b", "#3c9d6b"), strict=True)):
        places = [place + 0.2 * (number - 1.5) for place in range(len(rows))]
        axes.bar(places, [100 * row[number + 1] for row in rows], 0.19, label=label, color=color)
    axes.set_xticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    axes.set_ylabel("%")
    axes.set_ylim(0, 100)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.savefig(file, dpi=110)


def read(folder: Path) -> tuple[tuple[Document, ...], list[Question]]:
    """Documents and questions of one folder."""
    documents = read_documents(folder / "documents")
    questions = []
    for number, line in enumerate((folder / "questions.jsonl").read_text("utf-8").splitlines()):
        row = json.loads(line)
        gold = tuple(document.id for document in documents if document.source_id == row.get("file"))
        questions.append(
            Question(f"q{number}", row["question"], tuple(row["answers"]), gold, row.get("evidence"), "test")
        )
    return documents, questions


def write(documents: tuple[Document, ...], skill_folder: Path) -> Checkpoint:
    """A memory of the documents, theta frozen."""
    skill = load_skill(skill_folder, device="cpu", everyday=True)
    written = write_documents(skill.model, documents, (), WritingSettings(steps=0))
    skill.model.remember(documents, written.z, written.spans)
    decoding = DecodingSettings(routed_documents=10, steps=1, least_confidence=LEAST_CONFIDENCE)
    return Checkpoint(
        "own", Path(), skill.model, documents, skill.settings.model_copy(update={"decoding": decoding}), {}
    )


def is_first(question: Question, found: Retrieved) -> bool:
    """Whether the first piece of evidence is from the right file and holds an answer."""
    if not found.segments or found.segments[0].document_id not in question.document_ids:
        return False
    return bool(answer_coverage(found.segments[0].shown, question.golden_answers, question.language))


if __name__ == "__main__":
    main()
