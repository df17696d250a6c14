"""Byte signatures of removed documents (texts, titles, slots, words, hashes), looked for in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.document_words import title_ids
from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.checks.byte_search import LEAST_BYTES, patterns_in_file
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.sentences import split_sentences

_LEAST_TEXT = 20  # bytes of a sentence that cannot stand somewhere by chance
_TOKENIZER = "tokenizer"  # its vocabulary holds words of the language, and so one-word titles


@dataclass(frozen=True, slots=True)
class ByteSignature:
    """A byte string that belongs to a removed document alone.

    Attributes:
        kind: "text", "title", "slots", "words" (their buckets) or "hash".
        patterns: forms in which it could stand in a file.
    """

    document_id: str
    kind: str
    patterns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Find:
    """A signature that stands in a file, named relative to the folder."""

    signature: ByteSignature
    file: str


def removed_signatures(former: Checkpoint, remaining: Sequence[Document]) -> list[ByteSignature]:
    """Signatures of the documents, or former texts of documents, of a memory that are not in `remaining`.

    What a remaining document says as well is no signature: sentences, titles, and slots and keys of the same text.
    """
    kept = {document.content_hash for document in remaining}
    said = "\n\n".join(document.contents for document in remaining)
    texts = {document.text for document in remaining}
    titles = {frozenset(title_ids(document.title)) for document in remaining}
    found: list[ByteSignature] = []
    for row, document in enumerate(former.documents):
        if document.content_hash in kept:
            continue
        found += _text_signatures(document, said)
        found += _slot_signatures(former, row, said)
        of_title, of_text = former.separated.stored_words(row)
        if document.text not in texts:
            found += _signature(document, "words", of_text)
        if frozenset(title_ids(document.title)) not in titles:
            found += _signature(document, "words", of_title)
        digest = document.content_hash
        forms = (bytes.fromhex(digest), digest.encode(), digest.upper().encode())
        found.append(ByteSignature(document.id, "hash", forms))
    return found


def find_signatures(signatures: Sequence[ByteSignature], folder: Path) -> list[Find]:
    """Which signatures stand in which files of a folder, searched byte by byte."""
    flat = [(number, pattern) for number, signature in enumerate(signatures) for pattern in signature.patterns]
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        for number in sorted({flat[at][0] for at in patterns_in_file([pattern for _, pattern in flat], path)}):
            if signatures[number].kind != "title" or name.parts[0] != _TOKENIZER:
                found.append(Find(signatures[number], name.as_posix()))
    return found


def text_patterns(text: str) -> tuple[bytes, ...]:
    """A text as it is in UTF-8, and as JSON writes it, with and without `\\u` escapes."""
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return tuple(dict.fromkeys(form.encode("utf-8") for form in forms))


def _text_signatures(document: Document, said: str) -> Iterator[ByteSignature]:
    pieces = dict.fromkeys([document.text, *(span.text for span in split_sentences(document.text))])
    for piece in pieces:
        if piece not in said and len(piece.encode("utf-8")) >= _LEAST_TEXT:
            yield ByteSignature(document.id, "text", text_patterns(piece))
    title = document.title
    if title not in said and len(title.encode("utf-8")) >= LEAST_BYTES:
        yield ByteSignature(document.id, "title", text_patterns(title))


def _slot_signatures(former: Checkpoint, row: int, said: str) -> Iterator[ByteSignature]:
    """The slots of each span with a sentence that no remaining document says."""
    model, document = former.model, former.documents[row]
    sentences = [span.text for span in split_sentences(document.text)]
    run = model.sentences_per_span(len(sentences))
    spans = model.document_slots([row])[1][0].tolist()
    for number in sorted(set(spans) - {UNUSED}):
        if any(sentence not in said for sentence in sentences[number * run : (number + 1) * run]):
            slots = [slot for slot, span in enumerate(spans) if span == number]
            yield from _signature(document, "slots", model.stored_slots(row, slots[0], slots[-1]))


def _signature(document: Document, kind: str, data: bytes) -> Iterator[ByteSignature]:
    if len(data) >= LEAST_BYTES and any(data[:LEAST_BYTES]):
        yield ByteSignature(document.id, kind, (data,))
