"""A chat model that runs in this process: many chats at once, greedily or by sampling.

Imports torch; import this module only where it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.types import Messages
from zrag_core.errors import AnsweringError

# Chats that are written at once. A step reads all weights whether it writes one token or eight.
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages to reply to.

    Attributes:
        max_tokens: longest reply.
        temperature: of sampling; 0 takes the most probable token.
        stream: is shown the reply while it is written, and may stop it.
    """

    messages: Messages
    max_tokens: int
    temperature: float = 0.0
    stream: AnswerStream | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the model wrote, with the tokens of prompt and reply.

    Attributes:
        finished: it came to an end by itself, within `max_tokens`.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finished: bool


class _Watch:
    """Shows replies while they are written (a streamer of `generate`) and ends what is stopped (a stopping criterion).

    Args:
        text: the text of a reply's tokens, as far as they go.
    """

    def __init__(self, chats: Sequence[Chat], text: Callable[[list[int], Chat], str]):
        self._chats, self._text = chats, text
        self._ids: list[list[int]] = [[] for _ in chats]

    def put(self, tokens: torch.Tensor) -> None:
        if tokens.dim() > 1:  # the prompts, which come first
            return
        for ids, chat, token in zip(self._ids, self._chats, tokens.tolist(), strict=True):
            ids.append(token)
            if chat.stream is not None and len(ids) <= chat.max_tokens:
                chat.stream.reach(self._text(ids, chat))

    def end(self) -> None:
        """Nothing is held back."""

    def __call__(self, tokens: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        gone = [chat.stream is not None and chat.stream.stopped for chat in self._chats]
        return torch.tensor(gone, device=tokens.device)


class LocalChatModel:
    """A causal LM with a chat template, from a Hugging Face folder.

    `refusal` may be called while another thread is in `reply`.

    Args:
        folder: its weights, configuration and tokenizer.
        name: what it is called in messages.
        threads: CPU threads of the whole process; left out, as they are.

    Raises:
        AnsweringError: the folder holds no such model.
    """

    def __init__(self, folder: Path, name: str, threads: int | None = None):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        if threads:
            torch.set_num_threads(threads)
        logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # Without instructions for it, a processor multiplies bfloat16 far slower than float32.
        half = device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
            lm: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if half else torch.float32)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise AnsweringError(f"the model '{name}' cannot be loaded ({reason})", where=str(folder)) from error
        self.name = name
        # Encoding with and without padding changes the tokenizer, which allows no other thread meanwhile.
        self._encoding = threading.Lock()
        self._lm = lm.to(device).eval()
        self._window = int(lm.config.max_position_embeddings)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        added = self._tokenizer.added_tokens_decoder.values()
        self._control_tokens = [str(token) for token in added if token.special]
        ends = lm.generation_config.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}

    def refusal(self, chat: Chat) -> str | None:
        """Why `chat` cannot be replied to, on one line; None where it can."""
        with self._encoding:
            ids = self._tokenizer(self._text(chat), add_special_tokens=False)["input_ids"]
        needed = len(ids) + chat.max_tokens
        if needed <= self._window:
            return None
        return f"prompt and reply take {needed} tokens, and {self.name} reads {self._window}"

    def reply(self, chats: Sequence[Chat]) -> list[ChatReply]:
        """Reply to `chats`, in order; those of like length are written together.

        Raises:
            AnsweringError: one is longer than the model reads.
        """
        for chat in chats:
            if reason := self.refusal(chat):
                raise AnsweringError(reason, where=f"model {self.name}", remedy="give it less text")
        texts = [self._text(chat) for chat in chats]
        order = sorted(range(len(chats)), key=lambda i: (chats[i].temperature, len(texts[i])))
        replies: dict[int, ChatReply] = {}
        while order:
            temperature = chats[order[0]].temperature
            batch = [i for i in order[:_BATCH] if chats[i].temperature == temperature]
            written = self._write([texts[i] for i in batch], [chats[i] for i in batch])
            replies |= dict(zip(batch, written, strict=True))
            order = order[len(batch) :]
        return [replies[i] for i in range(len(chats))]

    @torch.inference_mode()
    def _write(self, texts: Sequence[str], chats: Sequence[Chat]) -> list[ChatReply]:
        with self._encoding:
            inputs = self._tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=False)
        temperature = chats[0].temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        output = self._lm.generate(
            **{name: tensor.to(self._lm.device) for name, tensor in inputs.items() if name != "token_type_ids"},
            max_new_tokens=max(chat.max_tokens for chat in chats),
            pad_token_id=self._tokenizer.pad_token_id,
            **sampling,
            **self._watched(chats),
        )
        read = inputs["attention_mask"].sum(dim=1).tolist()
        written = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._finish(ids, chat, tokens) for ids, chat, tokens in zip(written, chats, read, strict=True)]

    def _watched(self, chats: Sequence[Chat]) -> dict[str, Any]:
        """What `generate` needs for chats that are shown while they are written; nothing where there are none."""
        if all(chat.stream is None for chat in chats):
            return {}
        from transformers import StoppingCriteriaList

        watch = _Watch(chats, lambda ids, chat: self._finish(ids, chat, 0).text)
        return {"streamer": watch, "stopping_criteria": StoppingCriteriaList([watch])}

    def _finish(self, ids: list[int], chat: Chat, prompt_tokens: int) -> ChatReply:
        """The reply up to its end mark or its limit; the longest of the batch went on longer."""
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        own = ids[: min(end, chat.max_tokens)]
        # Byte-level tokens may stop within a character.
        with self._encoding:
            text = self._tokenizer.decode(own, skip_special_tokens=True).rstrip("\ufffd").strip()
        finished = end < len(ids) and end < chat.max_tokens
        return ChatReply(text, prompt_tokens, len(own) + finished, finished)

    def _text(self, chat: Chat) -> str:
        """The chat as the model was trained to read it; what looks like a control token in a message is none."""
        messages = [{**message, "content": self._plain(message["content"])} for message in chat.messages]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def _plain(self, content: str) -> str:
        for token in self._control_tokens:
            content = content.replace(token, f"{token[0]} {token[1:]}")
        return content
