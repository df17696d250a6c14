"""Decoding by a local causal LM behind the KV cache of a corpus, and what its prompts are made of.

Imports torch; import this module only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zrag_core.corpus.types import Question
from zrag_core.errors import SettingsError
from zrag_core.memorag.clue_memory import Usage
from zrag_core.memorag.kv_cache import KvCache
from zrag_core.memorag.prompts import LANGUAGES, load_template
from zrag_core.model.architecture.create_backbone import resolve_device
from zrag_core.model.architecture.packaged_llms import location_of

_QUESTION_TOKENS = 256  # longer questions are cut
_MARK = "\u241f"  # a character that no chat template writes


def load_causal_lm(name: str, *, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Load a causal LM and its tokenizer.

    Args:
        name: `smollm2`, or a Hugging Face name or local path.
        device: "auto" (the GPU where there is one), "cpu" or "cuda".
        dtype: "auto" (bfloat16 on a GPU, else float32), "float32" or "bfloat16".

    Raises:
        SettingsError: it cannot be loaded; the message says what to do.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = resolve_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if target.type == "cuda" else "float32"
    location = location_of(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        lm: Any = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, device_map={"": target})
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot load the memory model '{name}' ({str(error).splitlines()[0]})",
            where="memory model",
            remedy="give a Hugging Face causal LM that this machine can reach, or a local folder",
        ) from error
    return lm.eval(), tokenizer


class KvDecoder:
    """A causal LM, and what its prompts are made of.

    A prompt is one user message: the corpus, then a task. The corpus comes first, so that its keys and values do not
    depend on the task.
    """

    def __init__(self, lm: Any, tokenizer: Any, draft_tokens: int, clue_tokens: int):
        self._lm, self._tokenizer = lm, tokenizer
        self.draft_tokens, self.clue_tokens = draft_tokens, clue_tokens
        self._before, self._after = _frame(tokenizer)

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        device: torch.device = self._lm.get_input_embeddings().weight.device
        return device

    def words(self, text: str) -> list[int]:
        """Token ids of text that others wrote: what looks like a control token in it is none."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def head(self, language: str) -> list[int]:
        """Token ids that stand before the first document."""
        intro = load_template("recall", language)["documents"].substitute()
        return self._before + self.words(f"{intro}\n\n")

    def task(self, name: str, question: Question, draft: str = "") -> list[int]:
        """Token ids that stand behind the last document."""
        sections = load_template("recall", question.language)
        values = {
            "question": self._cut(question.question, _QUESTION_TOKENS),
            "draft": self._cut(draft, self.draft_tokens),
        }
        text = f"{sections['documents.end'].substitute()}\n\n{sections[name].substitute(values)}"
        return self.words(text) + self._after

    def longest_task(self) -> int:
        """Tokens to keep free behind the corpus: for a task and what is written in answer."""
        empty = [Question("", "", language=language) for language in LANGUAGES]
        drafting = max(len(self.task("draft", question)) for question in empty) + self.draft_tokens
        asking = max(len(self.task("clues", question)) for question in empty) + self.draft_tokens + self.clue_tokens
        return max(drafting, asking) + _QUESTION_TOKENS

    @torch.no_grad()
    def write(self, cache: KvCache, tasks: Sequence[list[int]], limit: int) -> list[tuple[str, Usage]]:
        """Go on from a copy of `cache` with each task, greedily, for at most `limit` tokens.

        Returns:
            text, and the tokens of task and text, of each.
        """
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        longest = max(map(len, tasks))
        ids = torch.full((len(tasks), cache.tokens + longest), pad)
        mask = torch.ones_like(ids)
        ids[:, : cache.tokens] = cache.ids
        for row, task in enumerate(tasks):
            # Padding stands between corpus and task: what is written has to follow the task.
            ids[row, ids.shape[1] - len(task) :] = torch.tensor(task)
            mask[row, cache.tokens : ids.shape[1] - len(task)] = 0
        output = self._lm.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            past_key_values=cache.for_batch(len(tasks)),
            max_new_tokens=limit,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
        )
        written = output[:, ids.shape[1] :].tolist()
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            (_whole(text), Usage(0.0, len(task), self._length(own)))
            for text, task, own in zip(texts, tasks, written, strict=True)
        ]

    def _length(self, written: list[int]) -> int:
        """Tokens up to the first end mark; behind it stands padding."""
        ends = self._lm.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return next((place + 1 for place, token in enumerate(written) if token in ends), len(written))

    def _cut(self, text: str, limit: int) -> str:
        ids = self.words(text.strip())
        return _whole(self._tokenizer.decode(ids[:limit])) if len(ids) > limit else text.strip()


def _whole(text: str) -> str:
    """Decoded text without the half character at its end: byte-level tokens may stop within one."""
    return text.rstrip("\ufffd").strip()


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that the chat template puts before and behind a user's message, the start of the reply included.

    A model without a template reads plain text.
    """
    if not tokenizer.chat_template:
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return start, tokenizer.encode("\n", add_special_tokens=False)
    # Thinking would take all the tokens that a draft may have; templates that know no thinking ignore the option.
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    before, _, after = text.partition(_MARK)
    return tokenizer.encode(before, add_special_tokens=False), tokenizer.encode(after, add_special_tokens=False)
