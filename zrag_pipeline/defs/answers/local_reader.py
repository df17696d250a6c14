"""The server of the reader `local`, up while an answer run lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zrag_core.settings import LOCAL_MODEL, Settings


@contextmanager
def with_local_reader(settings: Settings, log: Callable[[str], None]) -> Iterator[Settings]:
    """The settings with the address of the local reader's server, which is killed when the context is left.

    Where another reader is asked for, nothing is started. Where `answers.base_url` names a server, that one is asked.

    Raises:
        SettingsError: the model is not installed.
        AnsweringError: the server does not start, or the one at `answers.base_url` serves another model.
    """
    answers = settings.answers
    if answers.reader != "local":
        yield settings
        return
    from zrag_core.answering.local_process import refuse_other_models, serving

    if answers.base_url is not None:
        refuse_other_models(answers.base_url, LOCAL_MODEL)
        yield settings
        return
    from zrag_core.model.architecture.packaged_llms import SMOLLM2

    with serving(SMOLLM2.model_folder(), LOCAL_MODEL, threads=settings.backbone.cpu_threads) as server:
        log(f"{server.model} answers, on this machine: {server.base_url}")
        addressed = answers.model_copy(update={"base_url": server.base_url})
        yield settings.model_copy(update={"answers": addressed})
