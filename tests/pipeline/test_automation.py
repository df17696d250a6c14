import json

import dagster as dg
import pytest
import yaml
from pipeline_runs import config

from zrag_core.corpus.source import source_fingerprint
from zrag_core.settings import Settings, load_settings
from zrag_pipeline.automation import corpus_sensor, nightly
from zrag_pipeline.definitions import defs


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A watched native corpus; returns its folder."""
    folder = tmp_path / "말뭉치"
    folder.mkdir()
    write(folder, "Tessamor lies in the north.")
    file = tmp_path / "watched.yaml"
    watched = config(corpus={"format": "native", "location": str(folder)})
    file.write_text(yaml.safe_dump(watched, allow_unicode=True), "utf-8")
    monkeypatch.setenv("ZRAG_CONFIG", str(file))
    return folder


def write(folder, text):
    row = {"id": "d1", "title": "Tessamor", "text": text}
    (folder / "corpus.jsonl").write_text(json.dumps(row) + "\n", "utf-8")


def tick(cursor):
    """One tick: what it asked for, why it skipped, and the cursor that the next tick gets."""
    data = corpus_sensor.evaluate_tick(dg.build_sensor_context(cursor=cursor))
    # A tick that gives no cursor leaves the former one in place.
    return data.run_requests or [], data.skip_message, data.cursor or cursor


def test_the_first_tick_only_takes_note(corpus):
    requests, reason, cursor = tick(None)
    assert requests == []
    assert "watching the corpus" in reason
    assert json.loads(cursor)["changes"] == 0


def test_changes_run_once_each_and_changing_back_runs_again(corpus):
    _, _, cursor = tick(None)
    original = json.loads(cursor)["fingerprint"]
    keys = []
    for text in ("Tessamor lies in the south.", "Tessamor lies in the north.", "Tessamor lies in the south."):
        write(corpus, text)
        (request,), _, cursor = tick(cursor)
        keys.append(request.run_key)
        assert request.tags["zrag.corpus_fingerprint"] == json.loads(cursor)["fingerprint"]
        again, reason, unchanged = tick(cursor)
        assert again == []
        assert "is unchanged" in reason
        assert unchanged == cursor
        if text.endswith("north."):
            assert json.loads(cursor)["fingerprint"] == original
    assert len(set(keys)) == 3, "Dagster drops a run key that it has seen, for ever"


def test_touching_the_files_is_no_change(corpus):
    _, _, cursor = tick(None)
    write(corpus, "Tessamor lies in the north.")
    assert tick(cursor)[0] == []


def test_new_questions_are_a_change(corpus):
    _, _, cursor = tick(None)
    (corpus / "questions.jsonl").write_text('{"id": "q1", "question": "Where?", "golden_answers": ["north"]}\n')
    assert len(tick(cursor)[0]) == 1


def test_the_requested_run_is_one_that_the_job_takes(corpus):
    _, _, cursor = tick(None)
    write(corpus, "changed")
    (request,), _, _ = tick(cursor)
    assert dg.validate_run_config(defs.resolve_job_def("full"), request.run_config)
    assert load_settings(request.run_config["resources"]["settings"]["config"]).corpus.location == str(corpus)


def test_an_unreadable_corpus_skips_with_the_reason_and_forgets_nothing(corpus, tmp_path):
    _, _, cursor = tick(None)
    corpus.rename(tmp_path / "away")
    requests, reason, kept = tick(cursor)
    assert requests == []
    assert "cannot be read" in reason
    assert "no such file or folder" in reason
    assert str(corpus) in reason
    assert kept == cursor
    (tmp_path / "away").rename(corpus)
    write(corpus, "changed while it was away")
    assert len(tick(kept)[0]) == 1


@pytest.mark.parametrize("content", ["resources: [", "resources: {settings: {config: {a: 1}}}"])
def test_a_broken_configuration_skips_with_the_reason(corpus, tmp_path, content):
    (tmp_path / "watched.yaml").write_text(content)
    requests, reason, _ = tick(None)
    assert requests == []
    assert str(tmp_path / "watched.yaml") in reason


@pytest.mark.parametrize("content", ["{}", "resources: {settings: {}}", "resources: {settings: {config: {corpus: }}}"])
def test_what_is_left_out_takes_its_default_as_in_a_run(corpus, tmp_path, content):
    (tmp_path / "watched.yaml").write_text(content)
    _, reason, cursor = tick(None)
    assert "watching the corpus" in reason
    assert json.loads(cursor)["fingerprint"] == source_fingerprint(Settings().corpus)


def test_a_missing_configuration_skips_with_the_reason(monkeypatch):
    monkeypatch.setenv("ZRAG_CONFIG", "nowhere.yaml")
    requests, reason, _ = tick(None)
    assert requests == []
    assert "nowhere.yaml" in reason


def test_without_a_chosen_configuration_the_demo_is_watched():
    requests, reason, _ = tick(None)
    assert requests == []
    assert "demo.yaml" in reason


def test_the_schedule_runs_a_configuration_that_the_job_takes(corpus):
    data = nightly.evaluate_tick(dg.build_schedule_context())
    (request,) = data.run_requests
    assert dg.validate_run_config(defs.resolve_job_def("full"), request.run_config)
    assert request.run_config["resources"]["settings"]["config"]["corpus"]["location"] == str(corpus)


@pytest.mark.parametrize("unmounted", [False, True])
def test_a_share_that_went_away_is_no_change_of_a_corpus_that_is_recognised(corpus, tmp_path, unmounted):
    watched = config(corpus={"format": "auto", "location": str(corpus)})
    (tmp_path / "watched.yaml").write_text(yaml.safe_dump(watched, allow_unicode=True), "utf-8")
    _, _, cursor = tick(None)
    corpus.rename(tmp_path / "away")
    if unmounted:
        corpus.mkdir()
    requests, reason, kept = tick(cursor)
    assert requests == []
    assert "cannot be read" in reason
    assert kept == cursor
    if unmounted:
        corpus.rmdir()
    (tmp_path / "away").rename(corpus)
    requests, reason, _ = tick(kept)
    assert requests == []
    assert "is unchanged" in reason
