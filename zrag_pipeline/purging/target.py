"""The documents that are to be erased: every version of them that is on record, and what was asked about them.

A document stands if the champion holds it, a command added it, or the newest version of a corpus in the warehouse has
it. What a standing document holds is not looked for. Whatever else is on record is history and protects nothing: where
it holds the text under another id (passages are numbered, files are renamed), it is erased with the document.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb

from zrag_core.corpus.overlay import Overlay, load_overlay
from zrag_core.corpus.types import Document
from zrag_core.errors import CheckpointError, CorpusError
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, all_champions
from zrag_pipeline.platform.checkpoint_documents import checkpoint_documents
from zrag_pipeline.platform.warehouse import Warehouse
from zrag_pipeline.purging.patterns import Patterns, letters, make_patterns


@dataclass(frozen=True)
class Target:
    """What is to be erased.

    Attributes:
        names: as given: ids of documents, or of what they were cut from.
        corpus: name of the corpus that they belong to.
        held: (corpus version, id) of each of them; what else stands under these ids in other versions stays.
        versions: corpus versions that held one of them, or quoted it, as far as they are known.
        documents: every version of them that was found.
        patterns: what is looked for.
        tombstones: by the name of each corpus that has them: what to record as removed.
    """

    names: tuple[str, ...]
    corpus: str
    held: frozenset[tuple[str, str]]
    versions: tuple[str, ...]
    documents: tuple[Document, ...]
    patterns: Patterns
    tombstones: Mapping[str, Mapping[str, tuple[Document, ...]]]

    def lines(self) -> list[str]:
        """What will be erased, for the terminal, without its text."""
        if not self.documents:
            return [f"corpus {self.corpus}: nothing is on record of {', '.join(self.names)}"]
        corpora = ", ".join(dict.fromkeys((self.corpus, *self.tombstones)))
        ids = list(dict.fromkeys(document.id for document in self.documents))
        shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        lines = [f"corpus {corpora}: {len(ids)} documents ({shown})"]
        sentences, titles = len(self.patterns.sentences), len(self.patterns.titles)
        lines.append(f"looked for: {sentences:,} sentences and questions, {titles:,} titles")
        if self.patterns.shared:
            lines.append(f"not looked for: {self.patterns.shared} that other documents (or an id) hold too, which stay")
        if self.patterns.plain:
            lines.append(f"not looked for: {len(self.patterns.plain)} titles of one common word (their sentences are)")
        return lines


class _Record(NamedTuple):
    """A document as it stands on record; one that a command added is in no version ("")."""

    corpus: str
    version: str
    stands: bool
    document: Document

    def named(self, name: str) -> bool:
        return name in (self.document.id, self.document.source_id)


def find_target(names: Sequence[str]) -> Target:
    """Find documents by their ids in everything that keeps documents.

    Raises:
        CorpusError: there is no champion to say which of several corpora is meant; an id is not on record, and was
            never removed by command; or all that it says stands in another document, so that nothing could be erased.
    """
    champions = all_champions()
    warehouse = Warehouse(paths.warehouse_file())
    corpora = list(warehouse.query("SELECT DISTINCT name FROM corpora ORDER BY 1")["name"])
    if not champions and len(corpora) != 1:
        raise CorpusError(
            f"there is no champion, and {len(corpora)} corpora on record: which one is meant is unclear",
            where=str(paths.data_path()),
            remedy="promote a checkpoint first (job `full`, or `zrag promote`)",
        )
    corpus = champions[0].corpus if champions else corpora[0]
    overlays = {name: load_overlay(paths.overlay_dir(name)) for name in (corpus, *corpora)}
    records = _records(warehouse, champions, overlays)
    meant = _meant(records, names, corpus, overlays)
    own = [record for found in meant.values() for record in found]
    # Texts are compared by their letters; signs alone by themselves.
    said = {text: letters(text) or text for text in dict.fromkeys(record.document.text for record in records)}
    texts = {said[record.document.text] for record in own}
    taken = set(own) | {r for r in records if any(map(r.named, names)) and said[r.document.text] in texts}
    standing = [record for record in records if record.stands and record not in taken]
    # What stands elsewhere as a whole is not this document: its number was another's before.
    texts -= {said[record.document.text] for record in standing}
    history = [record for record in records if not record.stands or record in taken]
    chosen = [record for record in history if said[record.document.text] in texts]
    documents = tuple({(r.document.id, r.document.content_hash): r.document for r in chosen}.values())
    remaining = dict.fromkeys(record.document.contents for record in standing)
    held = frozenset((r.version, name) for r in chosen for name in _about(r, names) if r.version)
    named = (*names, *(name for document in documents for name in (document.id, document.source_id)))
    patterns = make_patterns(documents, _asked(warehouse, held), remaining, named)
    for name, found in meant.items():
        _refuse_shared(name, found, standing, patterns)
    holds = {text: patterns.find(text) for text in dict.fromkeys(r.document.contents for r in history)}
    versions = {version for version, _ in held} | {r.version for r in history if holds[r.document.contents]}
    removed = [(record, name) for name, found in meant.items() for record in found]
    # A copy of the corpus may hold more under a file's name.
    removed += [(record, record.document.id) for record in taken.difference(own)]
    tombstones: dict[str, dict[str, tuple[Document, ...]]] = {}
    for record, name in removed:
        of_corpus = tombstones.setdefault(record.corpus, {})
        of_corpus[name] = tuple(dict.fromkeys((*of_corpus.get(name, ()), record.document)))
    return Target(tuple(names), corpus, held, tuple(sorted(versions - {""})), documents, patterns, tombstones)


def _records(warehouse: Warehouse, champions: Sequence[Champion], overlays: Mapping[str, Overlay]) -> list[_Record]:
    """Documents of every corpus and version, from the warehouse, the champions' checkpoints and the overlays."""
    with warehouse.read() as con:
        rows = con.execute(
            """SELECT c.name, c.corpus_version, c.created_at = max(c.created_at) OVER (PARTITION BY c.name),
                d.document_id, d.title, d.text, d.source_id, d.source_start
            FROM documents d JOIN corpora c USING (corpus_version)"""
        ).fetchall()
    records = []
    for name, version, newest, *row in rows:
        document = Document(*row)
        records.append(_Record(name, version, newest and not overlays[name].removes(document), document))
    for place, champion in enumerate(champions):
        held = documents_in(champion.folder)
        records += [_Record(champion.corpus, champion.corpus_version, place == 0, document) for document in held]
    for name, overlay in overlays.items():
        records += [_Record(name, "", True, document) for document in overlay.added]
    return records


