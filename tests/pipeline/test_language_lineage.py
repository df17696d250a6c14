"""The whole lineage with a pretrained LLM as memory; a small Qwen3 of random weights stands for it."""

import copy
import json

import pytest
from pipeline_runs import config, execute
from small_llm import save_small_qwen3

from zrag_core.corpus.types import Document
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_pipeline.defs.benchmarks import codec_price
from zrag_pipeline.platform.warehouse import Warehouse

WORDS = "mills ponds inns bridges gates towers wells lanes barns kilns docks forges".split()


def write_corpus(folder, name, words):
    folder.mkdir()
    documents, questions = [], []
    for n, word in enumerate(words):
        sentence = f"{name} {n} has {n + 3} old {word} by the river."
        documents.append(
            {"id": f"{name}{n}", "title": f"{name} {n}", "text": f"{sentence} It lies near {name} {n + 1}."}
        )
        for q in range(2):
            question = (f"How many {word} has {name} {n}?", f"What number of {word} is in {name} {n}?")[q]
            row = {"id": f"{name}{n}-{q}", "question": question, "golden_answers": [str(n + 3)]}
            questions.append({**row, "doc_ids": [f"{name}{n}"], "evidence": sentence})
    for file, rows in (("corpus.jsonl", documents), ("questions.jsonl", questions)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def language_run(tmp_path_factory):
    base = tmp_path_factory.mktemp("language")
    corpus = write_corpus(base / "towns", "Town", WORDS)
    other = write_corpus(base / "isles", "Isle", WORDS[::-1])
    texts = [(base / "towns" / "corpus.jsonl").read_text("utf-8")]
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    save_small_qwen3(base / "llm", texts, **shape)
    run = config(
        corpus={"format": "native", "location": corpus, "almanac": {}, "splits": {"dev": 0.3, "test": 0.4}},
        backbone={"name": str(base / "llm"), "dtype": "float32", "lora": {"rank": 2, "alpha": 2}},
        codec={"stride": 2, "width": 64, "inner": 8, "key_width": 8},
        skill={"steps": 1, "corpus": other},
        writing={"steps": 0},
        decoding={"routed_documents": 4, "steps": 2, "read_sentences": 4, "max_new_tokens": 12, "free_spans": 2},
        evaluation={"systems": ["zrag", "zrag_free", "zrag_full_prefix", "memorag", "bm25_sentence"]},
    )
    del run["resources"]["settings"]["config"]["separated"]
    return base / "data", execute("full", base / "data", run_config=run), run


def test_every_system_of_the_memory_is_measured(language_run):
    data, result, _ = language_run
    assert result.success
    rows = Warehouse(data / "warehouse.duckdb").query(
        "SELECT system, n_questions, recall_at_1 FROM leaderboard WHERE split = 'test' AND question_type = 'all'"
    )
    assert {"zrag", "zrag_free", "zrag_full_prefix", "memorag", "bm25_sentence"} <= set(rows["system"])
    best = rows.set_index("system")["recall_at_1"]
    assert float(best["zrag"].max()) > 0.5  # the words alone find most


def test_the_skill_is_calibrated_on_the_other_corpus_and_read_from_its_folder(language_run):
    _, result, _ = language_run
    folder = result.output_for_node("skill").skill.folder
    stored = json.loads((folder / "config.json").read_text("utf-8"))
    assert stored["settings"]["codec"]["width"] == 64
    assert len(stored["seen"]) == len(WORDS)
    assert "LoRA" in (folder / "README.md").read_text("utf-8")


def test_the_checkpoint_is_small_and_says_what_it_keeps(language_run):
    _, result, _ = language_run
    folder = result.output_for_node("memory").checkpoint.folder
    checkpoint = load_checkpoint(folder)
    assert len(checkpoint.documents) == len(WORDS)
    shape = checkpoint.model.shape
    assert shape[0] == len(WORDS)
    assert shape[2] == 64


def test_the_price_of_other_slots_is_measured(language_run, monkeypatch):
    data, _, run = language_run
    prose = [Document(f"p{n}", "Isle", f"Isle {n} has {n} old {word} by the river. ") for n, word in enumerate(WORDS)]
    monkeypatch.setattr(codec_price, "prose_documents", lambda: prose)
    monkeypatch.setattr(codec_price, "_HELD_OUT", 60)
    own = copy.deepcopy(run)
    monkeypatch.setattr(codec_price, "_READ", 8)
    own["resources"]["settings"]["config"]["benchmark"] = {
        "codecs": ["1x64", "4x4"],
        "codec_steps": 3,
        "questions": 4,
        "optimised_documents": 3,
        "optimised_steps": 2,
    }
    result = execute("benchmark_codec", data, run_config=own)
    rows = Warehouse(data / "warehouse.duckdb").query("SELECT * FROM benchmarks WHERE benchmark = 'codec'")
    found = rows.set_index(["system", "metric"])["value"]
    assert set(rows["run_id"]) == {result.run_id}
    assert found["codec 1x64", "bytes_per_document"] > found["codec 4x4", "bytes_per_document"]
    assert found["codec 1x64", "token_accuracy"] == 1.0, "wider than the embeddings"
    assert found["codec 4x4", "token_accuracy"] < 0.5
    assert found["codec 4x4", "token_accuracy_float32"] >= found["codec 4x4", "token_accuracy"] - 0.1
    assert found["codec 1x64", "zrag_coverage_at_64"] > 0.5
    assert {metric for system, metric in found.index if system.startswith("optimised 4x")} == {
        f"tokens_right_{name}" for name in ("own", "other", "nothing", "greedy")
    }


def test_the_memory_is_updated_document_by_document(language_run):
    data, result, run = language_run
    location = run["resources"]["settings"]["config"]["corpus"]["location"]
    file = data.parent / "towns" / "corpus.jsonl"
    before = file.read_text("utf-8")
    added = {"id": "new", "title": "New Town", "text": "New Town has 99 wind harps by the river."}
    try:
        file.write_text(before + json.dumps(added) + "\n", "utf-8")
        again = execute("update_memory", data, run_config=run)
    finally:
        file.write_text(before, "utf-8")
    assert again.success, location
    checkpoint = again.output_for_node("memory")
    assert checkpoint.former.checkpoint_id == result.output_for_node("memory").checkpoint.checkpoint_id
    assert len(load_checkpoint(checkpoint.checkpoint.folder).documents) == len(WORDS) + 1
