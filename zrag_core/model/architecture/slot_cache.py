"""What slots say to the LLM, kept for the next time they are read: finding the nearest tokens costs as much as reading
them, and checks, systems and questions read the same sentences again and again."""

from __future__ import annotations

from collections import OrderedDict

import torch

from zrag_core.model.architecture.token_codec import TokenCodec, Vocabulary

_KEPT = 32_768  # slots; of two tokens of SmolLM2 about 100 MB


class SlotCache:
    """Reads slots with a codec; the ones used last are kept, as long as the codec's weights stay as they are."""

    def __init__(self, codec: TokenCodec, vocabulary: Vocabulary):
        self._codec, self._vocabulary = codec, vocabulary
        self._kept: OrderedDict[bytes, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._weights: tuple[tuple[int, int], ...] = ()

    @torch.no_grad()
    def read(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `TokenCodec.read`, of slots [..., d] in main memory: vectors [..., s, H] and nearest tokens [..., s]."""
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in self._codec.parameters())
        if weights != self._weights:
            self._kept.clear()
            self._weights = weights
        flat = slots.reshape(-1, slots.shape[-1])
        names = [row.tobytes() for row in flat.numpy()]
        absent = list({name: place for place, name in enumerate(names) if name not in self._kept}.items())
        if absent:
            vectors, tokens = self._codec.read(flat[[place for _, place in absent]], self._vocabulary)
            # Copies: a view would keep the whole batch alive.
            self._kept.update(
                (name, (own.clone(), ids.clone())) for (name, _), own, ids in zip(absent, vectors, tokens, strict=True)
            )
        found = [self._kept[name] for name in names]
        for name in names:
            self._kept.move_to_end(name)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        shape = slots.shape[:-1]
        vectors = torch.stack([own for own, _ in found]).unflatten(0, shape)
        return vectors, torch.stack([ids for _, ids in found]).unflatten(0, shape)