def _meant(
    records: Sequence[_Record], names: Sequence[str], corpus: str, overlays: Mapping[str, Overlay]
) -> dict[str, list[_Record]]:
    """What stands on record under each name: in the champion's corpus, or else in another one."""
    meant: dict[str, list[_Record]] = {}
    for name in names:
        found = [record for record in records if record.named(name)]
        meant[name] = [record for record in found if record.corpus == corpus] or found
        if not found and not any(name in overlay.removed for overlay in overlays.values()):
            raise CorpusError(
                f"no document '{name}' is on record",
                where=f"corpus {corpus}",
                remedy="`zrag documents` lists those in the memory; nothing was erased",
            )
    return meant


def _refuse_shared(name: str, found: Sequence[_Record], standing: Iterable[_Record], patterns: Patterns) -> None:
    """Refuse to report as erased what stays, because another document says the same.

    Raises:
        CorpusError: nothing of what stands under this name is looked for.
    """
    present = [record.document for record in found if record.stands] or [record.document for record in found]
    if not present or any(patterns.find(document.text) == "sentence" for document in present):
        return
    texts = [text for document in present if (text := letters(document.text))]
    if not texts:  # signs alone are looked for nowhere
        return
    holders = [r for r in standing if any(text in letters(r.document.text) for text in texts)]
    where = dict.fromkeys(f"'{r.document.id}' (corpus {r.corpus})" for r in holders)
    more = f" and {len(where) - 3} more" if len(where) > 3 else ""
    raise CorpusError(
        f"all that '{name}' says stands in other documents too, so nothing of it can be erased",
        where=(", ".join(list(where)[:3]) or "in parts, in several documents") + more,
        remedy=f"purge them together (zrag remove --purge {name} ID ...); `zrag remove {name}` takes it out of the "
        "memory alone; nothing was erased",
    )


def _about(record: _Record, names: Collection[str]) -> set[str]:
    """Names by which questions may call a document: its id, and its source's where that was given."""
    return {record.document.id} | ({record.document.source_id} & set(names))


def documents_in(folder: Path) -> tuple[Document, ...]:
    """The documents of a checkpoint; none where it is gone or is no such folder."""
    with contextlib.suppress(CheckpointError):
        return checkpoint_documents(folder)
    return ()


def _asked(warehouse: Warehouse, held: Collection[tuple[str, str]]) -> list[str]:
    """What was asked about documents, each in its corpus version."""
    asked: list[str] = []
    with warehouse.read() as con:
        mark_held(con, held)
        for text, table in (("question", "questions"), ("query", "evidence_targets")):
            found = con.execute(
                f"""SELECT DISTINCT {text} FROM {table} JOIN held USING (corpus_version)
                WHERE list_has_any(document_ids, held.ids) ORDER BY 1"""
            ).fetchall()
            asked += [row[0] for row in found]
    return asked


def mark_held(con: duckdb.DuckDBPyConnection, held: Collection[tuple[str, str]]) -> None:
    """Ids of the documents by corpus version, as the temporary table `held`."""
    pairs = sorted(held)
    con.execute(
        """CREATE OR REPLACE TEMP TABLE held AS SELECT corpus_version, list(id) AS ids FROM
        (SELECT unnest(?::VARCHAR[]) AS corpus_version, unnest(?::VARCHAR[]) AS id) GROUP BY 1""",
        [[version for version, _ in pairs], [id_ for _, id_ in pairs]],
    )
