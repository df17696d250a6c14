"""Versioned prompt templates of the memory models, one file per purpose, version and language.

A template is made of `## NAME` sections, as those of the answering model are. A changed wording gets a new version
number; the wording itself is part of every summary's key and of the KV memory's tokens, so nothing stale is read.
"""

from __future__ import annotations

from string import Template

from zrag_core.answering import prompts

PROMPT_VERSION = "v1"
LANGUAGES = ("en", "ko")


def load_template(purpose: str, language: str) -> dict[str, Template]:
    """Return the sections of the template for `purpose` ("recall", "summary") in `language`.

    Raises:
        AnsweringError: there is no template in that language.
    """
    return prompts.load_template(purpose, language, package=__name__, version=PROMPT_VERSION)
