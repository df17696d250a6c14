"""A reply of the memory as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from zrag_core.replies import Reply, Source
from zrag_pipeline.commands.terminal import clip, columns, wrap

_SOURCES, _ROUTED = 5, 5
_LABEL = "           "


def reply_text(reply: Reply, checkpoint_id: str, n_documents: int) -> str:
    """Several lines, the last one blank: the answer, where somebody answers; evidence with its places; routing."""
    size = columns()
    sure = "" if reply.confidence is None else f"{reply.confidence:.0%}"
    lines = _labelled("Question", reply.question, size)
    if reply.answerable:
        told = f"confidence {sure}" if sure else ""
        if reply.reader:
            lines += _labelled("Answer", reply.answer if reply.error is None else f"none: {reply.error}", size)
            told = ", ".join(filter(None, (told, f"answered by {reply.reader} ({reply.model})")))
        lines += _evidence(reply, size)
        lines += _labelled("", told, size) if told else []
    elif reply.error is not None:
        lines += _labelled("Not asked", reply.error, size)
    else:
        lines += _labelled("Refused", f"{reply.answer} (confidence {sure})", size)
        lines += _pieces("Nearest", reply.nearest, size)
    for note in reply.notes:
        lines += _labelled("Note", note, size)
    lines += _routing(reply, size)
    lines += _labelled("Memory", f"{checkpoint_id}, {n_documents:,} documents, {reply.latency_ms:,.0f} ms", size)
    return "\n".join([*lines, ""])


def answer_so_far(reply: Reply, answer: str) -> str:
    """How `reply_text` begins where the answer begins with `answer`; without a line end."""
    size = columns()
    return "\n".join(_labelled("Question", reply.question, size) + _labelled("Answer", answer, size))


def _evidence(reply: Reply, size: int) -> list[str]:
    if not reply.sources:  # the model's own words
        lines = _labelled("Evidence", reply.evidence or "none", size) + _labelled("", "(the model's own words)", size)
        if not reply.verified:
            lines += _labelled("", "not verified: the routed documents do not say", size)
            for sentence in reply.unsupported:
                lines += _labelled("", f"  {sentence}", size)
        return lines
    lines = _pieces("Evidence", reply.sources[:_SOURCES], size)
    if len(reply.sources) > _SOURCES:
        lines += _labelled("", f"and {len(reply.sources) - _SOURCES} more (--json shows all)", size)
    return lines


def _pieces(label: str, sources: Sequence[Source], size: int) -> list[str]:
    """Pieces of documents, each with its place below it."""
    lines = []
    for number, source in enumerate(sources):
        lines += _labelled("" if number else label, source.shown, size)
        place = f"{source.title or source.document_id}  [{source.document_id}, {source.start}-{source.end}]"
        lines += [_LABEL + "  " + clip(place, size - len(_LABEL) - 2)]
    return lines


def _routing(reply: Reply, size: int) -> list[str]:
    shown = reply.routing[:_ROUTED]
    room = (size - len(_LABEL) - 8) // 2
    titles = [clip(item.title or item.document_id, room) for item in shown]
    widest = max(map(cell_len, titles), default=0)
    return [
        ("" if number else "Routed to").ljust(len(_LABEL))
        + f"{item.score:.3f}  {set_cell_size(title, widest)}  {clip(item.document_id, room)}"
        for number, (item, title) in enumerate(zip(shown, titles, strict=True))
    ]


def _labelled(label: str, text: str, size: int) -> list[str]:
    lines = wrap(text, size, _LABEL) or [_LABEL]
    return [label.ljust(len(_LABEL)) + lines[0][len(_LABEL) :], *lines[1:]]
