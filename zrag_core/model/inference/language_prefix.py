"""All of a pretrained LLM's memory before every question: sentence behind sentence, as if it were one passage."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.errors import SettingsError
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.network import Prompt
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.inference.prefix import Prefix, decode_behind


@torch.no_grad()
def read_prefix(model: LanguageMemory) -> Prefix:
    """The keys and values of all sentences in memory, in the order of rows and spans, a line each.

    Raises:
        SettingsError: they are more tokens than the LLM reads.
    """
    z, spans = model.document_slots()
    units = [(row, span) for row, own in enumerate(spans.amax(1).tolist()) for span in range(int(own) + 1)]
    parts = [model.words(model.prompts.passage)]
    if units:
        rows = [row for row, _ in units]
        slots = span_slots(z[rows], spans[rows], [span for _, span in units])
        for number, vectors in enumerate(model.vectors(*slots)):
            parts += [*([model.words("\n")] if number else []), vectors]
    prompt = model.assemble([parts])
    most = int(model.lm.config.max_position_embeddings)
    if prompt.mask.shape[1] > most:
        raise SettingsError(
            f"zrag_full_prefix puts all of Z before every question, and {model.n_documents:,} documents are "
            f"{prompt.mask.shape[1]:,} tokens; the LLM reads at most {most:,}",
            where="evaluation.systems",
            remedy="leave it out, or keep fewer documents (corpus.limit_documents)",
        )
    output = model.backbone.decoder(
        inputs_embeds=prompt.embeds, attention_mask=prompt.mask, position_ids=prompt.position_ids, use_cache=True
    )
    layers = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
    return Prefix(layers, prompt.mask.shape[1])


@torch.no_grad()
def decode(model: LanguageMemory, prefix: Prefix, queries: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy evidence for B queries behind `prefix`, which is not changed."""
    between, after = (model.words(text) for text in (model.prompts.question, model.prompts.quote))
    asked = model.assemble([[between, model.embed_tokens(query), after] for query in queries], start=False)
    behind = asked._replace(position_ids=asked.position_ids + prefix.slots)
    # With so much to read the LLM would rather quote nothing.
    return decode_behind(model, prefix, Prompt(*behind), max_new_tokens, min_new_tokens=1)
