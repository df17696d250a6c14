"""Versioned prompt templates of the memory models, one file per purpose, version and language.

A template is made of `## NAME` sections, as those of the answering model are. A changed wording gets a new version
number; the wording itself is part of every summary's key and of the KV memory's tokens, so nothing stale is read.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from string import Template

from zrag_core.errors import AnsweringError

PROMPT_VERSION = "v1"
LANGUAGES = ("en", "ko")

_SECTION = re.compile(r"^## ([a-z_.]+)\n", re.MULTILINE)


@cache
def load_template(purpose: str, language: str) -> dict[str, Template]:
    """Return the sections of the template for `purpose` ("recall", "summary") in `language`.

    Raises:
        AnsweringError: there is no template in that language.
    """
    file = resources.files(__name__) / f"{purpose}_{PROMPT_VERSION}.{language}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AnsweringError(
            f"no '{purpose}' prompt in language '{language}'", remedy=f"use one of: {', '.join(LANGUAGES)}"
        ) from None
    parts = _SECTION.split(text)
    return {name: Template(body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
