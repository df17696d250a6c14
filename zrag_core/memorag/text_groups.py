"""Groups of neighbouring texts whose bounds follow from the texts themselves.

Groups that are simply filled one after the other all shift when a text is added at the front, and every summary would
be made again. Here some texts end their group whatever stands before them, because their hash says so (content-defined
chunking, Muthitacharoen et al. 2001, "A Low-bandwidth Network File System"): a change goes no further than the next of
these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zrag_core.text import evidence_tokens

# Full groups between two texts that end theirs, on average. Fewer: a change moves fewer bounds, and more groups stay
# small (at 3, about a sixth more groups than needed).
_APART = 3


def content_groups(texts: Sequence[str], budget: int, *, least: int = 1) -> list[range]:
    """Split texts into groups of neighbours.

    Args:
        texts: in their order, which is kept.
        budget: evidence tokens in a group, at most, unless `least` texts are longer; where everything fits, there is
            one group.
        least: texts in a group, at least (the last one may hold fewer). With 2, there are fewer groups than texts.

    Returns:
        positions of each group's texts; together they are all positions in order.
    """
    sizes = [evidence_tokens(text) for text in texts]
    if sum(sizes) <= budget:
        return [range(len(texts))] if texts else []
    groups: list[range] = []
    start = held = 0
    for i, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        if i - start >= least and held + size > budget:
            groups.append(range(start, i))
            start, held = i, 0
        held += size
        if i + 1 - start >= least and _ends(text, size, budget):
            groups.append(range(start, i + 1))
            start, held = i + 1, 0
    if start < len(texts):
        groups.append(range(start, len(texts)))
    return groups


def _ends(text: str, size: int, budget: int) -> bool:
    """True for one in so many texts, by their size, that there is one in `_APART` budgets of text on average."""
    drawn = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")
    return drawn * _APART * budget < size * 2**64
