"""Questions about sentences of prose that the LLM writes itself, for its own training and calibration."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from zrag_core.corpus.prose.asked import AskedSentence
from zrag_core.corpus.types import Document
from zrag_core.files import write_text_atomic
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.padding import pad
from zrag_core.model.architecture.reading_prompts import reading_prompts
from zrag_core.sentences import split_sentences

_BATCH = 32
_TOKENS = 28
_TEMPERATURE, _TOP_K = 0.7, 40
_SHORTEST, _LONGEST = 40, 350  # characters of a sentence that is asked about
_LINES = 10  # batches between two lines of the log


def write_questions(
    backbone: Backbone, documents: Sequence[Document], n: int, file: Path, *, log: Callable[[str], None]
) -> list[AskedSentence]:
    """Ask about one sentence of each of many documents, until there are `n` questions.

    Args:
        file: keeps the questions that were written, line by line; a run that is stopped goes on behind them.
    """
    order = list(range(len(documents)))
    random.Random("questions").shuffle(order)
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    written, done = _read(file)
    written = _still_there(written, documents)  # the file may be of an older version of the documents
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        for number in range(done, len(batches)):
            if len(written) >= n:
                break
            rng = random.Random(f"questions:{number}")
            chosen = [(documents[row], _sentence(documents[row], rng)) for row in sorted(batches[number])]
            items = [(document, sentence) for document, sentence in chosen if sentence]
            made = _ask(backbone, items, number) if items else []
            written += made
            rows = [{"question": i.question, "document": i.document_id, "sentence": i.sentence} for i in made]
            opened.write(json.dumps({"batch": number, "asked": rows}, ensure_ascii=False) + "\n")
            opened.flush()
            if number % _LINES == 0:
                log(f"{len(written):,} of {n:,} questions written")
    return written[:n]


def _read(file: Path) -> tuple[list[AskedSentence], int]:
    """What is there already, and the number of the next batch; a line that was cut off is left out."""
    if not file.is_file():
        return [], 0
    written, whole, done = [], [], 0
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        written += [AskedSentence(row["question"], row["document"], row["sentence"]) for row in values["asked"]]
        whole.append(line)
        done = values["batch"] + 1
    write_text_atomic(file, "".join(line + "\n" for line in whole))
    return written, done


def _still_there(written: Sequence[AskedSentence], documents: Sequence[Document]) -> list[AskedSentence]:
    about = {item.document_id for item in written}
    sentences = {d.id: {span.text for span in split_sentences(d.text)} for d in documents if d.id in about}
    return [item for item in written if item.sentence in sentences.get(item.document_id, ())]


def _sentence(document: Document, rng: random.Random) -> str:
    usable = [s.text for s in split_sentences(document.text) if _SHORTEST < len(s.text) < _LONGEST]
    return rng.choice(usable) if usable else ""


@torch.no_grad()
def _ask(backbone: Backbone, items: Sequence[tuple[Document, str]], seed: int) -> list[AskedSentence]:
    own = reading_prompts(backbone.source)
    texts = [f"{own.passage}{document.title}: {sentence}{own.ask}" for document, sentence in items]
    prompts = [backbone.start_ids + backbone.encode(text) for text in texts]
    ids, mask = pad(prompts, backbone.pad_id, backbone.device, left=True)
    torch.manual_seed(seed)
    output = backbone.lm.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=_TOKENS,
        do_sample=True,
        temperature=_TEMPERATURE,
        top_k=_TOP_K,
        pad_token_id=backbone.pad_id,
    )
    asked = []
    for (document, sentence), row in zip(items, output[:, ids.shape[1] :].tolist(), strict=True):
        text = backbone.decode(row).split("\n")[0].strip()
        if "?" in text:  # one that was cut off is none
            asked.append(AskedSentence(text[: text.index("?") + 1], document.id, sentence))
    return asked
