"""Who answers from the evidence: nobody, a small LLM on this machine, or a model behind OpenAI's API."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zrag_core.errors import ZragError
from zrag_core.settings import AnswerSettings
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
        help="who answers from the evidence: nobody (default), a small LLM on this machine, or a model at OpenAI or "
        "the server of OPENAI_BASE_URL, which costs money; answers are cached",
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

    settings = AnswerSettings(reader=arguments.reader)
    if arguments.model:
        settings = settings.model_copy(update={"model": arguments.model})
    with contextlib.ExitStack() as stack:
        if arguments.reader == "local":
            from zrag_core.answering.local_process import serving
            from zrag_core.model.architecture.smollm2 import model_folder
            from zrag_core.settings import LOCAL_MODEL

            server = stack.enter_context(serving(model_folder(), LOCAL_MODEL, threads=2))
            settings = settings.model_copy(update={"base_url": server.base_url})
        yield choose_reader(settings, os.environ, paths.answer_cache_file())
