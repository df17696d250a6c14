"""Runs `zrag` in processes that are killed at a given step; run as a process of its own by the tests.

Arguments: one JSON list of [data folder, step, command] each. Each is run in a fork that this process makes before
anything has started threads; prints the number of the signal that ended it.
"""

import json
import os
import signal
import sys
from pathlib import Path

import safetensors.torch
import transformers

import zrag_core.model.store.checkpoint
import zrag_core.model.store.update
from zrag_pipeline.cli import main
from zrag_pipeline.defs.champion import corpus_changes
from zrag_pipeline.platform import champion_file
from zrag_pipeline.platform.warehouse import Warehouse, corpora
from zrag_pipeline.purging import purge, warehouse_rows

STEPS = {
    "overlay": (corpus_changes, "save_overlay"),
    "warehouse": (Warehouse, "write"),
    "inside the warehouse": (corpora, "save_targets"),
    "checkpoint": (zrag_core.model.store.checkpoint, "save_checkpoint"),
    "inside the checkpoint": (safetensors.torch, "save_file"),
    "pointer": (corpus_changes, "write_champion"),
    "inside the pointer": (champion_file, "write_json_atomic"),
    "search": (purge, "search"),
    "swap": (warehouse_rows.shutil, "copymode"),
    "proof": (purge, "search_file"),
}


def killed(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(data: str, step: str, command: list[str]) -> None:
    os.environ["ZRAG_DATA_DIR"] = data
    os.environ["DAGSTER_HOME"] = str(Path(data).with_name("home"))
    owner, name = STEPS[step]
    setattr(owner, name, killed)
    main(command)


if __name__ == "__main__":
    # What every one of them will import, once.
    assert transformers.Qwen3ForCausalLM
    assert transformers.AutoTokenizer
    for argument in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            run(*json.loads(argument))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
