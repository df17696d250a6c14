"""A folder of Markdown and plain text files, read as passages by heading and length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zrag_core.corpus.loaders.base import CorpusLoader, Source
from zrag_core.corpus.loaders.rows import Problems, clean, not_utf8, unreadable
from zrag_core.corpus.passages import split_text
from zrag_core.corpus.types import Corpus, Document
from zrag_core.errors import CorpusError

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")


@dataclass(frozen=True, slots=True)
class _Section:
    """The text below one heading: `start` to `end` of the file's text, under the headings in `path`."""

    path: tuple[str, ...]
    start: int
    end: int


class TextsLoader(CorpusLoader):
    """Reads every .md and .txt file below a folder (or one such file); hidden files and folders are skipped.

    A Markdown file is divided at its `#` headings, and every section, like every plain text, into passages of at
    most `passage_tokens` evidence tokens. Passage n of a file is called `relative/path.md#n`; its title is the
    file's name and the path of its headings (a first-level heading takes the place of the name), and `source_start`
    counts in the file's cleaned text.
    """

    suffixes = (".md", ".txt")

    def detects(self, source: Source) -> bool:
        """Whether the source is a text file, or a folder that holds some."""
        path = source.path
        return bool(self.files(source)) and (path.is_dir() or path.suffix.lower() in self.suffixes)

    def files(self, source: Source) -> list[Path]:
        """The text files in a fixed order."""
        folder = source.path
        if not folder.is_dir():
            return super().files(source)
        found = (path for path in folder.rglob("*") if path.suffix.lower() in self.suffixes and path.is_file())
        visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
        return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())

    def load(self, source: Source) -> Corpus:
        """Read and divide the files."""
        location, paths = source.path, self.files(source)
        root = location if location.is_dir() else location.parent
        problems = Problems()
        documents: list[Document] = []
        empty, bare_headings = 0, 0
        for path in paths:
            try:
                text = clean(path.read_bytes().decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                remedy = "save it as UTF-8 (iconv -f CP949 -t UTF-8 for older Korean)"
                problems.add(str(path), f"{not_utf8(error)}; {remedy}")
                continue
            except OSError as error:
                raise unreadable(path, error) from error
            name = clean(path.relative_to(root).as_posix())
            markdown = path.suffix.lower() == ".md"
            passages, bare = _passages(text, name, markdown, source.settings.passage_tokens)
            documents += passages
            empty += not passages
            bare_headings += bare
        problems.raise_if_any(str(location))
        if not documents:
            held = f"{len(paths)} empty text files" if paths else "no .md or .txt file"
            raise CorpusError(
                f"the folder holds {held}", where=str(location), remedy="put texts there, or name another"
            )
        notes = [f"{len(paths)} text files read as {len(documents)} passages"]
        if empty:
            notes.append(f"{empty} files without text left out")
        if bare_headings:
            notes.append(f"{bare_headings} headings without text or headings below them left out")
        return Corpus(self.name(source), tuple(documents), (), tuple(notes))


def _passages(text: str, name: str, markdown: bool, limit: int) -> tuple[list[Document], int]:
    """Return a file's passages, and how many of its headings stand over nothing at all."""
    stem = Path(name).stem
    sections = list(_sections(text)) if markdown else [_Section((), 0, len(text))]
    documents: list[Document] = []
    bare = 0
    for position, section in enumerate(sections):
        pieces = split_text(text[section.start : section.end], limit)
        following = sections[position + 1].path if position + 1 < len(sections) else ()
        if section.path and not pieces and following[: len(section.path)] != section.path:
            bare += 1
        top = section.path[0] if section.path and section.path[0] else stem
        title = " / ".join(part for part in (top, *section.path[1:]) if part)
        for piece in pieces:
            start = section.start + piece.start
            documents.append(
                Document(f"{name}#{len(documents)}", title, piece.text, source_id=name, source_start=start)
            )
    return documents, bare


def _sections(text: str) -> Iterator[_Section]:
    """Divide Markdown at its ATX headings; heading lines belong to no section, code fences hold no headings.

    A path has one entry per heading level, "" where a level is skipped.
    """
    path: tuple[str, ...] = ()
    start = position = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)
        heading = None if fence or mark else _HEADING.match(line.rstrip("\n"))
        if heading:
            yield _Section(path, start, position)
            level = len(heading.group(1))
            path = (*(path + ("",) * level)[: level - 1], heading.group(2))
            start = position + len(line)
        position += len(line)
    yield _Section(path, start, len(text))
