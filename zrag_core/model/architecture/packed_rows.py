"""A memory as it is written to disk: rows as long as they are, a byte for a number of a slot or a key.

Slots and keys are whole multiples of a scale of their own already (`token_codec.quantise`), so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.token_codec import slot_scales
from zrag_core.model.architecture.word_lists import NO_WORD

_VECTORS = ("z", "title_slots", "keys")  # [N, w, d], the vectors in use first
_WORDS = ("title", "text")


def pack(memory: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `unpack` makes a memory of again, bit for bit but for the padding of its rows."""
    packed = {"frequency": memory["frequency"].cpu()}
    for name in _VECTORS:
        rows = memory[name].detach().cpu().float()
        used = memory["spans"].cpu() != UNUSED if name == "z" else (rows != 0).any(-1)
        packed[f"{name}.count"] = used.sum(1).int()
        packed[f"{name}.scale"] = slot_scales(rows[used])[:, 0].half()
        packed[f"{name}.numbers"] = _numbers(rows[used])
        if name == "z":
            packed["z.span"] = memory["spans"].cpu()[used]
    for name in _WORDS:
        words = memory[f"{name}_words"].cpu()
        used = words != NO_WORD
        packed[f"{name}.count"] = used.sum(1).int()
        packed[f"{name}.word"] = words[used]
        packed[f"{name}.weight"] = memory[f"{name}_weights"].cpu()[used]
    return packed


def unpack(packed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The memory's tensors, padded to their longest rows."""
    memory = {"frequency": packed["frequency"]}
    for name in _VECTORS:
        count = packed[f"{name}.count"]
        values = packed[f"{name}.numbers"].float() * packed[f"{name}.scale"].float()[:, None]
        memory[name] = _padded(values, count, 0)
        if name == "z":
            memory["spans"] = _padded(packed["z.span"], count, UNUSED)
    for name in _WORDS:
        count = packed[f"{name}.count"]
        memory[f"{name}_words"] = _padded(packed[f"{name}.word"], count, NO_WORD)
        memory[f"{name}_weights"] = _padded(packed[f"{name}.weight"], count, 0)
    return memory


def packed_slots(slots: torch.Tensor) -> bytes:
    """The numbers of slots [n, d] as they stand on disk."""
    return _numbers(slots.detach().cpu().float()).numpy().tobytes()


def packed_words(words: torch.Tensor) -> bytes:
    """The words [L] of a row as they stand on disk."""
    own = words.detach().cpu()
    return own[own != NO_WORD].contiguous().numpy().tobytes()


def _numbers(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors / slot_scales(vectors)).round().to(torch.int8).contiguous()


def _padded(values: torch.Tensor, count: torch.Tensor, fill: int) -> torch.Tensor:
    """[N, w, ...] of ragged rows that lie behind each other."""
    width = max(1, int(count.max())) if len(count) else 1
    result = values.new_full((len(count), width, *values.shape[1:]), fill)
    result[torch.arange(width)[None] < count[:, None]] = values
    return result
