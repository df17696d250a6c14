"""A folder of files as people have them, read as passages by heading and length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from zrag_core.corpus.cleaning import clean
from zrag_core.corpus.conversion.kinds import CONVERTERS, convert
from zrag_core.corpus.conversion.text_page import CannotConvert, Page
from zrag_core.corpus.folders import visible_files
from zrag_core.corpus.loaders.base import CorpusLoader, Source
from zrag_core.corpus.passages import titled_pieces
from zrag_core.corpus.types import Corpus, Document
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.text import is_blank

_NATIVE = ("corpus.jsonl", "questions.jsonl")  # what is left of a corpus in native format is no text


class TextsLoader(CorpusLoader):
    """Reads every file of a known kind below a folder (or one such file); see `visible_files` for hidden and linked
    ones.

    A file is divided at its headings (a PDF at its pages), and every section into passages of at most
    `passage_tokens` evidence tokens. Passage n of a file is called `relative/path.md#n`; its title is the file's title
    or name and the path of its headings (a first-level heading takes the place of the name), and `source_start` counts
    in the text that the file was turned into. What is left out is named in the notes.
    """

    suffixes = tuple(CONVERTERS)

    def detects(self, source: Source) -> bool:
        """Whether the source is a file of a known kind, or a folder that holds some."""
        path = source.path
        return bool(self.files(source)) and (path.is_dir() or path.suffix.lower() in self.suffixes)

    def files(self, source: Source) -> list[Path]:
        """The files of known kinds in a fixed order."""
        if not source.path.is_dir():
            return super().files(source)
        known = (path for path in visible_files(source.path)[0] if path.suffix.lower() in self.suffixes)
        return [path for path in known if path.name not in _NATIVE]

    def load(self, source: Source) -> Corpus:
        """Read and divide the files."""
        location, paths = source.path, self.files(source)
        root = location if location.is_dir() else location.parent
        documents: list[Document] = []
        notes: list[str] = []
        counts: Counter[str] = Counter()
        unread: list[str] = []
        empty = bare_headings = 0
        for path in paths:
            name = clean(path.relative_to(root).as_posix())
            try:
                page = convert(path.read_bytes(), path.name)
            except (CannotConvert, OSError) as error:
                reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
                unread.append(f"{name}: {reason}")
                continue
            counts[path.suffix.lower()] += 1
            notes += [f"{name}: {note}" for note in page.notes]
            passages, bare = _passages(page, name, source.settings.passage_tokens)
            documents += passages
            empty += not passages
            bare_headings += bare
        if not documents:
            if unread:
                raise ProblemList(f"none of the {len(paths)} files can be read", unread, limit=50)
            held = f"{len(paths)} empty text files" if paths else f"no file of a known kind ({', '.join(CONVERTERS)})"
            raise CorpusError(
                f"the folder holds {held}", where=str(location), remedy="put texts there, or name another"
            )
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
        notes.insert(0, f"{counts.total()} files ({kinds}) read as {len(documents)} passages")
        notes += [f"left out: {line}" for line in (*unread, *_others(location, paths))]
        if empty:
            notes.append(f"{empty} files without text left out")
        if bare_headings:
            notes.append(f"{bare_headings} heading{'s' * (bare_headings > 1)} left out that nothing stands below")
        return Corpus(self.name(source), tuple(documents), (), tuple(notes))


def _others(location: Path, read: list[Path]) -> list[str]:
    """What else a folder holds: links to nothing, and the files that are of no known kind, by kind."""
    if not location.is_dir():
        return []
    known = set(read)
    files, lost = visible_files(location)
    counts = Counter(path.suffix.lower() or "no suffix" for path in files if path not in known)
    kinds = [f"{n} file{'s' if n > 1 else ''} of a kind that is not read ({suffix})" for suffix, n in counts.items()]
    return lost + kinds


def _passages(page: Page, name: str, limit: int) -> tuple[list[Document], int]:
    """Return a file's passages, and how many of its headings stand over nothing at all."""
    stem = page.title or Path(name).stem
    documents: list[Document] = []
    bare = 0
    for position, section in enumerate(page.sections):
        top = section.path[0] if section.path and section.path[0] else stem
        title = " / ".join(part for part in (top, *section.path[1:]) if part)
        found = titled_pieces(title, page.text[section.start : section.end], limit)
        pieces = [(heading, piece) for heading, piece in found if not is_blank(piece.text)]
        following = page.sections[position + 1].path if position + 1 < len(page.sections) else ()
        if section.path and not pieces and following[: len(section.path)] != section.path:
            bare += 1
        for heading, piece in pieces:
            start = section.start + piece.start
            documents.append(
                Document(f"{name}#{len(documents)}", heading, piece.text, source_id=name, source_start=start)
            )
    return documents, bare
