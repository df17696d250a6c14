"""A corpus written into Z in shards: each one's rows depend on its own documents, and join to the whole memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.memory_tables import Tables
from zrag_core.model.architecture.row_table import RowTable
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.skill_folder import load_skill
from zrag_core.model.store.write import WritingReport, write_documents
from zrag_core.settings import WritingSettings
from zrag_core.sharding.engine import Engine
from zrag_core.sharding.shards import cut

_CPU = torch.device("cpu")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DocumentShard:
    """Neighbouring documents of a corpus, and the evidence targets that they are refined on.

    Attributes:
        start: number of the first one in the corpus.
        total: documents of the corpus.
    """

    documents: Sequence[Document]
    targets: Sequence[EvidenceTarget]
    start: int
    total: int


@dataclass(frozen=True, kw_only=True)
class WrittenRows(WritingReport):
    """Rows of a memory, and what they took: seconds are summed over the workers.

    Attributes:
        tables: everything that is kept of the documents, in their order.
        frequency: documents that hold each word, int32 [BUCKETS].
    """

    tables: Tables
    frequency: torch.Tensor


class DocumentWriter:
    """Writes shards of documents with a model, whose own memory stays as it is.

    Args:
        on_progress: see `write_documents`; documents are counted over the whole corpus.
    """

    def __init__(self, model: SeparatedMemory, settings: WritingSettings, on_progress: Progress | None = None):
        self._model, self._settings, self._on_progress = model, settings, on_progress

    def __call__(self, shard: DocumentShard) -> WrittenRows:
        """The rows of a shard, in main memory."""

        def on_progress(phase: str, done: int, _total: int) -> None:
            if self._on_progress:
                self._on_progress(phase, shard.start + done, shard.total)

        model, documents = self._model, shard.documents
        written = write_documents(model, documents, shard.targets, self._settings, on_progress=on_progress)
        tables = model.tables_of(documents, written.z, written.spans)
        return WrittenRows(
            tables={name: table.to(_CPU) for name, table in tables.items()},
            frequency=document_frequency(documents),
            encode_seconds=written.encode_seconds,
            refine_seconds=written.refine_seconds,
            steps=written.steps,
            loss=written.loss,
            longest=written.longest,
            studied=written.studied,
        )


@dataclass(frozen=True, slots=True)
class WritingRecipe:
    """A writer with the skill of a folder, which every machine can read.

    Attributes:
        threads: CPU threads.
    """

    skill: Path
    device: str
    threads: int
    settings: WritingSettings

    def open(self) -> DocumentWriter:
        """See `Recipe`."""
        torch.set_num_threads(self.threads)
        return DocumentWriter(load_skill(self.skill, device=self.device).model, self.settings)


def write_corpus(
    engine: Engine,
    recipe: WritingRecipe,
    shards: Sequence[DocumentShard],
    *,
    own: DocumentWriter | None = None,
    on_done: Callable[[int], None] | None = None,
) -> WrittenRows:
    """Write the shards of a corpus; rows are in the documents' order. For the arguments see `Engine.run`."""
    return _joined(engine.run(recipe, shards, own=own, on_done=on_done))


def document_shards(documents: Sequence[Document], targets: Sequence[EvidenceTarget], size: int) -> list[DocumentShard]:
    """A corpus in shards of `size` documents, each with the targets that lead to one document of it alone."""
    parts = cut(documents, size)
    shard_of = {document.id: number for number, part in enumerate(parts) for document in part}
    asked: list[list[EvidenceTarget]] = [[] for _ in parts]
    for target in targets:
        if len(target.document_ids) == 1 and target.document_ids[0] in shard_of:
            asked[shard_of[target.document_ids[0]]].append(target)
    return [
        DocumentShard(part, own, number * size, len(documents))
        for number, (part, own) in enumerate(zip(parts, asked, strict=True))
    ]


def _joined(parts: Sequence[WrittenRows]) -> WrittenRows:
    return WrittenRows(
        tables={name: RowTable.joined([part.tables[name] for part in parts]) for name in parts[0].tables},
        frequency=torch.stack([part.frequency for part in parts]).sum(0, dtype=torch.int32),
        encode_seconds=sum(part.encode_seconds for part in parts),
        refine_seconds=sum(part.refine_seconds for part in parts),
        steps=torch.cat([part.steps for part in parts]),
        loss=torch.cat([part.loss for part in parts]),
        longest=max(part.longest for part in parts),
        studied=tuple(digest for part in parts for digest in part.studied),
    )
