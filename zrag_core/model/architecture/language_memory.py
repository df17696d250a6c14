"""The memory of a pretrained LLM: slots are a code of its own token embeddings, which it reads as it reads text.

    write   slot = codec of `stride` tokens; no forward pass (`TokenCodec`)
    route   words, and keys of meaning from the LLM's hidden states (`LanguageRouter`)
    read    the LLM gets the slots' token vectors between the words of a prompt: it repeats them, quotes what answers a
            question, or says how likely the question is about them

Nothing that it reads comes from the text of the documents: title and sentences stand in slots.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import UNUSED, Sentences
from zrag_core.model.architecture.language_router import LAYERS, LanguageKeys, LanguageRouter
from zrag_core.model.architecture.memory_rows import Rows
from zrag_core.model.architecture.network import Prompt
from zrag_core.model.architecture.packed_rows import pack, packed_slots, packed_words, unpack
from zrag_core.model.architecture.padding import pad
from zrag_core.model.architecture.sentence_features import LANGUAGE_FEATURES, SENTENCE_FEATURES, language_weights
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.architecture.token_codec import TokenCodec, quantise
from zrag_core.model.architecture.word_lists import NO_WORD, text_words, title_words
from zrag_core.settings import CodecSettings, SeparatedSettings
from zrag_core.text import split_sentences

# What stands around the slots. The question prompt is that of Sachan et al. 2022 (arXiv 2204.07496), who rank passages
# by the likelihood of the question.
PASSAGE = "Passage: "
ASK = "\nPlease write a question based on this passage.\nQuestion:"
NOTHING = "Please write a question.\nQuestion:"
REPEAT = "\nRepeat the passage.\nPassage: "
QUOTE = ("\nQuestion: ", "\nQuote the sentence of the passage that answers.\nPassage: ")

_TITLE_TOKENS = 24  # longer titles are cut
_KEY_TOKENS = 96  # longer sentences are cut for their key
_BATCH = 64


class LanguageMemory(SeparatedMemory):
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

    title_slots: torch.Tensor  # [N, t, d], zero where there is none
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

    def _make_reading_heads(self, m: int, d: int, hidden: int) -> None:
        own, device = self._codec_settings, self.backbone.device
        self.codec = TokenCodec(hidden, own.width, own.stride, own.inner).to(device)

    def _make_writing_heads(self) -> None:
        device, n, own = self.backbone.device, len(self.z), self._codec_settings
        self.router = LanguageRouter(self.backbone.hidden_size * len(LAYERS), own.key_width).to(device)
        self.register_buffer("title_slots", torch.zeros(n, 1, own.width, device=device))
        self.register_buffer("keys", torch.zeros(n, 1, own.key_width, device=device))
        for name in ("title", "text"):
            self.register_buffer(f"{name}_words", torch.full((n, 1), NO_WORD, dtype=torch.int32, device=device))
            self.register_buffer(f"{name}_weights", torch.zeros(n, 1, dtype=torch.float16, device=device))
        shape = (2, 2, len(SENTENCE_FEATURES))
        self.register_buffer("stages", torch.zeros(shape, device=device))

    stages: torch.Tensor  # [2, 2, F], weights of the features: verbatim or own words, first choice or ranking

    def plain_ranking(self) -> torch.Tensor:
        """Weights of the sentence features before they were fitted."""
        return language_weights()

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides the adapter and Z."""
        return [*self.codec.parameters(), *self.router.parameters()]

    @property
    def reading_weights(self) -> list[torch.Tensor]:
        """The matrices without which slots mean nothing to the LLM."""
        return [self.codec.up.weight, self.codec.up_more.weight]

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
            made = [self._code(ids) for ids in document if ids]
            if made:
                whole = torch.cat(made)
                z[row, : len(whole)] = whole
                lengths = [(number, self._count(len(ids))) for number, ids in enumerate(document) if ids]
                numbers = [number for number, count in lengths for _ in range(count)]
                spans[row, : len(whole)] = torch.tensor(numbers, device=self.device)
        return z, spans

    def document_rows(self, documents: Sequence[Document]) -> Rows:
        """What routing and reading keep of documents beside their slots, by name."""
        titles = [self._code(self.backbone.encode(document.title, _TITLE_TOKENS)) for document in documents]
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

    def sentences_per_span(self, n: int) -> int:
        """Every sentence has a span of its own."""
        return 1

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.codec.stride)

    @torch.no_grad()
    def _code(self, ids: Sequence[int]) -> torch.Tensor:
        """Slots [n, d] of tokens; the last one is filled up with the end-of-text token."""
        stride = self.codec.stride
        filled = [*ids, *[self.backbone.eos_id] * (-len(ids) % stride)]
        tokens = torch.tensor(filled, dtype=torch.long, device=self.device).view(-1, stride)
        return self.codec.write(F.normalize(self.backbone.embed(tokens).float(), dim=-1))

    def _document_keys(self, documents: Sequence[Document]) -> torch.Tensor:
        texts, owners = [], []
        for row, document in enumerate(documents):
            start = f"{document.title}: " if document.title else ""
            for number, sentence in enumerate(split_sentences(document.text)):
                texts.append(start + sentence.text)
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

    @torch.no_grad()
    def features(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Hidden states of texts, averaged over their tokens, of each of `LAYERS` side by side [B, F].

        The first token is left out where there are others: every later one attends to it whatever it is.
        """
        depth = self.backbone.lm.config.num_hidden_layers
        layers = [max(1, round(share * depth)) for share in LAYERS]
        decoder = _first_layers(self.backbone.decoder, max(layers))
        result = torch.zeros(len(texts), self.backbone.hidden_size * len(layers), device=self.device)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            ids, mask = pad([texts[row] or [self.backbone.eos_id] for row in rows], self.backbone.pad_id, self.device)
            states = _states(decoder, layers, ids, mask)
            kept = mask.clone()
            kept[:, 0] = kept[:, 0] * (mask.sum(1) == 1)
            share = (kept / kept.sum(1, keepdim=True)).float()
            means = [torch.einsum("bt,bth->bh", share, own.float()) for own in states]
            result[rows] = torch.cat(means, 1)
        return result

    # --- reading ----------------------------------------------------------------------------------

    def drafts(self, z: torch.Tensor, used: torch.Tensor) -> list[list[int]]:
        """The nearest tokens of slots z [B, p, d], without what filled the last one up, and EOS."""
        _, tokens = self._read(z)
        eos = self.backbone.eos_id
        rows = []
        for own, there in zip(tokens.flatten(1).tolist(), used.sum(1).tolist(), strict=True):
            ids = own[: there * self.codec.stride]
            while ids and ids[-1] == eos:
                ids.pop()
            rows.append([*ids, eos])
        return rows

    def prompt(
        self, z: torch.Tensor, used: torch.Tensor, queries: Sequence[Sequence[int]], distance: int | None = None
    ) -> Prompt:
        """Prompts that ask to quote what answers each of B queries from slots z [B, p, d]."""
        slots = self.vectors(z, used)
        before, between, after = (self.words(text) for text in (PASSAGE, *QUOTE))
        parts = [[before, own, between, self.embed_tokens(q), after] for own, q in zip(slots, queries, strict=True)]
        return self.assemble(parts)

    def write_prompt(self, z: torch.Tensor, used: torch.Tensor, distance: int | None = None) -> Prompt:
        """Prompts that ask for the text behind slots z [B, p, d]."""
        before, after = self.words(PASSAGE), self.words(REPEAT)
        return self.assemble([[before, own, after] for own in self.vectors(z, used)])

    def question_likelihood(
        self,
        rows: Sequence[int],
        z: torch.Tensor,
        used: torch.Tensor,
        queries: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """log P(question | title and slots), [B] nats, of questions about spans z [B, p, d] of these rows."""
        titles = self.title_slots[list(rows)]
        named = (titles != 0).any(-1)
        before, colon, after = (self.words(text) for text in (PASSAGE, ": ", ASK))
        of_titles, of_spans = self.vectors(titles, named), self.vectors(z, used)
        parts = [
            [before, *([title, colon] if len(title) else []), own, after]
            for title, own in zip(of_titles, of_spans, strict=True)
        ]
        return self._log_likelihood(self.assemble(parts), queries)

    def question_prior(self, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """log P(question) where nothing is read, [B] nats."""
        return self._log_likelihood(self.assemble([[self.words(NOTHING)]] * len(queries)), queries)

    def _log_likelihood(self, prompt: Prompt, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        targets = [list(query) or [self.backbone.eos_id] for query in queries]
        nll, owner = self.target_nll(prompt, targets, targets)
        return -torch.zeros(len(targets), device=nll.device).index_add(0, owner, nll)

    def best_spans(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """The span [B] of each document that makes its query most likely, read from slots alone."""
        pairs = [(row, span) for row, own in enumerate(spans.amax(1).tolist()) for span in range(int(own) + 1)]
        best = torch.zeros(len(z), dtype=torch.long, device=self.device)
        found = torch.full((len(z),), -torch.inf, device=self.device)
        before, after = self.words(PASSAGE), self.words(ASK)
        for start in range(0, len(pairs), _BATCH):
            part = pairs[start : start + _BATCH]
            rows = [row for row, _ in part]
            own = self.vectors(*span_slots(z[rows], spans[rows], [span for _, span in part]))
            prompt = self.assemble([[before, vectors, after] for vectors in own])
            for (row, span), value in zip(part, self._log_likelihood(prompt, [queries[r] for r in rows]), strict=True):
                if value > found[row]:
                    found[row], best[row] = value, span
        return best

    def _read(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors [B, p, s, H] and nearest tokens [B, p, s] of slots."""
        return self.codec.read(z.float(), self.backbone.lm.get_input_embeddings().weight.detach())

    def vectors(self, z: torch.Tensor, used: torch.Tensor) -> list[torch.Tensor]:
        """Input vectors [tokens, H] of the slots that are there, for each of B prompts; `alpha` scales them."""
        vectors, tokens = self._read(z)
        filled = tokens != self.backbone.eos_id  # what filled up a last slot is not read
        return [
            self.alpha * own[there][kept[there]].to(self.lm.dtype)
            for own, kept, there in zip(vectors, filled, used, strict=True)
        ]

    @torch.no_grad()
    def slot_vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """What the LLM gets of tokens that went through slots, [T, H]."""
        slots = self._code(ids)[None]
        return self.vectors(slots, torch.ones_like(slots[..., 0], dtype=torch.bool))[0]

    def words(self, text: str) -> torch.Tensor:
        """Input vectors [T, H] of a piece of a prompt."""
        return self.embed_tokens(self.backbone.encode(text))

    def embed_tokens(self, ids: Sequence[int]) -> torch.Tensor:
        """Input vectors [T, H] of tokens."""
        return self._embed(torch.tensor(list(ids), dtype=torch.long, device=self.device))

    def assemble(self, parts: Sequence[Sequence[torch.Tensor]]) -> Prompt:
        """Prompts of these vectors one behind the other, padded so that generation continues at the end."""
        whole = [torch.cat(list(own)) for own in parts]
        width = max((len(own) for own in whole), default=1)
        embeds = torch.zeros(len(whole), width, self.backbone.hidden_size, device=self.device, dtype=self.lm.dtype)
        mask = torch.zeros(len(whole), width, dtype=torch.long, device=self.device)
        for row, own in enumerate(whole):
            embeds[row, width - len(own) :] = own
            mask[row, width - len(own) :] = 1
        return Prompt(embeds, mask, (mask.cumsum(1) - 1).clamp(min=0))

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


def _states(decoder: Any, layers: Sequence[int], ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states [B, T, H] behind some layers of a decoder; behind its last one they are normed.

    Hooks of our own: `output_hidden_states` leaves its hooks in the layers, which several decoders share here.
    """
    kept: dict[int, torch.Tensor] = {}

    def keeper(layer: int) -> Any:
        def keep(_layer: nn.Module, _given: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return keep

    hooks = [decoder.layers[layer - 1].register_forward_hook(keeper(layer)) for layer in dict.fromkeys(layers)]
    try:
        output = decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    kept[len(decoder.layers)] = output.last_hidden_state
    return [kept[layer] for layer in layers]


def _first_layers(decoder: Any, n: int) -> Any:
    """A decoder of the first `n` layers that shares its weights with `decoder`."""
    view = copy.copy(decoder)
    view._modules = {**decoder._modules, "layers": nn.ModuleList(list(decoder.layers)[:n])}
    view.config = copy.copy(decoder.config)
    view.config.num_hidden_layers = n
    return view
