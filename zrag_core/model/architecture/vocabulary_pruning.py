"""A causal LM with fewer tokens: a multilingual vocabulary costs memory and time for languages that are not read.

A BPE tokenizer works with any part of its tokens: what has none of its own is spelled in smaller ones, down to single
bytes. The rows of the embeddings are those of the tokens that stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_ASCII = re.compile("[\u2581\n -~]+")
_FREQUENT = 40_000  # tokens stand in the order in which they were found to be worth having
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def is_korean_or_ascii(token: str, number: int) -> bool:
    """Whether a token is needed for Korean, for common English and code, or for the bytes of anything else."""
    if _HANGUL.search(token) or _BYTE.fullmatch(token) or (len(token) == 1 and not token.isalpha()):
        return True
    return bool(_ASCII.fullmatch(token)) and (number < _FREQUENT or len(token) == 1)


def keep_tokens(lm: Any, tokenizer: Any, kept: Callable[[str, int], bool], folder: Path) -> Any:
    """Take all other tokens out of the model, in place, and return the tokenizer without them.

    Args:
        lm: with tied embeddings.
        tokenizer: a fast BPE tokenizer with byte fallback.
        kept: whether a token of this number stays; the special ones (padding, end of text) always do.
        folder: where files of the new tokenizer may be written.
    """
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    needed = set(tokenizer.all_special_tokens)
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in needed]
    vocabulary = values["model"]["vocab"]
    order = sorted(
        (token for token in vocabulary if token in needed or kept(token, vocabulary[token])), key=vocabulary.__getitem__
    )
    place = {token: number for number, token in enumerate(order)}
    values["model"]["merges"] = [pair for pair in values["model"]["merges"] if {*pair, "".join(pair)} <= place.keys()]
    values["model"]["vocab"] = place
    for token in values["added_tokens"]:
        token["id"] = place[token["content"]]
    for token in values["post_processor"]["special_tokens"].values():
        token["ids"] = [place[name] for name in token["tokens"]]
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    rows = torch.tensor([vocabulary[token] for token in order])
    old = lm.get_input_embeddings().weight.data[rows].clone()
    lm.resize_token_embeddings(len(order), mean_resizing=False)
    lm.get_input_embeddings().weight.data.copy_(old)
    lm.tie_weights()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        own = getattr(tokenizer, name)
        new = None if own is None else place[tokenizer.convert_ids_to_tokens(own)]
        setattr(lm.config, name, new)
        setattr(lm.generation_config, name, new)
    return AutoTokenizer.from_pretrained(folder)
