"""`zrag serve`: a page to ask the memory, and an API that OpenAI's clients speak."""

from __future__ import annotations

import argparse
import sys

from zrag_pipeline.commands.arguments import Commands, add_command, port, share
from zrag_pipeline.commands.memory_choice import MemoryChoice, add_checkpoint_option, choose_memory, open_memory
from zrag_pipeline.commands.reader_choice import add_reader_options, chosen_reader

_LOOPBACK = ("127.0.0.1", "localhost")


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "serve",
        run,
        summary="serve a page to ask the memory, and an API, on this machine",
        description="Serve a page to ask the memory, and an API: OpenAI's /v1/chat/completions and /v1/responses, "
        "/v1/retrieve, /healthz; /docs describes it. On loopback, until Ctrl-C. A new champion is asked at once. "
        "Without a reader the evidence is quoted, and nothing is called an answer.",
        examples=["zrag serve", "zrag serve --reader local", "zrag serve --memory handbook --port 8081"],
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8080, metavar="N", help="port (default: %(default)s)")
    add_reader_options(parser)
    parser.add_argument("--least-confidence", type=share, metavar="P", help="refuse below this probability")
    add_checkpoint_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    choose_memory(arguments.checkpoint, arguments.memory)  # one line where there is none
    import uvicorn

    from zrag_core.web.app import create_app
    from zrag_core.web.service import MemoryService

    with chosen_reader(arguments) as reader:
        chosen: dict[str, MemoryChoice] = {}

        def current() -> str:
            choice = choose_memory(arguments.checkpoint, arguments.memory)
            chosen[str(choice.folder)] = choice
            return str(choice.folder)

        service = MemoryService(current, lambda name: open_memory(chosen[name], reader, arguments.least_confidence))
        about = service.describe()  # a damaged memory never serves
        print(f"{about['checkpoint_id']}, {about['documents']:,} documents")
        shown = "127.0.0.1" if arguments.host in ("0.0.0.0", "::") else arguments.host
        print(f"ask it at http://{shown}:{arguments.port}/   (API: /docs; Ctrl-C stops it)", flush=True)
        hosts = _LOOPBACK if arguments.host in _LOOPBACK else ("*",)
        app = create_app(service, hosts)
        server = uvicorn.Server(uvicorn.Config(app, host=arguments.host, port=arguments.port, log_level="warning"))
        server.run()
        if not server.started:
            print(f"zrag: {arguments.host}:{arguments.port} cannot be listened on -> --port N", file=sys.stderr)
            return 1
    return 0
