"""`zrag-tiny` for reading alone, in plain torch: the forward pass of a small Qwen3 model and its tokenizer.

Importing the transformers library takes longer than everything else that happens between a question on the command
line and its answer. Evidence that is verbatim needs hidden states only, so this is enough for it; training, writing and
free decoding use the library's own model. The names of the parameters are the library's, so the weights are too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class TinyTokenizer:
    """A saved `tokenizer.json`, with as much of the interface of transformers' tokenizers as reading needs."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.pad_token_id, self.eos_token_id, self.mask_token_id = (
            self._tokenizer.token_to_id(special[name]) for name in ("pad_token", "eos_token", "mask_token")
        )

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


class TinyDecoder(nn.Module):
    """A dense Qwen3 language model (Qwen3 technical report, arXiv 2505.09388) without a cache.

    Args:
        config: the fields of its `config.json`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.model = _Decoder(config)

    @classmethod
    def load(cls, folder: Path) -> TinyDecoder:
        """Load a folder that transformers saved, in float32."""
        from safetensors.torch import load_file

        decoder = cls(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
        state.pop("lm_head.weight", None)  # tied to the embeddings
        decoder.load_state_dict(state)
        return decoder

    @property
    def base_model(self) -> nn.Module:
        """The transformer without its LM head."""
        return self.model

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.embed_tokens.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """Token embeddings."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The LM head, which is tied to the token embeddings: logits [..., V] of hidden states [..., H]."""
        return partial(F.linear, weight=self.model.embed_tokens.weight)


def can_read(folder: Path) -> bool:
    """Whether `folder` holds a model of the kind that `TinyDecoder` is."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    plain = {"model_type": "qwen3", "tie_word_embeddings": True, "attention_bias": False, "hidden_act": "silu"}
    rope = config.get("rope_parameters") or {}
    return (
        all(config.get(name) == value for name, value in plain.items())
        and rope.get("rope_type") == "default"
        and not config.get("use_sliding_window")
        and (folder / "model.safetensors").is_file()
    )


class _Decoder(nn.Module):
    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self._head_dim, self._base = config["head_dim"], config["rope_parameters"]["rope_theta"]

    def forward(
        self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, use_cache: bool
    ) -> Any:
        """Hidden states [B, T, H]; see `Backbone.hidden` for the masks. Nothing is cached."""
        hidden, length = inputs_embeds, inputs_embeds.shape[1]
        if attention_mask.ndim == 2:
            causal = torch.ones(length, length, dtype=torch.bool, device=hidden.device).tril()
            attention_mask = causal & attention_mask.bool()[:, None, None]
        exponents = torch.arange(0, self._head_dim, 2, device=hidden.device).float() / self._head_dim
        angles = position_ids[..., None].float() * (1.0 / self._base**exponents)
        turn = torch.cat([angles, angles], -1)[:, None]  # [B, 1, T, head_dim]
        for layer in self.layers:
            hidden = layer(hidden, attention_mask, turn.cos(), turn.sin())
        return SimpleNamespace(last_hidden_state=self.norm(hidden))


class _Layer(nn.Module):
    def __init__(self, config: dict[str, Any]):
        super().__init__()
        size, inner, eps = config["hidden_size"], config["intermediate_size"], config["rms_norm_eps"]
        self.self_attn = _Attention(config)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(size, inner, bias=False),
                "up_proj": nn.Linear(size, inner, bias=False),
                "down_proj": nn.Linear(inner, size, bias=False),
            }
        )
        self.input_layernorm = nn.RMSNorm(size, eps)
        self.post_attention_layernorm = nn.RMSNorm(size, eps)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cos, sin)
        normed, mlp = self.post_attention_layernorm(hidden), self.mlp
        result: torch.Tensor = hidden + mlp["down_proj"](F.silu(mlp["gate_proj"](normed)) * mlp["up_proj"](normed))
        return result


class _Attention(nn.Module):
    def __init__(self, config: dict[str, Any]):
        super().__init__()
        size, self._width = config["hidden_size"], config["head_dim"]
        queries, keys = (config[name] * self._width for name in ("num_attention_heads", "num_key_value_heads"))
        self.q_proj = nn.Linear(size, queries, bias=False)
        self.k_proj = nn.Linear(size, keys, bias=False)
        self.v_proj = nn.Linear(size, keys, bias=False)
        self.o_proj = nn.Linear(queries, size, bias=False)
        self.q_norm = nn.RMSNorm(self._width, config["rms_norm_eps"])
        self.k_norm = nn.RMSNorm(self._width, config["rms_norm_eps"])

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(hidden).unflatten(-1, (-1, self._width)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (_turned(part.transpose(1, 2), cos, sin) for part in (self.q_norm(query), self.k_norm(key)))
        seen = F.scaled_dot_product_attention(query, key, value.transpose(1, 2), attn_mask=mask, enable_gqa=True)
        result: torch.Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return result


def _turned(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021) of states [B, heads, T, head_dim]."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin
