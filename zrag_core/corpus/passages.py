"""Passages: documents too long for one row of the memory are split at sentence ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zrag_core.corpus.cleaning import unique
from zrag_core.corpus.offsets import evidence_offsets, holds_answer
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.sentences import split_sentences
from zrag_core.text import TextSlice, evidence_tokens, truncate_to_tokens
from zrag_core.text_blocks import Block, find_blocks


def split_text(text: str, limit: int) -> list[TextSlice]:
    """Split `text` into consecutive pieces of at most `limit` evidence tokens, of about the same size.

    Pieces end at sentence ends; a sentence that is too long by itself is cut between words, and a word that is too
    long between characters. Every visible character lies in exactly one piece.
    """
    pieces: list[TextSlice] = []
    start = end = 0
    left = evidence_tokens(text)
    for sentence in split_sentences(text):
        for part in _parts(sentence, limit):
            if end > start:
                # What is left in the fewest pieces, evenly: a last piece of one short sentence would be a poor one.
                goal = left / -(-left // limit)
                size, grown = evidence_tokens(text[start:end]), evidence_tokens(text[start : part.end])
                if grown <= limit and grown + size <= 2 * goal:
                    end = part.end
                    continue
                pieces.append(TextSlice(start, end, text[start:end]))
                left = max(1, left - evidence_tokens(text[start : part.start]))
            start, end = part.start, part.end
    if end > start:
        pieces.append(TextSlice(start, end, text[start:end]))
    return pieces


def _parts(sentence: TextSlice, limit: int) -> list[TextSlice]:
    if evidence_tokens(sentence.text) <= limit:
        return [sentence]
    parts: list[TextSlice] = []
    position, text = 0, sentence.text
    while position < len(text):
        # One character more than the limit can hold is enough to see where to cut.
        piece = truncate_to_tokens(text[position : position + 4 * limit + 1], limit)
        start = sentence.start + position
        parts.append(TextSlice(start, start + len(piece), piece))
        position += len(piece)
        while position < len(text) and text[position].isspace():
            position += 1
    return parts


def split_long_documents(corpus: Corpus, limit: int) -> Corpus:
    """Replace every document longer than `limit` evidence tokens by its passages, and point questions at them.

    Passage n of document D is called `D#n`. A question's gold document becomes the passages that hold its evidence,
    else those that hold an answer, else all of them. `metadata` keeps the source's own ids.

    Raises:
        CorpusError: a passage would get the id of another document.
    """
    passages = {
        document.id: _passages(document, limit)
        for document in corpus.documents
        if evidence_tokens(document.text) > limit
    }
    if not passages:
        return corpus
    documents: list[Document] = []
    for document in corpus.documents:
        documents += passages.get(document.id, [document])
    taken = {document.id for document in corpus.documents}
    for document_id, parts in passages.items():
        if clash := next((part.id for part in parts if part.id in taken), None):
            raise CorpusError(
                f"a passage of the long document '{document_id}' would get '{clash}', another document's id",
                where=corpus.name,
                remedy="rename that document, or raise corpus.passage_tokens",
            )
    sources = {document.id: document for document in corpus.documents if document.id in passages}
    questions = tuple(_remapped(question, sources, passages) for question in corpus.questions)
    count = sum(len(parts) for parts in passages.values())
    long = "1 document" if len(passages) == 1 else f"{len(passages)} documents"
    note = f"passage_tokens: {long} longer than {limit} tokens became {count} passages"
    return replace(corpus, documents=tuple(documents), questions=questions, notes=(*corpus.notes, note))


def titled_pieces(title: str, text: str, limit: int) -> list[tuple[str, TextSlice]]:
    """Pieces of `text` as `split_text` makes them, each with its title.

    One that begins within a table has the table's header there: its rows would say little without.
    """
    pieces = split_text(text, limit)
    blocks = list(find_blocks(text)) if len(pieces) > 1 else []
    return [(title + _columns(blocks, piece.start), piece) for piece in pieces]


def _columns(blocks: Sequence[Block], start: int) -> str:
    for block in blocks:
        if block.start < start < block.end:
            names = [name for name, _ in block.pieces[0].cells if name]
            return f" ({', '.join(names)})" if names else ""
    return ""


def _passages(document: Document, limit: int) -> list[Document]:
    return [
        Document(
            id=f"{document.id}#{number}",
            title=title,
            text=piece.text,
            source_id=document.source_id or document.id,
            source_start=document.source_start + piece.start,
        )
        for number, (title, piece) in enumerate(titled_pieces(document.title, document.text, limit))
    ]


def _remapped(
    question: Question, sources: Mapping[str, Document], passages: Mapping[str, Sequence[Document]]
) -> Question:
    document_ids: list[str] = []
    for document_id in question.document_ids:
        if document_id in passages:
            document_ids += _holders(question, sources[document_id], passages[document_id])
        else:
            document_ids.append(document_id)
    return replace(question, document_ids=unique(document_ids))


def _holders(question: Question, source: Document, parts: Sequence[Document]) -> list[str]:
    offsets = evidence_offsets(source.text, question.evidence) if question.evidence else []
    holding: list[str] = []
    for part in parts:
        start = part.source_start - source.source_start
        if any(start < stop and begin < start + len(part.text) for begin, stop in offsets):
            holding.append(part.id)
    if not holding:
        holding = [part.id for part in parts if holds_answer(part.text, question.golden_answers, question.language)]
    return holding or [part.id for part in parts]
