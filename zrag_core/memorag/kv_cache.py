"""The KV cache of a text that a causal LM has read, as a folder that can be read on from.

Imports torch; import this module only where it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zrag_core.errors import CheckpointError, SettingsError
from zrag_core.files import atomic_folder

FORMAT_VERSION = 1

_CONFIG = "config.json"
_TENSORS = "cache.safetensors"
_KIND = "kv_cache"
# Of each parameter, in telling one model from another: all of them would be gigabytes.
_FINGERPRINTED = 64
# What a configuration says of where it came from, not of what it computes.
_IRRELEVANT = ("_name_or_path", "transformers_version")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KvCache:
    """What a causal LM keeps of a text.

    Attributes:
        ids: the text's tokens, int64 [T].
        layers: keys and values of each layer, both [1, key/value heads, T, head width].
    """

    ids: torch.Tensor
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.ids)

    @property
    def megabytes(self) -> float:
        """Size of keys and values."""
        return sum(part.numel() * part.element_size() for layer in self.layers for part in layer) / 2**20

    def start(self, tokens: int) -> KvCache:
        """The cache of the first `tokens` tokens: what stands behind a token has no part in its keys and values."""
        return KvCache(
            self.ids[:tokens], tuple((keys[..., :tokens, :], values[..., :tokens, :]) for keys, values in self.layers)
        )

    def for_batch(self, size: int) -> Any:
        """A `transformers` cache for `size` sequences that go on from here; it grows without touching this one."""
        from transformers import DynamicCache

        return DynamicCache([(k.expand(size, -1, -1, -1), v.expand(size, -1, -1, -1)) for k, v in self.layers])


@torch.no_grad()
def read_on(lm: Any, ids: Sequence[int], known: KvCache | None, chunk_tokens: int) -> tuple[KvCache, int]:
    """Read `ids`, taking from `known` what it has read of the same beginning.

    Args:
        lm: a `transformers` causal LM with full attention in every layer.
        chunk_tokens: tokens read at once; bounds the memory that attention takes.

    Returns:
        the cache of `ids`, and how many of its tokens were known.

    Raises:
        SettingsError: the model keeps something else than keys and values of all tokens.
    """
    wanted = torch.tensor(ids, dtype=torch.long)
    shared = _shared_tokens(wanted, known.ids) if known else 0
    if known and shared == len(wanted):
        return known.start(shared), shared
    cache = known.start(shared).for_batch(1) if known and shared else _empty_cache(lm)
    device = lm.get_input_embeddings().weight.device
    for chunk in torch.split(wanted[shared:], chunk_tokens):
        # The transformer without its head: no logits are needed, and they are the largest part.
        lm.base_model(input_ids=chunk[None].to(device), past_key_values=cache, use_cache=True)
    return KvCache(wanted, tuple((layer.keys, layer.values) for layer in cache.layers)), shared


def nearest_cache(folders: Iterable[Path], ids: Sequence[int], model: str, device: torch.device) -> KvCache | None:
    """The start of the cache that has read most of the beginning of `ids`; None where none has read any of it.

    Only the tokens of the others are read from disk. A damaged folder is passed over with a warning: it is not what
    was asked for.

    Args:
        folders: as `save_cache` wrote them; those of other models do not count.
    """
    wanted = torch.tensor(ids, dtype=torch.long)
    best, longest = None, 0
    for folder in folders:
        try:
            known = _load_ids(folder, model)
        except CheckpointError as error:
            log.warning("not read on from: %s", error)
            continue
        if known is not None and (shared := _shared_tokens(wanted, known)) > longest:
            best, longest = folder, shared
    cache = load_cache(best, model, device) if best else None
    return cache.start(longest) if cache else None


def _shared_tokens(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many tokens two texts begin with alike."""
    shorter = min(len(one), len(other))
    differs = (one[:shorter] != other[:shorter]).nonzero()
    return int(differs[0]) if len(differs) else shorter


def _empty_cache(lm: Any) -> Any:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=lm.config)
    kinds = {type(layer) for layer in cache.layers}
    if kinds != {DynamicLayer}:
        others = ", ".join(sorted(kind.__name__ for kind in kinds - {DynamicLayer}))
        raise SettingsError(
            f"this model does not keep every token in every layer ({others}), so a part of its memory cannot be reused",
            where="memory model",
            remedy="choose a causal LM with full attention, for instance one of the Qwen3 family",
        )
    return cache


def model_fingerprint(lm: Any) -> str:
    """12 hexadecimal digits that differ between models whose caches must not be mixed.

    Made of the configuration and of the beginning of every parameter, their types included.
    """
    config = {name: value for name, value in lm.config.to_dict().items() if name not in _IRRELEVANT}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode("utf-8"))
    for name, parameter in lm.named_parameters():
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().flatten()[:_FINGERPRINTED].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def save_cache(folder: Path, cache: KvCache, model: str) -> None:
    """Write `folder`; a reader sees the former cache or this one, never half of it.

    Args:
        model: `model_fingerprint` of the model that read the text.

    Raises:
        CheckpointError: the folder cannot be written; what stood there before is kept.
    """
    from safetensors.torch import save_file

    tensors = {"ids": cache.ids}
    for number, (keys, values) in enumerate(cache.layers):
        tensors[f"{number}.keys"], tensors[f"{number}.values"] = keys, values
    config = {
        "format_version": FORMAT_VERSION,
        "kind": _KIND,
        "model": model,
        "layers": len(cache.layers),
        "tokens": cache.tokens,
    }
    try:
        with atomic_folder(folder) as temporary:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary / _TENSORS)
            (temporary / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"cannot write the KV memory: {error.strerror or error}",
            where=str(folder),
            remedy="free the path or choose another",
        ) from error


def load_cache(folder: Path, model: str, device: torch.device) -> KvCache | None:
    """Read what `save_cache` wrote; None where there is nothing, or the cache of another model.

    Raises:
        CheckpointError: the folder is damaged, or holds something else.
    """
    from safetensors.torch import load_file

    with _explained(folder):
        config = _config_of(folder, model)
        if config is None:
            return None
        tensors = load_file(folder / _TENSORS, device=str(device))
        layers = tuple((tensors[f"{n}.keys"], tensors[f"{n}.values"]) for n in range(config["layers"]))
        if any(part.shape[-2] != len(tensors["ids"]) for layer in layers for part in layer):
            raise ValueError("keys, values and tokens are not of one length")
        return KvCache(tensors["ids"].cpu(), layers)


def _load_ids(folder: Path, model: str) -> torch.Tensor | None:
    """The tokens of a cache alone; otherwise as `load_cache`."""
    from safetensors import safe_open

    with _explained(folder):
        if _config_of(folder, model) is None:
            return None
        with safe_open(folder / _TENSORS, framework="pt") as file:
            ids: torch.Tensor = file.get_tensor("ids")
            return ids


def _config_of(folder: Path, model: str) -> dict[str, Any] | None:
    """What a folder says of its cache; None where there is none, or that of another model."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if config["kind"] != _KIND:
        raise ValueError(f"kind {config['kind']!r}")
    return config if config["format_version"] == FORMAT_VERSION and config["model"] == model else None


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        # Not overwritten: it may be something else than a damaged memory.
        raise CheckpointError(
            f"no KV memory, or a damaged one ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="delete the folder (the corpus is then read again), or choose another",
        ) from error
