"""Costs of requests: list prices from prices.yaml, estimates before a run, actual costs after each answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from zrag_core.answering.types import CostEstimate, Messages, Prompt
from zrag_core.settings import LOCAL_MODEL
from zrag_core.text import evidence_tokens

# Tokens that the chat format adds: role and separators of a message, and the start of the reply.
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_REPLY = 3


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached_input: float


@dataclass(frozen=True, slots=True)
class PriceTable:
    """List prices by model name, with the date they were taken and where from.

    Attributes:
        batch_discount: share of the list price that requests through the Batch API do not pay.
    """

    as_of: str
    source: str
    batch_discount: float
    models: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the server counted; `cached_prompt_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0


@cache
def load_prices() -> PriceTable:
    """Return the price table shipped with the package."""
    text = (resources.files("zrag_core.answering") / "prices.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    models = {name: Price(**price) for name, price in table["models"].items()}
    return PriceTable(str(table["as_of"]), table["source"], float(table["batch_discount"]), models)


def price_of(model: str, *, at_openai: bool, batch: bool = False) -> tuple[Price | None, str]:
    """Return the price of `model` and a note on where it comes from.

    A model without a list price costs nothing at another server than OpenAI's, where it is most
    often one's own; at OpenAI its price is unknown (None), and no spending limit could hold.
    """
    table = load_prices()
    if model == LOCAL_MODEL and not at_openai:
        return Price(0.0, 0.0, 0.0), "it runs on this machine, free of charge"
    if model in table.models:
        price = table.models[model]
        if batch:
            share = 1.0 - table.batch_discount
            price = Price(share * price.input, share * price.output, share * price.cached_input)
            return price, f"{share:.0%} of the list price of {table.as_of}, by the Batch API"
        return price, f"list price of {table.as_of}"
    if at_openai:
        return None, f"no price for '{model}' in prices.yaml of {table.as_of}"
    return Price(0.0, 0.0, 0.0), f"no list price for '{model}' at this server: counted as free"


def prompt_tokens(messages: Messages) -> int:
    """Estimated tokens of a prompt: UTF-8 bytes / 4 of each message, and the chat format."""
    return sum(evidence_tokens(m["content"]) + _TOKENS_PER_MESSAGE for m in messages) + _TOKENS_PER_REPLY


def worst_case_cost(prompt: Prompt, price: Price) -> float:
    """Upper bound on what sending `prompt` can cost, in US dollars.

    A byte-level tokenizer never makes more tokens than there are bytes, whatever the language.
    """
    upper = sum(len(m["content"].encode("utf-8")) + 2 * _TOKENS_PER_MESSAGE for m in prompt.messages)
    return (upper * price.input + prompt.max_tokens * price.output) / 1e6


def actual_cost(usage: Usage, price: Price) -> float:
    """Cost of an answered request, in US dollars."""
    fresh = usage.prompt_tokens - usage.cached_prompt_tokens
    total = (
        fresh * price.input + usage.cached_prompt_tokens * price.cached_input + usage.completion_tokens * price.output
    )
    return total / 1e6


def estimate_cost(
    prompts: Sequence[Prompt], model: str, *, at_openai: bool, requests: int | None = None, batch: bool = False
) -> CostEstimate:
    """Estimate what sending `prompts` to `model` costs at most.

    Args:
        requests: number of prompts before cached and repeated ones were left out.
        batch: they go through the Batch API.
    """
    price, note = price_of(model, at_openai=at_openai, batch=batch)
    tokens = sum(prompt_tokens(prompt.messages) for prompt in prompts)
    longest = sum(prompt.max_tokens for prompt in prompts)
    cost = None if price is None else actual_cost(Usage(tokens, longest), price)
    if not prompts:
        cost, note = 0.0, "nothing to send"
    return CostEstimate(
        model, len(prompts) if requests is None else requests, len(prompts), tokens, longest, cost, note
    )
