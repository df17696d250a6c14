"""What a removed document could leave in a checkpoint's files, and whether it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.encoder import UNUSED, sentences_per_span
from zrag_core.model.architecture.lexical_keys import title_ids
from zrag_core.model.checks.byte_search import LEAST_BYTES, ByteSearch
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.text import split_sentences

_LEAST_TEXT = 20  # bytes of a sentence that cannot stand somewhere by chance
_TOKENIZER = "tokenizer"  # its vocabulary holds words of the language, and so one-word titles


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that belongs to a removed document alone.

    Attributes:
        kind: "text", "title", "slots", "words" (lexical key) or "hash".
        patterns: byte forms in which it could stand in a file.
    """

    document_id: str
    kind: str
    patterns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Leftover:
    """A trace that was found, and the file, relative to the folder."""

    trace: Trace
    file: str


def traces_of_removed(former: Checkpoint, remaining: Sequence[Document]) -> list[Trace]:
    """All that the former memory knows of documents, or of former texts of documents, that are not in `remaining`.

    What a remaining document says as well is no trace: sentences, titles, and slots and keys of the same text.
    """
    kept = {document.content_hash for document in remaining}
    gone = [row for row, document in enumerate(former.documents) if document.content_hash not in kept]
    said = "\n\n".join(document.contents for document in remaining)
    texts = {document.text for document in remaining}
    titles = {tuple(sorted(set(title_ids(document.title)))) for document in remaining}
    found: list[Trace] = []
    for row in gone:
        document = former.documents[row]
        found += _text_traces(document, said)
        found += _slot_traces(former, row, said)
        width = former.settings.separated.title_width
        key = former.model.lexical[row]
        if document.text not in texts:
            found += _number_traces(document, "words", key[width:])
        if tuple(sorted(set(title_ids(document.title)))) not in titles:
            found += _number_traces(document, "words", key[:width])
        digest = document.content_hash
        found.append(Trace(document.id, "hash", (bytes.fromhex(digest), digest.encode(), digest.upper().encode())))
    return found


def find_leftovers(traces: Sequence[Trace], folder: Path) -> list[Leftover]:
    """Which traces stand in which files of a folder, searched byte by byte."""
    flat = [(number, pattern) for number, trace in enumerate(traces) for pattern in trace.patterns]
    search = ByteSearch([pattern for _, pattern in flat])
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        for number in sorted({flat[index][0] for index in search.in_file(path)}):
            if traces[number].kind != "title" or name.parts[0] != _TOKENIZER:
                found.append(Leftover(traces[number], name.as_posix()))
    return found


def text_patterns(text: str) -> tuple[bytes, ...]:
    """A text as it is in UTF-8, and as JSON writes it, with and without `\\u` escapes."""
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return tuple(dict.fromkeys(form.encode("utf-8") for form in forms))


def _text_traces(document: Document, said: str) -> Iterator[Trace]:
    pieces = dict.fromkeys([document.text, *(span.text for span in split_sentences(document.text))])
    for piece in pieces:
        if piece not in said and len(piece.encode("utf-8")) >= _LEAST_TEXT:
            yield Trace(document.id, "text", text_patterns(piece))
    title = document.title
    if title not in said and len(title.encode("utf-8")) >= LEAST_BYTES:
        yield Trace(document.id, "title", text_patterns(title))


def _slot_traces(former: Checkpoint, row: int, said: str) -> Iterator[Trace]:
    """The slots of each span with a sentence that no remaining document says."""
    model, document = former.model, former.documents[row]
    sentences = [span.text for span in split_sentences(document.text)]
    run = sentences_per_span(len(sentences), model.z.shape[1])
    spans = model.spans[row].tolist()
    for number in sorted(set(spans) - {UNUSED}):
        if any(sentence not in said for sentence in sentences[number * run : (number + 1) * run]):
            slots = [slot for slot, span in enumerate(spans) if span == number]
            yield from _number_traces(document, "slots", model.z[row, slots[0] : slots[-1] + 1])


def _number_traces(document: Document, kind: str, numbers: torch.Tensor) -> Iterator[Trace]:
    data = numbers.detach().float().cpu().contiguous().numpy().tobytes()
    if any(data[:LEAST_BYTES]):
        yield Trace(document.id, kind, (data,))
