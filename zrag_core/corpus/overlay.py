"""Changes to a corpus that were made by command: documents added and removed, applied after the source is read.

The source itself is the user's and is never written. An overlay is a folder of two files, `added.jsonl` (one document
a line) and `removed.json` (tombstones: ids and content hashes, never text), replaced together.

What a command said stands until another command says otherwise: an added document hides what the source has under
its id (or, cut into passages, under its source's id), and a removed id stays removed, also when the source changes
what stands there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from zrag_core.corpus.cleaning import unique
from zrag_core.corpus.offsets import evidence_offsets, holds_answer
from zrag_core.corpus.self_study import is_synthetic
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.files import atomic_folder
from zrag_core.sentences import split_sentences

FORMAT_VERSION = 1
NONE = "none"
_ADDED = "added.jsonl"
_REMOVED = "removed.json"


@dataclass(frozen=True, slots=True)
class Overlay:
    """What commands have changed.

    Attributes:
        added: documents added or replaced, in the order they came; none of them is removed.
        removed: tombstones: the id of a document, or of the longer document that passages were cut from, with the
            content hashes of what was removed.
    """

    added: tuple[Document, ...] = ()
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing was changed by command."""
        return not self.added and not self.removed

    def removes(self, document: Document) -> bool:
        """Whether a tombstone names this document, or the one that it was cut from."""
        return document.id in self.removed or document.source_id in self.removed

    def with_added(self, documents: Sequence[Document]) -> Overlay:
        """Add documents; what was added under the same ids or sources goes, and so do tombstones for them.

        Raises:
            CorpusError: two of the documents share an id.
        """
        ids = [document.id for document in documents]
        if twice := next((value for value in ids if ids.count(value) > 1), None):
            raise CorpusError(f"the id '{twice}' is used more than once")
        names = _names(documents)
        kept = tuple(document for document in self.added if names.isdisjoint(_names([document])))
        removed = {name: hashes for name, hashes in self.removed.items() if name not in names}
        return Overlay((*kept, *documents), removed)

    def without_added(self, folder: Path) -> Overlay:
        """Without the added documents whose file stands in a folder: from now on they are read there."""
        return replace(self, added=tuple(d for d in self.added if not (folder / (d.source_id or d.id)).is_file()))

    def with_removed(self, removed: Mapping[str, Iterable[Document]]) -> Overlay:
        """Add a tombstone for each name (of a document or a source), with the documents that stand behind it."""
        kept = tuple(d for d in self.added if d.id not in removed and d.source_id not in removed)
        hashes = {name: tuple(d.content_hash for d in documents) for name, documents in removed.items()}
        # What was removed before has nothing behind it any more, and keeps its hashes.
        known = {name: found for name, found in hashes.items() if found or name not in self.removed}
        return Overlay(kept, {**self.removed, **known})


def find_documents(documents: Iterable[Document], name: str) -> tuple[Document, ...]:
    """The document with this id, and the passages that were cut from the longer document with this id."""
    return tuple(document for document in documents if name in (document.id, document.source_id))


