"""The fingerprint of a corpus and the tags of runs that read it; the sensor and stale assets rest on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zrag_core.corpus.overlay import NONE, overlay_fingerprint
from zrag_core.corpus.source import corpus_key, source_fingerprint
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings
from zrag_pipeline.platform import paths

if TYPE_CHECKING:
    import dagster as dg

# Tags of Dagster runs. A run is asked for content, and reads what is there when it comes to it.
CORPUS_TAG = "zrag.corpus"
ASKED_TAG = "zrag.corpus_fingerprint"
READ_TAG = "zrag.corpus_read"


def corpus_fingerprint(settings: CorpusSettings) -> str:
    """Fingerprint of the source's content, and of what `zrag add` and `zrag remove` changed: equal content, equal text.

    Raises:
        CorpusError: the source does not exist, or it or the changes cannot be read.
    """
    source, changes = source_fingerprint(settings), overlay_fingerprint(paths.overlay_dir(corpus_key(settings)))
    return source if changes == NONE else f"{source}-{changes}"


def readable_fingerprint(settings: CorpusSettings) -> str | None:
    """The fingerprint, or None for a corpus that cannot be read (the error is left to its reading)."""
    try:
        return corpus_fingerprint(settings)
    except CorpusError:
        return None


def observation(fingerprint: str) -> dg.AssetObservation:
    """The event that tells Dagster which content `raw_corpus` holds: what was made from other content is stale."""
    import dagster as dg

    return dg.AssetObservation("raw_corpus", tags={"dagster/data_version": fingerprint})


def read_tags(settings: CorpusSettings, before: str | None) -> dict[str, str]:
    """Tags of a run that has just read the corpus.

    Args:
        settings: where the corpus is.
        before: its fingerprint before it was read; where it is another now, nobody knows what was read.
    """
    now = corpus_fingerprint(settings)
    return {CORPUS_TAG: corpus_key(settings), READ_TAG: now if now == before else "changed while it was read"}
