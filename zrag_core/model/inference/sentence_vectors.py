"""What slots say to the LLM, kept for the next question: finding their nearest tokens costs as much as reading them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.slot_reader import SlotTokens
from zrag_core.model.architecture.spans import span_slots

TITLE = -1
"""Number that stands for a document's title instead of one of its spans."""

_KEPT = 4096  # sentences; of SmolLM2 about 150 MB


class SentenceVectors:
    """The sentences and titles of a memory as an LLM reads them; the ones used last are kept.

    Args:
        model: whose memory does not change.
    """

    def __init__(self, model: LanguageMemory):
        self._model = model
        self._kept: OrderedDict[tuple[int, int], SlotTokens] = OrderedDict()

    @torch.no_grad()
    def read(self, places: Sequence[tuple[int, int]]) -> list[SlotTokens]:
        """What stands at these rows and spans."""
        absent = [place for place in dict.fromkeys(places) if place not in self._kept]
        titles = [place for place in absent if place[1] == TITLE]
        spans = [place for place in absent if place[1] != TITLE]
        model = self._model
        if titles:
            slots = model.title_slots[[row for row, _ in titles]]
            self._keep(titles, slots, (slots != 0).any(-1))
        if spans:
            rows = torch.tensor([row for row, _ in spans], device=model.device)
            self._keep(spans, *span_slots(model.z[rows], model.spans[rows], [span for _, span in spans]))
        found = [self._kept[place] for place in places]
        for place in dict.fromkeys(places):
            self._kept.move_to_end(place)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def vectors(self, places: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Input vectors [T, H] of what stands at these rows and spans."""
        return [own.vectors for own in self.read(places)]

    def _keep(self, places: Sequence[tuple[int, int]], z: torch.Tensor, used: torch.Tensor) -> None:
        self._kept.update(zip(places, self._model.read_slots(z, used), strict=True))
