"""The section `answers`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from zrag_core.settings.section import Positive, Rate, Section, names_variable

LOCAL_MODEL = "SmolLM2-135M-Instruct"
"""The model of the reader `local`, as every table calls it."""


def _without_credentials(address: str | None) -> str | None:
    # Settings are logged and kept as parameters of runs.
    if address is not None and any(mark in address for mark in "@?#"):
        raise ValueError(
            "holds a user name, password or query, which would be logged (not shown here); give only "
            "https://host/path and put the key into the environment variable that api_key_env names"
        )
    return address


def _variable_name(name: str | None) -> str | None:
    if name is not None and not names_variable(name):
        raise ValueError(
            "not the name of an environment variable (not shown, as it may be a key); export the key as "
            "OPENAI_API_KEY, say, and give that name"
        )
    return name


class JudgeSettings(Section):
    """An LLM that compares answers with the golden ones; its cost counts against `max_cost_usd` too."""

    model: str | None = Field(None, description="judges the answers at answers.budget; left out: nothing is judged")
    base_url: str | None = Field(
        None, description="any OpenAI-compatible server; left out: the one that answers, unless the reader is local"
    )
    api_key_env: str | None = Field(
        None, description="environment variable that holds the judge's key; left out: that of the answers"
    )

    _address = field_validator("base_url")(_without_credentials)
    _variable = field_validator("api_key_env")(_variable_name)


class AnswerSettings(Section):
    """The answering model, and what it may spend."""

    reader: Literal["auto", "offline", "openai", "local"] = Field(
        "auto",
        description="auto: openai where the key's variable is set, else the offline extractive reader; local: "
        f"{LOCAL_MODEL} on this machine, English only, by a server that the answers start and stop",
    )
    model: str = Field("gpt-4o", description=f"model name sent to the server; reader local: always {LOCAL_MODEL}")
    temperature: Rate = Field(0.0, description="sampling temperature")
    base_url: str | None = Field(
        None,
        description="any OpenAI-compatible server; left out: api.openai.com; reader local: one that "
        "`zrag serve-reader` started",
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    max_answer_tokens: Positive = Field(64, description="longest answer")
    budget: Positive = Field(256, description="evidence budget that is answered from")
    curve_budgets: tuple[Positive, ...] = Field(
        (), description="further evidence budgets to answer from, for F1 by evidence tokens; each costs as much again"
    )
    concurrency: Positive = Field(8, description="requests in flight at once")
    timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="seconds before a request is given up")
    max_retries: Annotated[int, Field(ge=0)] = Field(5, description="retries with exponential back-off")
    max_cost_usd: Rate = Field(5.0, description="hard spending limit of one run, in US dollars")
    limit_questions: Positive | None = Field(None, description="at most this many questions per system")
    batch: bool = Field(False, description="send everything through the Batch API: half the price, up to 24 hours")
    max_traces: Annotated[int, Field(ge=0)] = Field(
        5000, description="at most this many calls are traced in MLflow (a few milliseconds each); 0: none"
    )
    judge: JudgeSettings = JudgeSettings()

    _address = field_validator("base_url")(_without_credentials)
    _variable = field_validator("api_key_env")(_variable_name)

    @model_validator(mode="after")
    def _has_batches(self) -> AnswerSettings:
        if self.reader == "local" and self.batch:
            raise ValueError("reader 'local' has no Batch API; set batch to false")
        return self

    @property
    def answering_model(self) -> str:
        """The model that a reader other than the offline one asks."""
        return LOCAL_MODEL if self.reader == "local" else self.model
