"""Who answers from the evidence: nobody, a small LLM on this machine, or a model behind OpenAI's API."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zrag_core.errors import ZragError
from zrag_core.settings import load_settings
from zrag_pipeline.platform import paths

if TYPE_CHECKING:
    from zrag_core.answering.types import Reader

_NOBODY = "none"


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add `--reader` and `--model` to a command."""
    parser.add_argument(
        "--reader",
        choices=(_NOBODY, "local", "openai"),
        default=_NOBODY,
        help="who answers from the evidence: nobody (default), a small LLM on this machine (often wrong), or a model "
        "at OpenAI or the server of OPENAI_BASE_URL, which costs money; answers are cached",
    )
    parser.add_argument("--model", metavar="NAME", help="with --reader openai: which model (default: gpt-4o)")


@contextlib.contextmanager
def chosen_reader(arguments: argparse.Namespace) -> Iterator[Reader | None]:
    """The reader that was asked for, its server up while the context lasts; None where nobody answers.

    Raises:
        ZragError: a model without a reader that has models; no key; the local model is not installed.
    """
    if arguments.model and arguments.reader != "openai":
        raise ZragError("--model needs --reader openai", remedy="leave it out, or choose that reader")
    if arguments.reader == _NOBODY:
        yield None
        return
    from zrag_core.answering.choice import choose_reader
    from zrag_pipeline.defs.answers.local_reader import with_local_reader

    answers = {"reader": arguments.reader, **({"model": arguments.model} if arguments.model else {})}
    with with_local_reader(load_settings({"answers": answers}), lambda line: None) as settings:
        yield choose_reader(settings.answers, os.environ, paths.answer_cache_file())