def load_overlay(folder: Path) -> Overlay:
    """Read an overlay; a folder that does not exist is an empty one.

    Raises:
        CorpusError: a file is damaged, or was written by a newer version.
    """
    if not folder.exists():
        return Overlay()
    file = folder / _ADDED
    try:
        with file.open(encoding="utf-8") as lines:
            added = tuple(Document(**json.loads(line)) for line in lines)
        file = folder / _REMOVED
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {stored['format_version']} is not {FORMAT_VERSION}")
        return Overlay(added, {name: tuple(hashes) for name, hashes in stored["removed"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"the changes made by command cannot be read ({str(error).splitlines()[0]})",
            where=str(file),
            remedy="mend the file, or move the folder away to be left with the source alone",
        ) from error


def save_overlay(folder: Path, overlay: Overlay) -> None:
    """Write both files; a reader sees the former overlay or this one.

    Raises:
        OSError: the folder cannot be written.
    """
    stored = {"format_version": FORMAT_VERSION, "removed": {name: overlay.removed[name] for name in overlay.removed}}
    with atomic_folder(folder) as temporary:
        with (temporary / _ADDED).open("w", encoding="utf-8") as file:
            for document in overlay.added:
                file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
        text = json.dumps(stored, ensure_ascii=False, indent=2) + "\n"
        (temporary / _REMOVED).write_text(text, encoding="utf-8")


def overlay_fingerprint(folder: Path) -> str:
    """A hash that changes when the overlay says something else; `NONE` where it changes nothing.

    Raises:
        CorpusError: the overlay cannot be read.
    """
    overlay = load_overlay(folder)
    if overlay.empty:
        return NONE
    payload = [[(d.content_hash, d.source_id, d.source_start) for d in overlay.added], sorted(overlay.removed)]
    return hashlib.sha256(json.dumps(payload, ensure_ascii=False).encode("utf-8")).hexdigest()[:16]


def apply_overlay(corpus: Corpus, overlay: Overlay) -> Corpus:
    """Apply the changes; a corpus to which they were applied before stays as it is.

    A changed document keeps its place, new ones come last. Questions about removed documents go with them. A question
    about a changed document stays where an answer still stands in it, and loses evidence that does not.

    Raises:
        CorpusError: nothing would be left.
    """
    if overlay.empty:
        return corpus
    documents = _changed_documents(corpus, overlay)
    if not documents:
        raise CorpusError("every document was removed by command", where=corpus.name, remedy="add one (zrag add FILE)")
    back = {document.id for document in overlay.added}
    gone = {document.id for document in corpus.documents if overlay.removes(document)} - back
    successors = _successors(corpus, overlay)
    followed = (_follow(question, gone | set(overlay.removed), successors) for question in corpus.questions)
    questions = tuple(question for question in followed if question is not None)
    before = {document.id: document.content_hash for document in corpus.documents}
    after = {document.id: document.content_hash for document in documents}
    counts = {
        "added": sum(name not in before for name in after),
        "changed": sum(before.get(name, value) != value for name, value in after.items()),
        "removed": sum(name not in after for name in before),
    }
    notes = ["by command (zrag add, zrag remove): " + ", ".join(f"{n} documents {what}" for what, n in counts.items())]
    if lost := len(corpus.questions) - len(questions):
        notes.append(f"{lost} questions about removed or changed documents left out")
    return replace(corpus, documents=documents, questions=questions, notes=(*corpus.notes, *notes))


def _names(documents: Iterable[Document]) -> set[str]:
    """Ids and sources of documents: what they take the place of."""
    return {name for document in documents for name in (document.id, document.source_id) if name}


def _changed_documents(corpus: Corpus, overlay: Overlay) -> tuple[Document, ...]:
    place = {name: source for source, group in _by_source(overlay.added).items() for name in _names(group)}
    waiting = _by_source(overlay.added)
    documents: list[Document] = []
    for document in corpus.documents:
        if overlay.removes(document) and document.id not in place:
            continue
        source = place.get(document.id, place.get(document.source_id))
        if source is None:
            documents.append(document)
        else:
            documents += waiting.pop(source, ())
    for group in waiting.values():
        documents += group
    return tuple(documents)


def _by_source(documents: Iterable[Document]) -> dict[str, list[Document]]:
    grouped: dict[str, list[Document]] = {}
    for document in documents:
        grouped.setdefault(document.source_id or document.id, []).append(document)
    return grouped


def _successors(corpus: Corpus, overlay: Overlay) -> dict[str, tuple[Document, ...]]:
    """Added documents by the id of each document of the corpus that they changed."""
    changed: dict[str, tuple[Document, ...]] = {}
    by_id = {document.id: document for document in overlay.added}
    by_source = _by_source(overlay.added)
    for document in corpus.documents:
        same = by_id.get(document.id)
        if same is not None and same.content_hash == document.content_hash:
            continue
        found = [same] if same is not None else []
        found += by_source.get(document.source_id or document.id, ())
        if found:
            changed[document.id] = tuple({d.id: d for d in found}.values())
    return changed


def _follow(question: Question, removed: set[str], successors: Mapping[str, tuple[Document, ...]]) -> Question | None:
    """The question as it is about the changed corpus; None where it is about nothing in it."""
    about = question.metadata.get("about_document")
    gold = question.document_ids
    if not removed.isdisjoint(gold) or about in removed:
        return None
    if successors.keys().isdisjoint(gold):
        return question
    document_ids: list[str] = []
    texts: list[str] = []
    for name in gold:
        if name not in successors:
            document_ids.append(name)
            continue
        holders = [d for d in successors[name] if holds_answer(d.text, question.golden_answers, question.language)]
        document_ids += [document.id for document in holders]
        texts += [document.text for document in holders]
    if not texts:
        return None
    evidence = question.evidence
    if is_synthetic(question) and not any(evidence in _sentences(text) for text in texts):
        return None  # it asks for that sentence, which is held out from self-study as it stands
    if evidence is not None and not any(evidence_offsets(text, evidence) for text in texts):
        evidence = None
    return replace(question, document_ids=unique(document_ids), evidence=evidence)


def _sentences(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text)]
