"""What is known of a corpus without reading it: its name, its key, and a fingerprint of its files."""

from __future__ import annotations

import hashlib
import json

from zrag_core.corpus.file_digests import file_digest
from zrag_core.corpus.loaders.base import Source, loader_of
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings


def corpus_name(settings: CorpusSettings) -> str:
    """The name that the corpus has once it is read."""
    return settings.name or loader_of(settings.format).name(Source(settings))


def corpus_key(settings: CorpusSettings) -> str:
    """The name under which a corpus is kept apart from all others: by runs, in the warehouse, and by its changes.

    A name that was chosen is the key, so that a corpus may be moved. Else the name is made unique by the number of a
    generated corpus' documents, or by a short hash of where the corpus lies.
    """
    return settings.name or loader_of(settings.format).key(Source(settings))


def is_there(settings: CorpusSettings) -> bool:
    """Whether something lies at the location, or the corpus needs no files (it is generated, or a dataset's name)."""
    source = Source(settings)
    return source.path.exists() or loader_of(settings.format).remote(source)


def source_fingerprint(settings: CorpusSettings) -> str:
    """Hash the bytes of a source's files (with their names), or the recipe of a generated corpus.

    Equal content gives an equal fingerprint whatever the files' times; a corpus that returns to an
    earlier state returns to its earlier fingerprint. Within a process only files that have changed are read again.
    A Hugging Face data set is known by its name alone: the hub is not asked.

    Raises:
        CorpusError: the location does not exist, holds no corpus (a share that is not mounted is an empty
            folder), or cannot be read.
    """
    source, loader = Source(settings), loader_of(settings.format)
    recipe = settings.model_dump(mode="json", exclude={"location"})
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    try:
        files = loader.files(source)
        if not files:
            if not loader.remote(source):
                empty = source.path.is_dir()
                what = "the folder holds no corpus (is it mounted?)" if empty else "no such file or folder"
                raise CorpusError(what, where=str(source.path), remedy="check corpus.location")
            digest.update(source.location.encode())
        for path in files:
            digest.update(f"\x1f{path.relative_to(source.path.parent).as_posix()}\x1f".encode())
            digest.update(file_digest(path))
    except OSError as error:
        raise CorpusError(f"cannot be read ({error.strerror})", where=str(error.filename or source.path)) from error
    return digest.hexdigest()[:16]
