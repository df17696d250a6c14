"""Small LLMs for reading alone, in plain torch: the forward pass of Qwen3 and Llama models, and their tokenizers.

Importing the transformers library takes longer than everything else that happens between a question on the command
line and its answer. Evidence that is verbatim needs hidden states and likelihoods, so this is enough for it; training
and free decoding use the library's own model. The names of the parameters are the library's, so the weights are too.
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

_NORMED_HEADS = {"qwen3": True, "llama": False}  # whether queries and keys are normed, by `model_type`
_PLAIN = {"tie_word_embeddings": True, "attention_bias": False, "hidden_act": "silu"}


class LightTokenizer:
    """A saved `tokenizer.json`, with as much of the interface of transformers' tokenizers as reading needs."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        names = [special.get(name) for name in ("pad_token", "eos_token", "mask_token")]
        self.pad_token_id, self.eos_token_id, self.mask_token_id = (
            None if name is None else self._tokenizer.token_to_id(name) for name in names
        )

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


class LightDecoder(nn.Module):
    """A dense language model without a cache: Qwen3 (technical report, arXiv 2505.09388), or Llama (arXiv 2407.21783),
    which differs in that its queries and keys are not normed.

    Args:
        config: the fields of its `config.json`.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.model = _Decoder(config)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> LightDecoder:
        """Load a folder that transformers saved."""
        from safetensors.torch import load_file

        with torch.device("meta"):  # nothing is drawn that the weights replace
            decoder = cls(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        state = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
        state.pop("lm_head.weight", None)  # tied to the embeddings
        decoder.load_state_dict(state, assign=True)
        return decoder.requires_grad_(False)

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
    """Whether `folder` holds a model of the kinds that `LightDecoder` is, and its weights in one file."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or {}
    return (
        config.get("model_type") in _NORMED_HEADS
        and all(config.get(name) == value for name, value in _PLAIN.items())
        and rope.get("rope_type") == "default"
        and not config.get("use_sliding_window")
        and not config.get("mlp_bias")
        and (folder / "model.safetensors").is_file()
    )


class _Decoder(nn.Module):
    def __init__(self, config: dict[str, Any]):
        super().__init__()
        size = config["vocab_size"], config["hidden_size"]
        # Given, as drawing it would import PyTorch's compiler (`normal_` on the device "meta").
        self.embed_tokens = nn.Embedding(*size, _weight=torch.empty(size))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = _Norm(config["hidden_size"], config["rms_norm_eps"])
        self.config = SimpleNamespace(**config)
        self._head_dim, self._base = config["head_dim"], config["rope_parameters"]["rope_theta"]

    def forward(
        self,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        *,
        input_ids: torch.Tensor | None = None,
        use_cache: bool = False,
    ) -> Any:
        """Hidden states [B, T, H]; see `Backbone.hidden` for the masks. Nothing is cached.

        Args:
            position_ids: [B, T]; left out, they count padding too, as the library's do.
        """
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        hidden, length = inputs_embeds, inputs_embeds.shape[1]
        if position_ids is None:
            position_ids = torch.arange(length, device=hidden.device)[None]
        assert attention_mask is not None
        if attention_mask.ndim == 2:
            causal = torch.ones(length, length, dtype=torch.bool, device=hidden.device).tril()
            attention_mask = causal & attention_mask.bool()[:, None, None]
        exponents = torch.arange(0, self._head_dim, 2, device=hidden.device).float() / self._head_dim
        angles = position_ids[..., None].float() * (1.0 / self._base**exponents)
        turn = torch.cat([angles, angles], -1)[:, None]  # [B, 1, T, head_dim]
        cos, sin = turn.cos().to(hidden.dtype), turn.sin().to(hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask, cos, sin)
        return SimpleNamespace(last_hidden_state=self.norm(hidden))


class _Norm(nn.RMSNorm):
    """Root mean square norm (Zhang and Sennrich 2019); in half precision rounded where the library's is."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if states.dtype == torch.float32:
            return super().forward(states)
        normed: torch.Tensor = F.rms_norm(states.float(), self.normalized_shape, eps=self.eps)
        return self.weight * normed.to(states.dtype)


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
        self.input_layernorm = _Norm(size, eps)
        self.post_attention_layernorm = _Norm(size, eps)

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
        normed, eps = _NORMED_HEADS[config["model_type"]], config["rms_norm_eps"]
        self.q_norm, self.k_norm = (_Norm(self._width, eps) if normed else nn.Identity() for _ in range(2))

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
