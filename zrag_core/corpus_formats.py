"""The registry of corpus formats: one line each; what reads a format is its loader in `corpus/loaders/`.

It stands below the settings, which check names against it, so loaders are named here and imported when used.
"""

from __future__ import annotations

from dataclasses import dataclass

from zrag_core.registry import Registry


@dataclass(frozen=True, slots=True)
class CorpusFormat:
    """A format that corpora are read from.

    Attributes:
        name: as `corpus.format` gives it.
        summary: what `corpus.location` names, for messages; "" for a format without a location.
        loader: "module:class" of its `CorpusLoader`.
    """

    name: str
    summary: str
    loader: str


FORMATS: Registry[CorpusFormat] = Registry("corpus format")


def register_format(name: str, summary: str, loader: str) -> None:
    """Add a format; see `CorpusFormat`."""
    FORMATS.add(CorpusFormat(name, summary, loader))


# `auto` tries the others in this order.
register_format("auto", "any of the others", "zrag_core.corpus.loaders.auto:AutoLoader")
register_format("almanac", "", "zrag_core.corpus.loaders.almanac:AlmanacLoader")
register_format("native", "a folder with corpus.jsonl", "zrag_core.corpus.loaders.native:NativeLoader")
register_format("squad", "a SQuAD/KorQuAD .json (.gz) file", "zrag_core.corpus.loaders.squad:SquadLoader")
register_format("hotpotqa", "a HotpotQA .json (.gz) file", "zrag_core.corpus.loaders.hotpotqa:HotpotQaLoader")
register_format(
    "texts",
    "a folder of files (.md, .txt, .html, .pdf, .docx, .eml, .csv)",
    "zrag_core.corpus.loaders.texts:TextsLoader",
)
register_format("huggingface", "the name of a Hugging Face dataset", "zrag_core.corpus.loaders.huggingface:HubLoader")
