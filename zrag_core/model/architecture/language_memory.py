"""The memory of a pretrained LLM: slots are a code of its own token embeddings, which it reads as it reads text.

write   slot = codec of `stride` tokens; no forward pass (`TokenCodec`)
route   words, and keys of meaning from the LLM's hidden states (`LanguageRouter`)
read    the LLM gets the slots' token vectors between the words of a prompt (`SlotReader`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import UNUSED, Sentences
from zrag_core.model.architecture.language_router import LAYERS, LanguageKeys, LanguageRouter
from zrag_core.model.architecture.mean_states import mean_states
from zrag_core.model.architecture.memory_rows import Rows
from zrag_core.model.architecture.packed_rows import pack, packed_slots, packed_words, unpack
from zrag_core.model.architecture.sentence_features import LANGUAGE_FEATURES, language_weights
from zrag_core.model.architecture.slot_reader import SlotReader
from zrag_core.model.architecture.token_codec import quantise
from zrag_core.model.architecture.word_lists import NO_WORD, text_words, title_words
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
        n_documents: rows N of Z.
    """

    memory_names = (
        "z",
        "spans",
        "title_slots",
        "title_words",
        "title_weights",
        "text_words",
        "text_weights",
        "keys",
        "frequency",
    )
    confidence_features = LANGUAGE_FEATURES
    fits_fewer_slots = False  # the codec's stride is fixed

    title_words: torch.Tensor  # [N, L'], as `word_lists` says; so are the three below
    title_weights: torch.Tensor
    text_words: torch.Tensor
    text_weights: torch.Tensor
    keys: torch.Tensor  # [N, S, k] unit vectors, zero where a document has fewer sentences

    def __init__(self, backbone: Backbone, settings: SeparatedSettings, codec: CodecSettings, n_documents: int):
        self._codec_settings = codec
        super().__init__(backbone, settings, n_documents)

    def _shape(self, settings: SeparatedSettings, n_documents: int) -> tuple[int, int, int]:
        return n_documents, 1, self._codec_settings.width

    def _make_writing_heads(self) -> None:
        device, n, own = self.backbone.device, len(self.z), self._codec_settings
        self.router = LanguageRouter(self.backbone.hidden_size * len(LAYERS), own.key_width).to(device)
        self.register_buffer("title_slots", torch.zeros(n, 1, own.width, device=device))
        self.register_buffer("keys", torch.zeros(n, 1, own.key_width, device=device))
        for name in ("title", "text"):
            self.register_buffer(f"{name}_words", torch.full((n, 1), NO_WORD, dtype=torch.int32, device=device))
            self.register_buffer(f"{name}_weights", torch.zeros(n, 1, dtype=torch.float16, device=device))

    def plain_ranking(self) -> torch.Tensor:
        """Weights [2, 2, F] before they were fitted: verbatim or own words, first choice or ranking."""
        return language_weights()

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides the adapter and Z."""
        return [*self.codec.parameters(), *self.router.parameters(), *self.relevance.parameters()]

    @property
    def key_numbers(self) -> int:
        """Numbers of a document's routing keys, on average."""
        words = sum(int((rows != NO_WORD).sum()) for rows in (self.title_words, self.text_words))
        keys = int((self.keys != 0).any(-1).sum()) * self.keys.shape[-1]
        return (words + keys) // max(1, len(self.z))

    @property
    def numbers_per_document(self) -> int:
        """Numbers that a document takes, slots and keys, on average."""
        slots = int((self.spans != UNUSED).sum()) + int((self.title_slots != 0).any(-1).sum())
        return slots * self.z.shape[2] // max(1, len(self.z)) + self.key_numbers

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
        z = torch.zeros(len(documents), m, self.z.shape[-1], device=self.device)
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

    def document_rows(self, documents: Sequence[Document]) -> Rows:
        """What routing and reading keep of documents beside their slots, by name."""
        titles = [self.code(self.backbone.encode(document.title, _TITLE_TOKENS)) for document in documents]
        longest = max((len(title) for title in titles), default=1)
        title_slots = torch.zeros(len(documents), max(1, longest), self.z.shape[-1], device=self.device)
        for row, title in enumerate(titles):
            title_slots[row, : len(title)] = title
        (of_titles, title_weights), (of_texts, text_weights) = title_words(documents), text_words(documents)
        return {
            "title_slots": title_slots,
            "title_words": of_titles,
            "title_weights": title_weights,
            "text_words": of_texts,
            "text_weights": text_weights,
            "keys": self._document_keys(documents),
        }

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that routing does not see: all of them."""
        return torch.eye(self.z.shape[-1], device=self.device)

    def settle(self, z: torch.Tensor) -> torch.Tensor:
        """Refined slots on the grid that they are stored on."""
        return quantise(z)

    def sentences_per_span(self, n: int) -> int:
        """Every sentence has a span of its own."""
        return 1

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.codec.stride)

    def _document_keys(self, documents: Sequence[Document]) -> torch.Tensor:
        texts, owners = [], []
        for row, document in enumerate(documents):
            start = f"{document.title}: " if document.title else ""
            for number, sentence in enumerate(split_sentences(document.text)):
                texts.append(start + sentence.reading)
                owners.append((row, number))
        widest = max((number for _, number in owners), default=0) + 1
        keys = torch.zeros(len(documents), widest, self.keys.shape[-1], device=self.device)
        if texts:
            made = self.meanings([self.backbone.encode(text, _KEY_TOKENS) for text in texts])
            rows, numbers = zip(*owners, strict=True)
            keys[list(rows), list(numbers)] = quantise(made)
        return keys

    # --- routing ----------------------------------------------------------------------------------

    @property
    def routing_keys(self) -> LanguageKeys:
        """What the documents in memory are routed by."""
        titles, texts = (self.title_words, self.title_weights), (self.text_words, self.text_weights)
        return LanguageKeys(titles, texts, self.keys, self.idf)

    def routing_scores(
        self, texts: Sequence[str], queries: Sequence[Sequence[int]], keys: LanguageKeys | None = None
    ) -> torch.Tensor:
        """Routing logits [B, N + 1] of B questions, given as text and as token ids; the last one is the null document.

        Args:
            keys: of N documents; left out: those in memory.
        """
        scores: torch.Tensor = self.router.scores(texts, self.meanings(queries), keys or self.routing_keys)
        return scores

    def routing_terms(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """The router's terms for the documents in memory before they are scaled, [3, B, N]."""
        terms: torch.Tensor = self.router.terms(texts, self.meanings(queries), self.routing_keys)
        return terms

    @torch.no_grad()
    def meanings(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Unit vectors [B, k] of texts given as token ids."""
        parts: torch.Tensor = self.router.keys(self.features(texts))
        return parts

    def features(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """What keys are made from: hidden states of texts, averaged over their tokens, of `LAYERS` [B, F]."""
        return mean_states(self.backbone, texts, LAYERS)

    def stored_heads(self) -> dict[str, torch.Tensor]:
        """The heads, matrices in half precision; they were rounded to it when training ended."""
        return {name: value.half() if value.ndim == 2 else value for name, value in self.head_state().items()}

    # --- on disk ----------------------------------------------------------------------------------

    def stored_memory(self) -> dict[str, torch.Tensor]:
        """Only what is in use, in the cheapest numbers that lose nothing."""
        return pack(dict(self.named_memory()))

    def restore_memory(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Take a memory from disk."""
        rows = unpack(stored)
        self.hold({name: value for name, value in rows.items() if name != "frequency"}, rows["frequency"])

    def stored_slots(self, row: int, first: int, last: int) -> bytes:
        """The bytes that keep slots `first` to `last` of a row on disk."""
        return packed_slots(self.z[row, first : last + 1])

    def stored_words(self, row: int) -> tuple[bytes, bytes]:
        """The bytes that keep the words of a row's title and of its text on disk."""
        return packed_words(self.title_words[row]), packed_words(self.text_words[row])
