"""Shared set-up: few threads, and nothing that reaches the network or the user's own data."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DAGSTER_HOME", "ZRAG_DATA_DIR", "ZRAG_CORPUS", "ZRAG_CONFIG"):
    os.environ.pop(name, None)

# Made once for the tests of several files; these, and folders, by how long they take.
_SHARED_RUNS = ("lineage", "trained_skill")
_LONGEST_FIRST = (*_SHARED_RUNS, "pipeline", "model")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep tests together that share what is made once, the others by file, and begin with the longest."""
    places = {}
    for item in items:
        group = next((name for name in _SHARED_RUNS if name in item.fixturenames), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))
        kind = group if group in _SHARED_RUNS else item.path.parent.name
        places[item] = _LONGEST_FIRST.index(kind) if kind in _LONGEST_FIRST else len(_LONGEST_FIRST)
    items.sort(key=places.get)


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
