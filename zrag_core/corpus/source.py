"""A cheap fingerprint of where a corpus comes from, for noticing that its content has changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from zrag_core.corpus.texts import text_files
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings

_CHUNK = 1 << 20


def source_fingerprint(settings: CorpusSettings) -> str:
    """Hash the bytes of a source's files (with their names), or the recipe of a generated corpus.

    Equal content gives an equal fingerprint whatever the files' times; a corpus that returns to an
    earlier state returns to its earlier fingerprint. A Hugging Face data set is known by its name alone:
    the hub is not asked.

    Raises:
        CorpusError: the location does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    recipe = settings.model_dump(mode="json", exclude={"location"})
    digest.update(json.dumps(recipe, sort_keys=True).encode())
    if settings.format != "almanac":
        assert settings.location is not None
        path = Path(settings.location).expanduser()
        if not path.exists() and settings.format not in ("auto", "huggingface"):
            raise CorpusError("no such file or folder", where=str(path), remedy="check corpus.location")
        files = _files(path)
        if not files:
            digest.update(settings.location.encode())
        for file in files:
            digest.update(f"\x1f{file.relative_to(path.parent).as_posix()}\x1f".encode())
            _update(digest, file)
    return digest.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    native = sorted(p for p in path.iterdir() if p.name.removesuffix(".gz") in ("corpus.jsonl", "questions.jsonl"))
    return native or text_files(path)


def _update(digest: hashlib._Hash, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise CorpusError(f"cannot be read ({error.strerror})", where=str(file)) from error
