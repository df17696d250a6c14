"""Shared set-up: few threads, and nothing that reaches the network or the user's own data."""

import functools
import os
import re
import sys
from pathlib import Path

import pytest

import zrag_core  # noqa: F401  sets how OpenMP waits, before anything loads torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DAGSTER_HOME", "ZRAG_DATA_DIR", "ZRAG_CORPUS", "ZRAG_CONFIG"):
    os.environ.pop(name, None)

# Runs that the tests of several files share, then folders, by how long they take.
_SHARED_RUNS = ("lineage", "trained_skill")
_LONGEST_FIRST = (*_SHARED_RUNS, "pipeline", "model", "memorag")


@functools.cache
def _group(file):
    """What the tests of a file share with those of others: a run whose fixture one of them takes, else nothing."""
    text = Path(__file__).parents[1].joinpath(file).read_text("utf-8")
    return next((run for run in _SHARED_RUNS if re.search(rf"[(,] *(own_)?{run}\b", text)), file)


def _place(item):
    file = item.nodeid.split("::")[0]
    kinds = [kind for kind in (_group(file), item.path.parent.name) if kind in _LONGEST_FIRST]
    return min(map(_LONGEST_FIRST.index, kinds), default=len(_LONGEST_FIRST))


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that several processes end together."""
    items.sort(key=_place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give the files that share a run to one process: on several, nothing is run twice."""
    from xdist.scheduler import LoadFileScheduling

    class SharedRuns(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return _group(super()._split_scope(nodeid))

    return SharedRuns(config, log)


@pytest.fixture(autouse=True)
def one_thread():
    """Start every test with one thread, whatever a test before has set: on several, sums differ in the last bit."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def written_memory(tmp_path_factory):
    """Checkpoint folder of ten documents (two in Korean), written with the shipped skill; only to be read."""
    from zrag_core.corpus.types import Document
    from zrag_core.model.store.checkpoint import save_checkpoint
    from zrag_core.model.store.skill_folder import load_skill, shipped_skill
    from zrag_core.model.store.write import write_documents
    from zrag_core.settings import WritingSettings

    towns = "Tessamor Kell Brindle Ostrava Numa Pell Quarn Rusk".split()
    people = [f"{first} {last}" for first in ("Orla", "Bram", "Cass", "Dov") for last in ("Venn", "Kilto")]
    documents = [
        Document(f"d{n}", person, f"{person} was born in {town}. {person} keeps {n + 2} bees in an old barn.")
        for n, (person, town) in enumerate(zip(people, towns, strict=True))
    ]
    documents += [
        Document("문서-8", "한소라", "한소라는 바람골에서 태어났다. 한소라는 파란 배를 탄다."),
        Document("문서-9", "강도윤", "강도윤은 달맞이섬에서 태어났다. 강도윤은 오래된 종을 고친다."),
    ]
    skill = load_skill(shipped_skill(), device="cpu")
    model = skill.model
    written = write_documents(model, documents, [], WritingSettings(steps=0))
    model.remember(documents, written.z, written.spans)
    folder = tmp_path_factory.mktemp("memory") / "memory-0123"
    save_checkpoint(folder, model, documents, skill.settings, checkpoint_id=folder.name, metrics={})
    return folder
