"""Embeddings of OpenAI, or of any server that speaks its API, within the spending limit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

import numpy as np
import openai
from openai.types import CreateEmbeddingResponse

from zrag_core.answering.failures import Failure, Outlook, Waits, classify, public_url, wait_s
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prices import Price, Usage, actual_cost, price_of
from zrag_core.baselines.text_encoder import FIELD, Encoder, unit_rows
from zrag_core.errors import AnsweringError, SettingsError

_BATCH = 128


class OpenAIEncoder(Encoder):
    """Embeddings of an OpenAI-compatible server; `OPENAI_API_KEY` and `OPENAI_BASE_URL` are read as usual.

    Args:
        model: name of the embedding model.
        ledger: holds the spending limit; left out, nothing is counted.
        max_retries: of each batch.
        waits: before retries.
    """

    def __init__(
        self,
        model: str,
        *,
        ledger: SpendingLedger | None = None,
        max_retries: int = 5,
        timeout_s: float = 60.0,
        waits: Waits | None = None,
    ):
        """Prepare the client; nothing is sent yet.

        Raises:
            SettingsError: no model name, no key in the environment, or a limit but no price to keep it by.
        """
        if not model:
            raise SettingsError("no model named", where=FIELD, remedy="write openai:text-embedding-3-small")
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            raise SettingsError(
                f"'openai:{model}' needs the environment variable OPENAI_API_KEY",
                where=FIELD,
                remedy="export it, or use 'lsa'",
            )
        self.name = f"openai:{model}"
        self._model = model
        self._key = key
        # The SDK does not retry: its retries would pass by the spending limit.
        self._client = openai.OpenAI(api_key=key, max_retries=0, timeout=timeout_s)
        self._where = public_url(str(self._client.base_url))
        self._attempts = max_retries + 1
        self._waits = waits or Waits()
        self._ledger = ledger or SpendingLedger(float("inf"))
        self._price = _price(model, self._client.base_url.host)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of documents.

        Raises:
            AnsweringError: the server cannot be reached or refuses, or the spending limit is reached.
        """
        batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
        return unit_rows(np.array([row for batch in batches for row in self._embed(list(batch))], dtype=np.float32))

    def _embed(self, batch: list[str]) -> list[list[float]]:
        outcome, attempt = self._attempt(batch), 1
        while isinstance(outcome, Failure):
            if outcome.outlook is not Outlook.RETRY or attempt == self._attempts:
                raise self._error(outcome)
            time.sleep(wait_s(outcome, attempt - 1, self._waits.retry_s))
            outcome, attempt = self._attempt(batch), attempt + 1
        if len(outcome.data) != len(batch):
            raise AnsweringError(
                f"{len(outcome.data)} embeddings came back for {len(batch)} texts",
                where=self._where,
                remedy="try again",
            )
        return [item.embedding for item in sorted(outcome.data, key=lambda item: item.index)]

    def _attempt(self, batch: list[str]) -> CreateEmbeddingResponse | Failure:
        """Send a batch once, and keep the books."""
        # A byte-level tokenizer never makes more tokens than there are bytes.
        worst = actual_cost(Usage(sum(len(text.encode("utf-8")) for text in batch), 0), self._price)
        if not self._ledger.try_reserve(worst):
            raise AnsweringError(
                f"the spending limit of {self._ledger.limit_usd:g} USD leaves no room for embeddings",
                where=FIELD,
                remedy="raise answers.max_cost_usd, or use 'lsa'",
            )
        try:
            response = self._client.embeddings.create(model=self._model, input=batch)
        except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            failure = classify(error, self._key)
            self._ledger.refuse(worst, perhaps_billed=failure.perhaps_billed)
            return failure
        except BaseException:
            # Interrupted while in flight: the server may answer, and charge, all the same.
            self._ledger.lose(worst)
            raise
        usage = response.usage
        self._ledger.settle(worst, actual_cost(Usage(usage.prompt_tokens, 0), self._price) if usage else worst)
        return response

    def _error(self, failure: Failure) -> AnsweringError:
        if failure.status == 401:
            return AnsweringError("the key was refused", where=self._where, remedy="check OPENAI_API_KEY")
        if failure.status is None:
            return AnsweringError(
                f"the embedding server cannot be reached ({failure.message})",
                where=self._where,
                remedy="check the network and OPENAI_BASE_URL",
            )
        return AnsweringError(
            f"the embedding server refused: {failure.message}",
            where=self._where,
            remedy=f"check the model name '{self._model}' and the account's limits",
        )


def _price(model: str, host: str) -> Price:
    price, note = price_of(model, at_openai=host == "api.openai.com" or host.endswith(".api.openai.com"))
    if price is None:
        raise SettingsError(
            f"{note}, so the spending limit could not be kept",
            where=FIELD,
            remedy="choose a model listed in zrag_core/answering/prices.yaml, or add its price there",
        )
    return price
