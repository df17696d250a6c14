"""Erasing a document from what a run of the whole lineage left behind, every system and report included."""

import json
import re
import shutil

import dagster as dg
import pytest
from pipeline_runs import CHECKOUT
from test_purging import left

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.files import write_json_atomic
from zrag_pipeline.cli import main
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, read_champion, write_champion
from zrag_pipeline.platform.warehouse import Warehouse


@pytest.fixture
def root(lineage, lineage_instance, tmp_path, monkeypatch):
    """Copies of the run's data folder and of Dagster's home, with the written memory as the champion."""
    shutil.copytree(lineage.data, tmp_path / "data")
    shutil.copytree(lineage_instance.root_directory, tmp_path / "home")
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", tmp_path / "home")
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    handle = json.loads((tmp_path / "data/handles/memory/latest.json").read_text("utf-8"))
    checkpoint_id = handle["checkpoint"]["checkpoint_id"]
    folder = paths.checkpoints_dir() / checkpoint_id
    version = handle["corpus_version"]
    write_champion(Champion(checkpoint_id, folder, version, "almanac-en-0-12", {}, "cpu", "2026", "a test"))
    return tmp_path


@pytest.mark.slow
def test_nothing_of_the_document_is_left(root, capsys):
    warehouse = Warehouse(paths.warehouse_file())
    documents = warehouse.load_corpus(read_champion().corpus_version).documents
    gone, *others = documents
    # Other tests' runs stand in the same history: what their almanacs say too is the generator's wording.
    wording = generate_almanac(n_documents=200, language="en", seed=1).documents
    elsewhere = " ".join(document.contents for document in (*others, *wording))
    before = left(root, gone.text, elsewhere, words=4)
    for part in ("documents.jsonl", "warehouse.duckdb evidence", "report.html", "terms.jsonl", "index.db event_logs"):
        assert any(part in place for place in before), part
    write_json_atomic(root / "data" / "handles" / "x.json", {"kept": others[0].text})

    assert main(["remove", "--purge", "--yes", gone.id]) == 0
    assert re.search(r"searched \d+ files, \d+ tables: nothing left", capsys.readouterr().out)
    assert left(root, gone.text, elsewhere, words=4) == set()
    assert others[0].text in (root / "data" / "handles" / "x.json").read_text("utf-8")
    assert not list(paths.checkpoints_dir().glob("joint-*")), "it was trained on the document"
    assert main(["leaderboard"]) == 0
    assert "bm25_sentence" in capsys.readouterr().out
    with dg.DagsterInstance.from_config(str(root / "home")) as instance:
        assert all(instance.all_logs(run.run_id) for run in instance.get_runs())
        assert instance.get_latest_materialization_event(dg.AssetKey("documents")) is not None
