"""A cheap fingerprint of where a corpus comes from, for noticing that its content has changed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from zrag_core.corpus.loaders.native import find_file
from zrag_core.corpus.loaders.texts import SUFFIXES, text_files
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings

_CHUNK = 1 << 20
_DATASET_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FILE_SUFFIXES = (".json", ".jsonl", ".gz", ".parquet", ".csv", ".zip", *SUFFIXES)


def names_dataset(location: str) -> bool:
    """Whether a location where nothing exists can be the name of a Hugging Face dataset ("squad", "KorQuAD/v1").

    Anything else is a path: absolute, starting with "." or "~", of several folders, or with a file's ending.
    """
    return bool(_DATASET_NAME.fullmatch(location)) and not location.endswith(_FILE_SUFFIXES)


def corpus_name(settings: CorpusSettings) -> str:
    """The name that the corpus has once it is read, without reading it."""
    if settings.name:
        return settings.name
    if settings.format == "almanac":
        from zrag_core.corpus.almanac.documents import corpus_name as generated_name

        return generated_name(settings.almanac.language, settings.almanac.seed, "evaluation")
    location = settings.location or ""
    path = Path(location).expanduser()
    if settings.format == "huggingface" or not path.exists():
        return location.rstrip("/").rsplit("/", 1)[-1]
    if path.is_dir():
        return path.resolve().name
    if path.suffix.lower() in SUFFIXES:
        return path.stem
    return path.name.removesuffix(".gz").removesuffix(".json")


def corpus_key(settings: CorpusSettings) -> str:
    """The name under which a corpus is kept apart from all others: by runs, in the warehouse, and by its changes.

    A name that was chosen is the key, so that a corpus may be moved. Else the name is made unique by the number of a
    generated corpus' documents, or by a short hash of where the corpus lies.
    """
    name = corpus_name(settings)
    if settings.name:
        return name
    if settings.format == "almanac":
        return f"{name}-{settings.almanac.documents}"
    location = settings.location or ""
    path = Path(location).expanduser()
    place = location.rstrip("/") if settings.format == "huggingface" or not path.exists() else str(path.resolve())
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def source_fingerprint(settings: CorpusSettings) -> str:
    """Hash the bytes of a source's files (with their names), or the recipe of a generated corpus.

    Equal content gives an equal fingerprint whatever the files' times; a corpus that returns to an
    earlier state returns to its earlier fingerprint. A Hugging Face data set is known by its name alone:
    the hub is not asked.

    Raises:
        CorpusError: the location does not exist, holds no corpus (a share that is not mounted is an empty
            folder), or cannot be read.
    """
    digest = hashlib.sha256()
    recipe = settings.model_dump(mode="json", exclude={"location"})
    digest.update(json.dumps(recipe, sort_keys=True).encode())
    if settings.format != "almanac":
        location = settings.location or ""
        path = Path(location).expanduser()
        try:
            files = _files(path)
            if not files:
                _check_dataset(settings, location, path)
                digest.update(location.encode())
            for file in files:
                digest.update(f"\x1f{file.relative_to(path.parent).as_posix()}\x1f".encode())
                _update(digest, file)
        except OSError as error:
            raise CorpusError(f"cannot be read ({error.strerror})", where=str(error.filename or path)) from error
    return digest.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    documents, questions = find_file(path, "corpus.jsonl"), find_file(path, "questions.jsonl")
    if documents is None:
        return text_files(path)
    return [documents, questions] if questions is not None else [documents]


def _check_dataset(settings: CorpusSettings, location: str, path: Path) -> None:
    """Raise CorpusError unless a location without corpus files is a dataset that the hub's library finds."""
    if path.is_dir():
        found = settings.format == "huggingface" and any(path.iterdir())
        what = "the folder holds no corpus (is it mounted?)"
    else:
        found = settings.format in ("auto", "huggingface") and names_dataset(location)
        what = "no such file or folder"
    if not found:
        raise CorpusError(what, where=str(path), remedy="check corpus.location")


def _update(digest: hashlib._Hash, file: Path) -> None:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
