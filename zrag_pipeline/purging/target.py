"""The documents that are to be erased: every version of them that is on record, and what was asked about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.corpus.overlay import find_documents, load_overlay
from zrag_core.corpus.types import Document
from zrag_core.errors import CorpusError
from zrag_pipeline import paths
from zrag_pipeline.champion import Champion, read_champions
from zrag_pipeline.purging.patterns import Patterns, make_patterns
from zrag_pipeline.warehouse import Warehouse


@dataclass(frozen=True)
class Target:
    """What is to be erased.

    Attributes:
        names: as given: ids of documents, or of what they were cut from.
        ids: of the documents.
        corpus: name of the corpus that they belong to.
        versions: corpus versions that held one of them, as far as they are known.
        documents: every version of them that was found.
        patterns: what is looked for.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    corpus: str
    versions: tuple[str, ...]
    documents: tuple[Document, ...]
    patterns: Patterns

    def lines(self) -> list[str]:
        """What will be erased, for the terminal, without its text."""
        if not self.documents:
            return [f"corpus {self.corpus}: nothing is on record of {', '.join(self.names)}"]
        lines = [f"corpus {self.corpus}: {len(self.ids)} documents ({', '.join(self.ids[:5])}{self._more()})"]
        sentences, titles = len(self.patterns.sentences), len(self.patterns.titles)
        lines.append(f"looked for: {sentences:,} sentences and questions, {titles:,} titles")
        if self.patterns.shared:
            lines.append(f"not looked for: {self.patterns.shared} that other documents (or an id) hold too, which stay")
        if self.patterns.plain:
            lines.append(f"not looked for: {len(self.patterns.plain)} titles of one common word (their sentences are)")
        return lines

    def _more(self) -> str:
        return ", ..." if len(self.ids) > 5 else ""


def find_target(names: Sequence[str]) -> Target:
    """Find documents by their ids in everything that keeps documents.

    Raises:
        CorpusError: an id is not on record, and was never removed by command.
    """
    champions = read_champions()
    corpus = champions[0].corpus if champions else _only_corpus()
    overlay = load_overlay(paths.overlay_dir(corpus))
    warehouse = Warehouse(paths.warehouse_file())
    own, others = _documents(warehouse, corpus, champions)
    own += overlay.added
    chosen: dict[tuple[str, str], Document] = {}
    for name in names:
        found = find_documents(own, name)
        if not found and name not in overlay.removed:
            raise CorpusError(
                f"no document '{name}' is on record",
                where=f"corpus {corpus}",
                remedy="`zrag documents` lists those in the memory; nothing was erased",
            )
        chosen |= {(document.id, document.content_hash): document for document in found}
    documents = tuple(chosen.values())
    ids = tuple(dict.fromkeys(document.id for document in documents))
    remaining = others + [document for document in own if document.id not in ids]
    texts = dict.fromkeys(document.contents for document in remaining)
    versions, asked = _on_record(warehouse, corpus, ids)
    named = (*names, *ids, *(document.source_id for document in documents))
    patterns = make_patterns(documents, asked, texts, named)
    return Target(tuple(names), ids, corpus, versions, documents, patterns)


def _documents(
    warehouse: Warehouse, corpus: str, champions: Iterable[Champion]
) -> tuple[list[Document], list[Document]]:
    """Documents of every version of this corpus, and those of other corpora, from the warehouse and checkpoints."""
    with warehouse.read() as con:
        rows = con.execute(
            """SELECT c.name, d.document_id, d.title, d.text, d.source_id, d.source_start
            FROM documents d JOIN corpora c USING (corpus_version)"""
        ).fetchall()
    own = [Document(*row) for name, *row in rows if name == corpus]
    others = [Document(*row) for name, *row in rows if name != corpus]
    for champion in champions:
        (own if champion.corpus == corpus else others).extend(read_rows(champion.folder / "documents.jsonl"))
    return own, others


def read_rows(file: Path) -> list[Document]:
    """The documents of a checkpoint; none where the file is gone or is no such file."""
    try:
        with file.open(encoding="utf-8") as lines:
            return [Document(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        return []


def _on_record(warehouse: Warehouse, corpus: str, ids: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Versions of the corpus that held one of the documents, and what was asked about them."""
    with warehouse.read() as con:
        versions = con.execute(
            """SELECT DISTINCT corpus_version FROM documents JOIN corpora USING (corpus_version)
            WHERE name = ? AND list_contains(?, document_id) ORDER BY 1""",
            [corpus, list(ids)],
        ).fetchall()
        named = [row[0] for row in versions]
        asked: list[str] = []
        for text, table in (("question", "questions"), ("query", "evidence_targets")):
            found = con.execute(
                f"SELECT DISTINCT {text} FROM {table} WHERE list_contains(?, corpus_version) "
                "AND list_has_any(document_ids, ?) ORDER BY 1",
                [named, list(ids)],
            ).fetchall()
            asked += [row[0] for row in found]
    return tuple(named), asked


def _only_corpus() -> str:
    """The corpus of the warehouse, where there is no champion to say which is meant.

    Raises:
        CorpusError: there is none, or there are several.
    """
    rows = Warehouse(paths.warehouse_file()).query("SELECT DISTINCT name FROM corpora ORDER BY 1")
    names = list(rows["name"])
    if len(names) != 1:
        raise CorpusError(
            f"there is no champion, and {len(names)} corpora on record: which one is meant is unclear",
            where=str(paths.data_path()),
            remedy="promote a checkpoint first (job `full`, or `zrag promote`)",
        )
    return names[0]
