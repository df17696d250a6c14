"""The job `update_memory`: one changed folder, from the files to the new checkpoint, its proofs and the champion."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline_runs import config, execute, rows_of

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_core.settings import UpdateSettings
from zrag_pipeline.defs.champion.drift_baseline import MemoryState, load_baseline
from zrag_pipeline.defs.champion.update_report import retrain_reasons
from zrag_pipeline.defs.memory.separated_memory import proof_base
from zrag_pipeline.platform.champion_file import Champion, read_champion, write_champion
from zrag_pipeline.platform.warehouse import Warehouse

ADDED = {"id": "새", "title": "Halvor Brisk", "text": "Halvor Brisk kept a lighthouse. 그는 호각을 모았다."}


def write_rows(folder: Path, name: str, rows: list[dict]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text, "utf-8")


@pytest.fixture(scope="module")
def updated(tmp_path_factory):
    """A folder that is written and then changed, and what the runs on it left; only to be read."""
    folder, data = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("update") / "자료"
    corpus = generate_almanac(n_documents=12, language="en", seed=3)
    rows = [{"id": d.id, "title": d.title, "text": d.text} for d in corpus.documents]
    gone, changed = rows[2]["id"], rows[5]["id"]
    questions = [
        {"id": q.id, "question": q.question, "golden_answers": list(q.golden_answers), "doc_ids": list(q.document_ids)}
        for q in corpus.questions
        if gone not in q.document_ids
    ]
    write_rows(folder, "corpus", rows)
    write_rows(folder, "questions", questions)
    settings = config(
        corpus={"format": "native", "location": str(folder), "name": "records"},
        evaluation={"systems": ["zrag", "bm25"], "limit_questions": 8, "bootstrap_samples": 50},
    )
    results = [execute("train", data, run_config=settings)]
    rows[5] = {**rows[5], "text": f"Nobody expected this. {rows[5]['text']}"}
    write_rows(folder, "corpus", [*rows[:2], *rows[3:], ADDED])
    results += [execute("update_memory", data, run_config=settings) for _ in range(2)]
    return {"data": data, "results": results, "gone": gone, "changed": changed, "settings": settings}


def handle(updated, run, asset="memory"):
    return updated["results"][run].output_for_node(asset)


def checkpoint(updated, run):
    return load_checkpoint(handle(updated, run).checkpoint.folder)


def test_untouched_rows_stay_bit_for_bit_and_the_former_checkpoint_stays_whole(updated):
    before, after = (rows_of(checkpoint(updated, run)) for run in (0, 1))
    same = [key for key in after if key not in (updated["changed"], ADDED["id"])]
    assert len(same) == 10
    for key in after:
        assert (before.get(key) == after[key]) == (key in same), key
        assert (before.get(key, {}).get("slots.numbers") == after[key]["slots.numbers"]) == (key in same), key
    assert updated["gone"] in before
    assert updated["gone"] not in after


def test_the_handle_names_what_was_updated_and_the_report_counts(updated):
    assert handle(updated, 0).former is None
    assert handle(updated, 1).former.checkpoint_id == handle(updated, 0).checkpoint_id
    report = handle(updated, 1, "update_report")
    assert report.documents == {
        "added": 1,
        "changed": 1,
        "removed": 1,
        "unchanged": 10,
    }
    assert report.share_changed == pytest.approx(3 / 13)
    baseline = load_baseline(Warehouse(updated["data"] / "warehouse.duckdb", timeout_s=5), "records")
    assert baseline.corpus_version == handle(updated, 0).corpus_version


def test_a_run_without_changes_changes_nothing(updated):
    again = handle(updated, 2)
    assert again.checkpoint_id == handle(updated, 1).checkpoint_id
    assert rows_of(checkpoint(updated, 2)) == rows_of(checkpoint(updated, 1))
    report = handle(updated, 2, "update_report")
    assert handle(updated, 2).former == handle(updated, 1).former
    # The update is the champion, so there is nothing left to prove.
    assert (report.documents["unchanged"], report.documents["added"], report.documents["removed"]) == (0, 0, 0)
    # Drift is still measured from the full run, not from the update before.
    assert report.share_changed == pytest.approx(3 / 13)


def test_drift_is_counted_from_the_baseline_of_the_same_corpus(updated, tmp_path, monkeypatch):
    """A run on another corpus in between, as of `make demo`, makes no new start of this one."""
    data = tmp_path / "data"
    shutil.copytree(updated["data"], data)
    elsewhere = config(corpus={"almanac": {"documents": 6, "seed": 5}}, evaluation={"systems": ["zrag"]})
    assert execute("train", data, run_config=elsewhere).success
    again = execute("update_memory", data, run_config=updated["settings"])
    assert again.output_for_node("update_report").share_changed == pytest.approx(3 / 13)
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    assert len(warehouse.query("SELECT * FROM drift_baselines")) == 2


def test_proofs_stand_in_the_warehouse_beside_the_memory_checks(updated):
    warehouse = Warehouse(updated["data"] / "warehouse.duckdb", timeout_s=5)
    run_id = updated["results"][1].run_id
    frame = warehouse.query("SELECT * FROM memory_checks WHERE run_id = ?", [run_id]).set_index("check_name")
    for name in ("old_documents_delta_constrained", "deleted_text_absent"):
        assert frame.loc[name, "value"] == 0
        assert frame.loc[name, "passed"]
    assert "reconstruction_rouge_l" in frame.index
    evaluations = updated["results"][1].get_asset_check_evaluations()
    proofs = {e.check_name: e.passed for e in evaluations if e.asset_key.to_user_string() == "update_report"}
    assert proofs["deleted_text_absent"]


def test_what_a_memory_cannot_write_does_not_keep_it_from_being_asked(updated, monkeypatch):
    # Four steps of skill training teach no writing.
    monkeypatch.setenv("ZRAG_DATA_DIR", str(updated["data"]))
    warehouse = Warehouse(updated["data"] / "warehouse.duckdb", timeout_s=5)
    checks = warehouse.query("SELECT check_name FROM memory_checks WHERE NOT passed")
    assert "reconstruction_rouge_l" in set(checks["check_name"])
    rows = warehouse.query("SELECT * FROM champion_decisions ORDER BY created_at")
    judged = {name for names in rows["failed_checks"] for name in names}
    assert judged <= {"documents_found", "answers_quoted", "deleted_leak_coverage"}
    assert rows["promoted"].any()
    assert read_champion().checkpoint_id in set(rows[rows["promoted"]]["checkpoint_id"])


def test_another_skill_or_other_settings_write_everything_afresh(updated):
    changed = json.loads(json.dumps(updated["settings"]))
    changed["resources"]["settings"]["config"]["writing"]["lr"] = 0.01
    result = execute("update_memory", updated["data"], run_config=changed)
    assert result.output_for_node("memory").former is None
    assert result.output_for_node("update_report").share_changed == 0


def test_an_update_is_proven_against_the_last_champion_that_a_run_has_checked(updated, tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    first, second = handle(updated, 0), handle(updated, 1)

    def champion(made, **fields):
        names = {"corpus_version": made.corpus_version, "corpus": "records", "decoding": {}, **fields}
        return Champion(
            checkpoint_id=made.checkpoint.checkpoint_id,
            folder=made.checkpoint.folder,
            backbone_device="cpu",
            promoted_at="2026",
            reason="a test",
            **names,
        )

    stopped = replace(second, former=second.checkpoint)
    assert proof_base(stopped, "records") is None
    write_champion(champion(first))
    assert proof_base(stopped, "records").checkpoint_id == first.checkpoint_id
    # `zrag add` has made it the champion, and no run has looked at it yet.
    write_champion(champion(second, proven=False))
    assert proof_base(second, "records").checkpoint_id == first.checkpoint_id
    write_champion(champion(second))
    assert proof_base(second, "records") is None
    assert proof_base(second, "other records").checkpoint_id == first.checkpoint_id, "what it was made from"
    assert proof_base(first, "records") is None, "written afresh"


def test_joint_memories_are_left_out_of_updates(updated):
    assert handle(updated, 1, "joint_memory").checkpoint_id is None
    assert "cannot be updated" in handle(updated, 1, "backbone").left_out


# --- when a full run should follow ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "state", "words"),
    [
        (0.30, MemoryState("c", "b", 5.0, 0.9), []),
        (0.31, MemoryState("c", "b", 5.0, 0.9), ["31% of the corpus changed since the last full run (threshold 30%)"]),
        (0.0, MemoryState("c", "b", 4.9, 0.9), ["the routing margin fell from 10.00 to 4.90 (least 5.00)"]),
        (
            0.0,
            MemoryState("c", "b", 9.0, 0.84),
            ["on the probe questions fell from 90.0% to 84.0% (least 85.0%)"],
        ),
        (0.5, MemoryState("c", "b", 1.0, 0.1), ["50%", "routing margin", "coverage"]),
        (0.0, MemoryState("c", "b", None, None), []),
    ],
)
def test_thresholds_of_drift(share, state, words):
    reasons = retrain_reasons(share, state, MemoryState("c", "a", 10.0, 0.9), UpdateSettings())
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))
