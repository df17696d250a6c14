"""A process that opens a memory and asks it, for what that takes: reads what to do from standard input, as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from zrag_pipeline.platform.peak_memory import peak_memory


def main() -> None:
    """Print one line of JSON: seconds of opening and of the first question, largest memory in GB, before and after."""
    given = json.load(sys.stdin)
    import torch

    from zrag_core.corpus.types import Question
    from zrag_core.model.inference.create_system import create_system
    from zrag_core.model.store.checkpoint import load_checkpoint
    from zrag_core.settings import DecodingSettings

    torch.set_num_threads(given["threads"])
    without = peak_memory()
    began = time.perf_counter()
    checkpoint = load_checkpoint(Path(given["folder"]), device="cpu", verbatim=True)
    opening = time.perf_counter() - began
    decoding = DecodingSettings.model_validate(given["decoding"])
    system = create_system("zrag", checkpoint, decoding, threads=given["threads"])
    questions = [Question(str(number), text, (), (), None, "test") for number, text in enumerate(given["questions"])]
    began = time.perf_counter()
    system.retrieve(questions[:1])
    first = time.perf_counter() - began
    system.retrieve(questions)
    print(json.dumps({"opening": opening, "first": first, "peak": peak_memory(), "without": without}))


if __name__ == "__main__":
    main()
