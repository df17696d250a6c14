"""What stands around slots when a pretrained LLM reads them, in the language that it reads best."""

from __future__ import annotations

from typing import NamedTuple

from zrag_core.settings.backbone import GEMMA3


class ReadingPrompts(NamedTuple):
    """Pieces of prompts; the passage is made of slots.

    Attributes:
        passage: before a passage.
        ask: between a passage and the question about it. The English words are those of Sachan et al. 2022
            (arXiv 2204.07496), who rank passages by the likelihood of the question.
        nothing: before a question about nothing that was read.
        repeat: between a passage and its repetition.
        question, quote: before and after a question whose answer is to be quoted from the passage before it.
    """

    passage: str
    ask: str
    nothing: str
    repeat: str
    question: str
    quote: str


ENGLISH = ReadingPrompts(
    passage="Passage: ",
    ask="\nPlease write a question based on this passage.\nQuestion:",
    nothing="Please write a question.\nQuestion:",
    repeat="\nRepeat the passage.\nPassage: ",
    question="\nQuestion: ",
    quote="\nQuote the sentence of the passage that answers.\nPassage: ",
)
KOREAN = ReadingPrompts(
    passage="글: ",
    ask="\n이 글로 답할 수 있는 질문을 쓰세요.\n질문:",
    nothing="질문을 쓰세요.\n질문:",
    repeat="\n이 글을 그대로 다시 쓰세요.\n글: ",
    question="\n질문: ",
    quote="\n이 글에서 답이 되는 문장을 그대로 쓰세요.\n글: ",
)


def reading_prompts(backbone: str) -> ReadingPrompts:
    """The prompts of a backbone, given by its name."""
    return KOREAN if backbone == GEMMA3 else ENGLISH
