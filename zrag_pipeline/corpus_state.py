"""Which corpus a run reads and what it holds, in short: for the sensor, for runs' tags, and for stale assets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zrag_core.corpus.source import source_fingerprint
from zrag_core.settings import CorpusSettings

if TYPE_CHECKING:
    import dagster as dg

# Tags of Dagster runs. A run is asked for content, and reads what is there when it comes to it.
CORPUS_TAG = "zrag.corpus"
ASKED_TAG = "zrag.corpus_fingerprint"
READ_TAG = "zrag.corpus_read"


def corpus_fingerprint(settings: CorpusSettings) -> str:
    """Fingerprint of the corpus' content, wherever it comes from: equal content, equal fingerprint.

    Raises:
        CorpusError: the source does not exist or cannot be read.
    """
    return source_fingerprint(settings)


def corpus_label(settings: CorpusSettings) -> str:
    """Say which corpus this is, whatever it holds at the moment: its name or place, or the almanac's world."""
    if settings.name:
        return settings.name
    if settings.format == "almanac":
        return f"almanac {settings.almanac.language} {settings.almanac.seed}"
    path = Path(settings.location or "").expanduser()
    return str(path.absolute()) if path.exists() else str(settings.location)


def observation(fingerprint: str) -> dg.AssetObservation:
    """The event that tells Dagster which content `raw_corpus` holds: what was made from other content is stale."""
    import dagster as dg

    return dg.AssetObservation("raw_corpus", tags={"dagster/data_version": fingerprint})


def read_tags(settings: CorpusSettings, before: str) -> dict[str, str]:
    """Tags of a run that has just read the corpus.

    Args:
        settings: where the corpus is.
        before: its fingerprint before it was read; where it is another now, nobody knows what was read.
    """
    now = corpus_fingerprint(settings)
    return {CORPUS_TAG: corpus_label(settings), READ_TAG: now if now == before else "changed while it was read"}
