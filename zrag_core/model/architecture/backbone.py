"""The local causal LLM: the embedded `zrag-tiny`, or any Hugging Face model with a LoRA adapter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.architecture.merged_adapter import MergedAdapter
from zrag_core.settings.backbone import PACKAGED

_POSITIONS = 4096  # whose logits are held at once


@dataclass
class Backbone:
    """A causal LM with its tokenizer, ready to be trained.

    Attributes:
        lm: a `transformers` causal LM; with LoRA layers inside it where `peft` is set.
        tokenizer: its tokenizer.
        peft: the PEFT wrapper around `lm` that saves the adapter, or None where `lm` itself is trained.
        source: what the weights came from (`zrag-tiny`, a hub name or a local path).
        merged: the adapter that was added into the weights when they were loaded; it cannot be trained.
    """

    lm: Any
    tokenizer: Any
    peft: Any | None
    source: str
    merged: MergedAdapter | None = None

    @property
    def hidden_size(self) -> int:
        """Width H of the hidden states."""
        return int(self.lm.get_input_embeddings().weight.shape[1])

    @property
    def decoder(self) -> Any:
        """The transformer without its LM head."""
        return self.lm.base_model

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        device: torch.device = self.lm.get_input_embeddings().weight.device
        return device

    @property
    def pad_id(self) -> int:
        """Token that fills up batches (always masked)."""
        token = self.tokenizer.pad_token_id
        return self.eos_id if token is None else int(token)

    @property
    def eos_id(self) -> int:
        """Token that ends every training target."""
        return int(self.tokenizer.eos_token_id)

    @property
    def mask_id(self) -> int:
        """Token that stands for a hidden one in reconstruction."""
        token = self.tokenizer.mask_token_id
        return self.pad_id if token is None else int(token)

    @cached_property
    def start_ids(self) -> list[int]:
        """What the tokenizer puts before every text: a token that many LLMs cannot do without, or nothing."""
        return list(self.tokenizer.encode("", add_special_tokens=True))

    @property
    def token_embeddings(self) -> torch.Tensor:
        """Input embeddings [V, H] of the whole vocabulary, scaled as the LLM gets them."""
        embeddings = self.lm.get_input_embeddings()
        weight: torch.Tensor = embeddings.weight.detach()
        scale = getattr(embeddings, "embed_scale", None)
        return weight if scale is None else weight * scale.to(weight)

    def encode(self, text: str, limit: int | None = None) -> list[int]:
        """Token ids without special tokens, cut to `limit`."""
        return list(self.tokenizer.encode(text, add_special_tokens=False)[:limit])

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings [..., H] of token ids [...]."""
        embeddings: torch.Tensor = self.lm.get_input_embeddings()(ids)
        return embeddings

    def hidden(
        self, embeds: torch.Tensor, mask: torch.Tensor, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Last hidden states [B, T, H]; the LM head is left to the caller (few positions need it).

        Args:
            embeds: [B, T, H] input vectors.
            mask: [B, T], 1 at real positions (attention is causal), or bool [B, 1, T, T]: who sees whom.
            position_ids: [B, T]; left out, padding is not counted, wherever it stands.
        """
        if position_ids is None:
            position_ids = positions(mask)
        output = self.decoder(inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 vocabulary logits [..., V] of hidden states [..., H]."""
        logits: torch.Tensor = self.lm.get_output_embeddings()(hidden).float()
        return logits

    def nll(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """NLL [P] of `labels` [P] under hidden states [P, H], a chunk at a time: float32 logits of a large vocabulary
        (152 thousand for Qwen3) at every position at once would not fit beside the model."""
        parts = [
            F.cross_entropy(self.logits(states), wanted, reduction="none")
            for states, wanted in zip(hidden.split(_POSITIONS), labels.split(_POSITIONS), strict=True)
        ]
        return torch.cat(parts)

    def trainable(self) -> list[nn.Parameter]:
        """Parameters of theta."""
        return [p for p in self.lm.parameters() if p.requires_grad]

    def merge(self) -> None:
        """Add the adapter into the weights, so that reading costs what it costs without one; `save` still finds it.

        Quantised weights cannot take it in without a loss and stay as they are.
        """
        if self.peft is not None and not getattr(self.lm, "is_quantized", False):
            self.peft.merge_adapter()

    def save(self, folder: Path) -> None:
        """Write tokenizer and weights (adapter/ or backbone/) below `folder`, as safetensors.

        An adapter that was rounded to half precision takes half the space.
        """
        if self.source not in PACKAGED:  # its tokenizer stands beside its weights
            self.tokenizer.save_pretrained(folder / "tokenizer")
        if self.peft is not None:
            from peft import get_peft_model_state_dict

            adapter = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
            if all(torch.equal(value.half().to(value.dtype), value) for value in adapter.values()):
                adapter = {name: value.half() for name, value in adapter.items()}
            for config in self.peft.peft_config.values():  # by its name, and not by where it lies on this machine
                config.base_model_name_or_path = self.source
            # Else the hub would be asked what vocabulary the model had.
            self.peft.save_pretrained(
                folder / "adapter", safe_serialization=True, state_dict=adapter, save_embedding_layers=False
            )
            (folder / "adapter" / "README.md").unlink(missing_ok=True)  # an unfilled form
        elif self.merged is not None:
            self.merged.save(folder / "adapter")
        else:
            hide_progress_bars()
            self.lm.save_pretrained(folder / "backbone", safe_serialization=True)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids [B, T] that do not count padding, wherever it stands (as `generate` does)."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def hide_progress_bars() -> None:
    """A model of a few megabytes needs no bar for each of its files; those of the hub keep theirs."""
    from transformers.utils import logging

    logging.disable_progress_bar()
