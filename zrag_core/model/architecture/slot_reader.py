"""How a pretrained LLM reads slots: their token vectors stand between the words of a prompt.

Nothing that it reads comes from the text of the documents: title and sentences stand in slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F

from zrag_core.model.architecture.backbone import positions
from zrag_core.model.architecture.mean_states import first_layers, layer_at, states_behind
from zrag_core.model.architecture.network import Prompt
from zrag_core.model.architecture.padding import pad, pad_vectors
from zrag_core.model.architecture.reading_prompts import ReadingPrompts, reading_prompts
from zrag_core.model.architecture.relevance import DEPTHS, RelevanceProbe, relevance_features
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.slot_cache import SlotCache
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.architecture.token_codec import TokenCodec, Vocabulary
from zrag_core.settings import CodecSettings

_BATCH = 64  # spans read at once
TITLE_SLOTS = "title_slots"
_CHECKED = 4  # spans of a document that memory checks read, as many as the memory's own words come from by default


class SlotTokens(NamedTuple):
    """What slots say: input vectors [T, H] for the LLM, and the nearest tokens."""

    vectors: torch.Tensor
    tokens: list[int]


class Line(NamedTuple):
    """A sentence as the LLM reads it, with its title: input vectors [T, H]; no title is no vector."""

    title: torch.Tensor
    sentence: torch.Tensor


class SlotReader(SeparatedMemory):
    """The reading half of a pretrained LLM's memory: it repeats slots, quotes what answers a question, or says how
    likely the question is about them."""

    _codec_settings: CodecSettings

    def _make_reading_heads(self, m: int, d: int, hidden: int) -> None:
        own, device = self._codec_settings, self.backbone.device
        self.codec = TokenCodec(hidden, own.width, own.stride, own.inner).to(device)
        self.relevance = RelevanceProbe(2 * self.backbone.hidden_size * len(DEPTHS)).to(device)

    @cached_property
    def prompts(self) -> ReadingPrompts:
        """What stands around the slots."""
        return reading_prompts(self.backbone.source)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The LLM's token embeddings, which no training changes."""
        return Vocabulary(self.backbone.token_embeddings)

    @property
    def reading_weights(self) -> list[torch.Tensor]:
        """The matrices without which slots mean nothing to the LLM."""
        return [self.codec.up.weight, self.codec.up_more.weight]

    @torch.no_grad()
    def code(self, ids: Sequence[int]) -> torch.Tensor:
        """Slots [n, d] of tokens; the last one is filled up with the end-of-text token."""
        stride = self.codec.stride
        filled = [*ids, *[self.backbone.eos_id] * (-len(ids) % stride)]
        tokens = torch.tensor(filled, dtype=torch.long, device=self.device).view(-1, stride)
        return self.codec.write(F.normalize(self.backbone.embed(tokens).float(), dim=-1))

    def read_slots(self, z: torch.Tensor, used: torch.Tensor) -> list[SlotTokens]:
        """What slots z [B, p, d] that are there [B, p] say, without what filled up the last one."""
        vectors, tokens = self._read(z.float())  # [B, p, s, H], [B, p, s]
        filled = tokens != self.backbone.eos_id
        # `alpha` scales what the LLM reads.
        return [
            SlotTokens(self.alpha * own[there][kept[there]].to(self.lm.dtype), ids[there][kept[there]].tolist())
            for own, ids, kept, there in zip(vectors, tokens, filled, used, strict=True)
        ]

    def _read(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.is_grad_enabled() or z.device.type != "cpu" or not z.numel():
            return self.codec.read(z, self.vocabulary)
        return self._kept_slots.read(z)

    @cached_property
    def _kept_slots(self) -> SlotCache:
        return SlotCache(self.codec, self.vocabulary)

    def forget_readings(self) -> None:
        """Let go of the slots that were read: which ones are read at once decides the last bit of what they say."""
        self.__dict__.pop("_kept_slots", None)

    def drafts(self, z: torch.Tensor, used: torch.Tensor) -> list[list[int]]:
        """The nearest tokens of slots z [B, p, d], and EOS."""
        return [[*own.tokens, self.backbone.eos_id] for own in self.read_slots(z, used)]

    def vectors(self, z: torch.Tensor, used: torch.Tensor) -> list[torch.Tensor]:
        """Input vectors [tokens, H] of the slots that are there, for each of B prompts."""
        return [own.vectors for own in self.read_slots(z, used)]

    def prompt(
        self, z: torch.Tensor, used: torch.Tensor, queries: Sequence[Sequence[int]], distance: int | None = None
    ) -> Prompt:
        """Prompts that ask to quote what answers each of B queries from slots z [B, p, d]."""
        return self.quote_prompt([[own] for own in self.vectors(z, used)], queries)

    def quote_prompt(self, sentences: Sequence[Sequence[torch.Tensor]], queries: Sequence[Sequence[int]]) -> Prompt:
        """Prompts that ask to quote what answers each of B queries from sentences, given as vectors, a line each."""
        before, line = self.words(self.prompts.passage), self.words("\n")
        between, after = self.words(self.prompts.question), self.words(self.prompts.quote)
        parts = []
        for own, query in zip(sentences, queries, strict=True):
            lines = [part for number, vectors in enumerate(own) for part in ([line, vectors] if number else [vectors])]
            parts.append([before, *lines, between, self.embed_tokens(query), after])
        return self.assemble(parts)

    def answer_probability(
        self, sentences: Sequence[Sequence[torch.Tensor]], queries: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """log P(the LLM quotes something) [B]: asked to quote from sentences what answers, it may also refuse."""
        prompt = self.quote_prompt(sentences, queries)
        states = self.backbone.hidden(prompt.embeds, prompt.mask, prompt.position_ids)[:, -1]
        refused = torch.softmax(self.backbone.logits(states), -1)[:, self.backbone.eos_id]
        return torch.log1p(-refused.clamp(max=1 - 1e-6))

    def write_prompt(self, z: torch.Tensor, used: torch.Tensor, distance: int | None = None) -> Prompt:
        """Prompts that ask for the text behind slots z [B, p, d]."""
        before, after = self.words(self.prompts.passage), self.words(self.prompts.repeat)
        return self.assemble([[before, own, after] for own in self.vectors(z, used)])

    def titles(self, rows: Sequence[int]) -> list[torch.Tensor]:
        """Input vectors [T, H] of the titles of these rows; empty where there is none."""
        table = self.held.tables[TITLE_SLOTS].select(rows)
        return self.vectors(table.vectors(), table.mask(table.counts, table.width))

    def read_questions(
        self, passages: Sequence[Sequence[Line]], queries: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """log P(question | passage) [B], in nats, and the log-odds that the passage answers [B].

        Args:
            passages: as lines.
        """
        prompt = self._question_prompt(passages)
        with states_behind(self.backbone.decoder, self._probed) as kept:
            likelihood = self._log_likelihood(prompt, queries)
        _, mask = pad(self._asked(queries), self.backbone.pad_id, self.device)
        return likelihood, self.relevance(self._probe_features(kept, mask))

    def relevance_features(self, passages: Sequence[Sequence[Line]], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """What relevance is read from, [B, F]: states of the first layers alone."""
        decoder = first_layers(self.backbone.decoder, max(self._probed))
        (embeds, seen, position_ids), mask = self.followed(self._question_prompt(passages), self._asked(queries))
        with states_behind(decoder, self._probed) as kept:
            decoder(inputs_embeds=embeds, attention_mask=seen, position_ids=position_ids, use_cache=False)
        return self._probe_features(kept, mask)

    @cached_property
    def _probed(self) -> list[int]:
        return [layer_at(self.backbone, depth) for depth in DEPTHS]

    def _probe_features(self, kept: Mapping[int, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        states = (kept[layer][:, -mask.shape[1] :] for layer in self._probed)
        return torch.cat([relevance_features(own, mask) for own in states], 1)

    def _asked(self, queries: Sequence[Sequence[int]]) -> list[list[int]]:
        return [list(query) or [self.backbone.eos_id] for query in queries]

    def _question_prompt(self, passages: Sequence[Sequence[Line]]) -> Prompt:
        before, colon, line, after = (self.words(text) for text in (self.prompts.passage, ": ", "\n", self.prompts.ask))
        parts = []
        for passage in passages:
            prompt = [before]
            for number, (title, sentence) in enumerate(passage):
                prompt += [*([line] if number else []), *([title, colon] if len(title) else []), sentence]
            parts.append([*prompt, after])
        return self.assemble(parts)

    def question_prior(self, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """log P(question) where nothing is read, [B] nats."""
        return self._log_likelihood(self.assemble([[self.words(self.prompts.nothing)]] * len(queries)), queries)

    def _log_likelihood(self, prompt: Prompt, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        targets = self._asked(queries)
        nll, owner = self.target_nll(prompt, targets, targets)
        return -torch.zeros(len(targets), device=nll.device).index_add(0, owner, nll)

    def best_spans(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """The spans [B, k] of each document that make its query most likely, read from slots alone."""
        counts = [int(own) + 1 for own in spans.amax(1).tolist()]
        pairs = [(row, span) for row, count in enumerate(counts) for span in range(count)]
        found = torch.full((len(z), max(counts, default=0)), -torch.inf, device=self.device)
        before, after = self.words(self.prompts.passage), self.words(self.prompts.ask)
        for start in range(0, len(pairs), _BATCH):
            part = pairs[start : start + _BATCH]
            rows = [row for row, _ in part]
            own = self.vectors(*span_slots(z[rows], spans[rows], [span for _, span in part]))
            prompt = self.assemble([[before, vectors, after] for vectors in own])
            found[rows, [span for _, span in part]] = self._log_likelihood(prompt, [queries[row] for row in rows])
        best = found.topk(min(_CHECKED, found.shape[1]))
        return best.indices.masked_fill(best.values.isinf(), -1)

    @torch.no_grad()
    def slot_vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """What the LLM gets of tokens that went through slots, [T, H]."""
        slots = self.code(ids)[None]
        return self.vectors(slots, torch.ones_like(slots[..., 0], dtype=torch.bool))[0]

    def words(self, text: str) -> torch.Tensor:
        """Input vectors [T, H] of a piece of a prompt."""
        return self.embed_tokens(self.backbone.encode(text))

    def embed_tokens(self, ids: Sequence[int]) -> torch.Tensor:
        """Input vectors [T, H] of tokens."""
        return self._embed(torch.tensor(list(ids), dtype=torch.long, device=self.device))

    def assemble(self, parts: Sequence[Sequence[torch.Tensor]], *, start: bool = True) -> Prompt:
        """Prompts of these vectors one behind the other, padded so that generation continues at the end.

        Args:
            start: begin as the LLM expects a text to begin.
        """
        first = self.embed_tokens(self.backbone.start_ids if start else ())
        embeds, mask = pad_vectors([torch.cat([first, *own]).to(self.lm.dtype) for own in parts])
        return Prompt(embeds, mask, positions(mask))
