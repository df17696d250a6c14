"""A chat model in this process as MemoRAG's light model.

Imports torch; import this module only where it is used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from zrag_core.answering.local_model import Chat, LocalChatModel
from zrag_core.answering.prices import estimate_cost
from zrag_core.answering.prompts import prompt_hash
from zrag_core.answering.types import Completion, CostEstimate, Progress, Prompt


class LocalCompleter:
    """Completes prompts by a local model, free of charge; nothing is cached.

    A prompt that is longer than the model reads gets an error instead of a text.
    """

    name = "local"

    def __init__(self, model: LocalChatModel, temperature: float):
        self.model = model.name
        self._model = model
        self._temperature = temperature

    def complete(self, prompts: Sequence[Prompt], progress: Progress | None = None) -> list[Completion]:
        """Return one `Completion` for each prompt, in order."""
        chats = [Chat(prompt.messages, prompt.max_tokens, self._temperature) for prompt in prompts]
        refusals = [self._model.refusal(chat) for chat in chats]
        began = time.perf_counter()
        fitting = [chat for chat, refusal in zip(chats, refusals, strict=True) if refusal is None]
        replies = iter(self._model.reply(fitting))
        each_ms = 1000.0 * (time.perf_counter() - began) / max(1, len(fitting))
        found = []
        for prompt, refusal in zip(prompts, refusals, strict=True):
            key = prompt_hash(self.model, self._temperature, prompt.max_tokens, prompt.messages)
            if refusal is not None:
                found.append(Completion("", 0, 0, 0.0, 0.0, False, key, refusal))
                continue
            reply = next(replies)
            error = None if reply.text else "the model returned no text"
            counted = (reply.prompt_tokens, reply.completion_tokens)
            found.append(Completion(reply.text, *counted, 0.0, each_ms, False, key, error))
            if progress:
                progress(len(found), len(prompts), 0.0)
        return found

    def forget(self, completion: Completion) -> None:
        """Do nothing: nothing is kept."""

    def estimate_prompts(self, prompts: Sequence[Prompt]) -> CostEstimate:
        """Return an estimate of nothing."""
        return estimate_cost(prompts, self.model, at_openai=False)
