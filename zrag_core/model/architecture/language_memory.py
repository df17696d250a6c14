"""The memory of a pretrained LLM: slots are a code of its own token embeddings, which it reads as it reads text.

write   slot = codec of `stride` tokens; no forward pass (`TokenCodec`)
route   words, and keys of meaning from the LLM's hidden states (`LanguageRouter`)
read    the LLM gets the slots' token vectors between the words of a prompt (`SlotReader`)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import UNUSED, Sentences
from zrag_core.model.architecture.language_router import ABSENT, LAYERS, LanguageRouter
from zrag_core.model.architecture.mean_states import mean_states
from zrag_core.model.architecture.memory_tables import KEYS, SLOTS, TEXT_WORDS, TITLE_WORDS, Tables
from zrag_core.model.architecture.row_table import RowTable, as_bytes
from zrag_core.model.architecture.sentence_features import LANGUAGE_FEATURES, language_weights
from zrag_core.model.architecture.slot_reader import TITLE_SLOTS, SlotReader
from zrag_core.sentences import split_sentences
from zrag_core.settings import CodecSettings, SeparatedSettings

_TITLE_TOKENS = 24  # longer titles are cut
_KEY_TOKENS = 96  # longer sentences are cut for their key


class LanguageMemory(SlotReader):
    """A memory that a pretrained LLM reads; theta is its LoRA adapter, the codec and the router's map.

    Args:
        backbone: the LLM.
        settings: of the policy; slots, width and stride are the codec's.
        codec: shape of the slots.
    """

    table_names = (SLOTS, KEYS, TITLE_WORDS, TEXT_WORDS, TITLE_SLOTS)
    absent_key = ABSENT
    confidence_features = LANGUAGE_FEATURES
    fits_fewer_slots = False  # the codec's stride is fixed

    def __init__(self, backbone: Backbone, settings: SeparatedSettings, codec: CodecSettings):
        self._codec_settings = codec
        super().__init__(backbone, settings)

    def _slots_and_width(self, settings: SeparatedSettings) -> tuple[int, int]:
        return 1, self._codec_settings.width

    @property
    def _width(self) -> int:
        return self._codec_settings.width

    def _make_writing_heads(self) -> None:
        own = self._codec_settings
        router = LanguageRouter(self.backbone.hidden_size * len(LAYERS), own.key_width)
        self.router = router.to(self.backbone.device)

    def plain_ranking(self) -> torch.Tensor:
        """Weights [2, 2, F] before they were fitted: verbatim or own words, first choice or ranking."""
        return language_weights()

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides the adapter and Z."""
        return [*self.codec.parameters(), *self.router.parameters(), *self.relevance.parameters()]

    # --- writing ----------------------------------------------------------------------------------

    def slots_for(self, documents: Sequence[Sentences]) -> int:
        """m of a memory of documents given as sentences: what the longest of them needs."""
        needed = (sum(self._count(len(ids)) for ids in document) for document in documents)
        return max(1, max(needed, default=0))

    def encode(
        self, documents: Sequence[Sentences], stride: int | None = None, slots: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z [B, slots, d] and spans [B, slots] of documents given as sentences; stride is the codec's."""
        m = slots or self.slots_for(documents)
        z = torch.zeros(len(documents), m, self._width, device=self.device)
        spans = torch.full((len(documents), m), UNUSED, device=self.device)
        for row, document in enumerate(documents):
            made = [self.code(ids) for ids in document if ids]
            if made:
                whole = torch.cat(made)
                z[row, : len(whole)] = whole
                lengths = [(number, self._count(len(ids))) for number, ids in enumerate(document) if ids]
                numbers = [number for number, count in lengths for _ in range(count)]
                spans[row, : len(whole)] = torch.tensor(numbers, device=self.device)
        return z, spans

    def tables_of(self, documents: Sequence[Document], z: torch.Tensor, spans: torch.Tensor) -> Tables:
        """What is kept of documents that were written: rows that depend on their own document alone."""
        titles = [self.code(self.backbone.encode(document.title, _TITLE_TOKENS)) for document in documents]
        counts = torch.tensor([len(title) for title in titles], dtype=torch.int32, device=self.device)
        slots = torch.cat(titles) if titles else torch.zeros(0, self._width, device=self.device)
        return {**super().tables_of(documents, z, spans), TITLE_SLOTS: RowTable(as_bytes(slots), counts)}

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that routing does not see: all of them."""
        return torch.eye(self._width, device=self.device)

    def sentences_per_span(self, n: int) -> int:
        """Every sentence has a span of its own."""
        return 1

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.codec.stride)

    def _sentence_keys(self, documents: Sequence[Document], slots: RowTable) -> RowTable:
        texts, counts = [], []
        for document in documents:
            start = f"{document.title}: " if document.title else ""
            sentences = split_sentences(document.text)
            texts += [start + sentence.reading for sentence in sentences]
            counts.append(len(sentences))
        made = self.meanings([self.backbone.encode(text, _KEY_TOKENS) for text in texts])
        return RowTable(as_bytes(made), torch.tensor(counts, dtype=torch.int32, device=self.device))

    # --- routing ----------------------------------------------------------------------------------

    def query_vectors(self, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """What sentence keys are compared with, [B, k], of questions given as token ids."""
        return self.meanings(queries)

    @torch.no_grad()
    def meanings(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Unit vectors [B, k] of texts given as token ids."""
        if not texts:
            return torch.zeros(0, self._codec_settings.key_width, device=self.device)
        parts: torch.Tensor = self.router.keys(self.features(texts))
        return parts

    def features(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """What keys are made from: hidden states of texts, averaged over their tokens, of `LAYERS` [B, F]."""
        return mean_states(self.backbone, texts, LAYERS)

    def stored_heads(self) -> dict[str, torch.Tensor]:
        """The heads, matrices in half precision; they were rounded to it when training ended."""
        return {name: value.half() if value.ndim == 2 else value for name, value in self.head_state().items()}
