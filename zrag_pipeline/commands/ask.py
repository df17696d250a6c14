"""`zrag ask`: a question to the champion's memory, answered with evidence, its source and how sure the memory is."""

from __future__ import annotations

import argparse
import codecs
import io
import json
import sys
from collections.abc import Iterator
from typing import cast

from zrag_core.errors import ZragError
from zrag_core.memory import LEAST_CONFIDENCE
from zrag_core.text import is_blank
from zrag_pipeline.commands.arguments import Commands, add_command, positive, share
from zrag_pipeline.commands.live_reply import print_live
from zrag_pipeline.commands.memory_choice import add_checkpoint_option, choose_memory, open_memory
from zrag_pipeline.commands.reader_choice import add_reader_options, chosen_reader
from zrag_pipeline.commands.reply_text import reply_text

_STDIN = "-"
_CHUNK = 1 << 16


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "ask",
        run,
        summary="answer a question from the memory, with evidence and source",
        description="Answer a question from the memory of the champion: the evidence with its place in the corpus, how "
        "sure the memory is, and the documents that the question was routed to; with `--reader`, an answer. What the "
        "memory does not hold is refused. Nothing is sent anywhere or spent unless `--reader openai` asks for it.",
        examples=[
            'zrag ask "Where was Orla Venn born?"',
            "zrag ask --json - < questions.txt > replies.jsonl",
            'zrag ask --reader openai --model gpt-4o-mini "오를라 벤은 어디에서 태어났나?"',
        ],
    )
    parser.add_argument(
        "question", nargs="+", help="the question, or - to read one question a line from standard input"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    parser.add_argument("--free", action="store_true", help="evidence in the model's own words, from Z alone")
    parser.add_argument(
        "--budget", type=positive, default=256, metavar="N", help="most tokens of evidence (default: %(default)s)"
    )
    parser.add_argument(
        "--least-confidence",
        type=share,
        metavar="P",
        help="refuse below this probability that the memory holds the answer; 0 never refuses (default: what the "
        f"champion was configured with, else {LEAST_CONFIDENCE})",
    )
    add_reader_options(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where the memory's model runs")
    add_checkpoint_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer; exit code 1 where a question could not be asked, or the answering model failed for it."""
    words = arguments.question
    asked = None if words == [_STDIN] else " ".join(words).strip()
    if asked is not None:
        _refuse_unreadable(asked)
    chosen = choose_memory(arguments.checkpoint, arguments.memory)
    with chosen_reader(arguments) as reader:
        memory = open_memory(chosen, reader, arguments.least_confidence, arguments.device)
        failed = False
        live = sys.stdout.isatty() and not arguments.json
        for questions in _batches(memory.decoding.batch_size) if asked is None else [[asked]]:
            if live and len(questions) == 1:
                failed = print_live(memory, questions[0], arguments.budget, arguments.free).error is not None or failed
                continue
            for reply in memory.ask(questions, arguments.budget, arguments.free):
                failed = failed or reply.error is not None
                if arguments.json:
                    print(json.dumps({**reply.to_dict(), "checkpoint_id": memory.checkpoint.id}, ensure_ascii=False))
                else:
                    print(reply_text(reply, memory.checkpoint.id, len(memory.documents)))
            sys.stdout.flush()  # whoever asks by a pipe sees a batch as soon as it is answered
    return 1 if failed else 0


def _batches(size: int) -> Iterator[list[str]]:
    """Questions from standard input as they come: what is there already is asked together, at most `size` at once."""
    standard_input = cast(io.BufferedReader, sys.stdin.buffer)
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    while True:
        chunk = standard_input.read1(_CHUNK)
        try:
            rest += decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise ZragError("the questions are not valid UTF-8", where="standard input") from error
        *lines, rest = rest.split("\n") if chunk else [rest, ""]
        questions = [line.strip() for line in lines if not is_blank(line)]
        for start in range(0, len(questions), size):
            yield questions[start : start + size]
        if not chunk:
            return


def _refuse_unreadable(question: str) -> None:
    if is_blank(question):
        raise ZragError("the question is empty", remedy='ask one: zrag ask "Where was ... born?"')
    if any("\ud800" <= character <= "\udfff" for character in question):  # how Python hands over other bytes
        raise ZragError("the question is not valid UTF-8")
