"""`zrag serve-reader`: the model of the reader `local` behind OpenAI's API, on loopback only."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from zrag_core.settings import LOCAL_MODEL
from zrag_pipeline.commands.arguments import Commands, add_command, port, positive


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "serve-reader",
        run,
        summary="serve a small LLM that answers, on this machine",
        description=f"Serve {LOCAL_MODEL}, the model of `answers.reader: local`, by an OpenAI-compatible API "
        "on loopback only, until Ctrl-C. Runs with `answers.reader: local` start and stop one by themselves; "
        "one that stays up saves them the start: give its address as `answers.base_url`. It reads English only.",
        examples=["zrag serve-reader", "zrag serve-reader --port 8001 --threads 4"],
    )
    parser.add_argument("--port", type=port, default=0, metavar="N", help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: one for each core)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, or until the server ends by itself."""
    from zrag_core.answering.local_process import serving
    from zrag_core.model.architecture.packaged_llms import SMOLLM2
    from zrag_core.settings.backbone import own_threads

    # SIGINT too: a shell that starts this in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        threads = arguments.threads or own_threads()
        with serving(SMOLLM2.model_folder(), LOCAL_MODEL, threads=threads, port=arguments.port) as server:
            print(f"address: {server.base_url}")
            print(f"model:   {server.model}")
            print(f"use:     answers: {{reader: local, base_url: {server.base_url}}}")
            print(f"stop:    Ctrl-C, or kill {os.getpid()}", flush=True)
            code = server.process.wait()
            print(f"zrag: the server ended with code {code}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 0
