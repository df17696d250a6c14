"""The sensors and the schedule on a real instance: what they ask for, and what they say."""

import json
import time

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from pipeline_runs import config, execute

from zrag_core.corpus.overlay import Overlay, load_overlay, save_overlay
from zrag_core.corpus.read import read_documents
from zrag_core.corpus.source import corpus_key, source_fingerprint
from zrag_core.corpus.types import Document
from zrag_core.settings import CorpusSettings, Settings, load_settings
from zrag_pipeline.definitions import defs
from zrag_pipeline.defs.automation import sensors
from zrag_pipeline.defs.automation.sensors import corpus_sensor, evaluate_updates, nightly
from zrag_pipeline.defs.corpus.state import CORPUS_TAG, READ_TAG
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, now, write_champion
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.warehouse import Warehouse


def made_run(instance, job, status, **options):
    """A run in the instance that nobody executes."""
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), job)
    return create_run_for_test(instance, job, status=DagsterRunStatus(status), remote_job_origin=origin, **options)


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """Runs and ticks of this test alone; the data folder is its own too."""
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "자료"))
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def clock(monkeypatch):
    """The sensor's clock; it stands still until a test moves it."""

    class Clock:
        now = time.time()

        def time(self):
            return self.now

    monkeypatch.setattr(sensors, "time", clock := Clock())
    return clock


def watched_config(folder, *systems):
    """A configuration that watches a folder and evaluates `zrag`, and other systems."""
    return config(
        corpus={"format": "native", "location": str(folder)},
        updates={"settle_seconds": 30},
        evaluation={"systems": ["zrag", *systems]},
    )


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A watched native corpus; returns its folder."""
    folder = tmp_path / "말뭉치"
    folder.mkdir()
    write(folder, "Tessamor lies in the north.")
    file = tmp_path / "watched.yaml"
    watched = watched_config(folder)
    file.write_text(yaml.safe_dump(watched, allow_unicode=True), "utf-8")
    monkeypatch.setenv("ZRAG_CONFIG", str(file))
    return folder


def key(folder):
    return corpus_key(CorpusSettings(format="native", location=str(folder)))


def write(folder, text):
    row = {"id": "d1", "title": "Tessamor", "text": text}
    (folder / "corpus.jsonl").write_text(json.dumps(row) + "\n", "utf-8")


@pytest.fixture
def sensor(instance, clock):
    """Ticks of the sensor, one after the other, as the daemon makes them."""

    class Sensor:
        cursor = None
        events = ()

        def tick(self, later=0.0):
            """What the tick asked for and why it skipped; it comes `later` seconds after the former one."""
            clock.now += later
            data = corpus_sensor.evaluate_tick(
                dg.build_sensor_context(
                    instance, cursor=self.cursor, repository_def=defs.get_repository_def(), sensor_name="corpus_sensor"
                )
            )
            # A tick that gives no cursor leaves the former one in place.
            self.cursor = data.cursor or self.cursor
            self.events = data.asset_events
            return list(data.run_requests or ()), data.skip_message

        def run(self, request, status="SUCCESS", *, read):
            """A run as it was asked for, in some state; `read` is what it has read of the corpus."""
            return made_run(instance, request.job_name, status, tags={**request.tags, READ_TAG: read})

    return Sensor()


def test_the_first_tick_only_takes_note(corpus, sensor):
    requests, reason = sensor.tick()
    assert requests == []
    assert "watching the corpus" in reason
    (observed,) = sensor.events
    assert observed.asset_key == dg.AssetKey("raw_corpus")
    assert sensor.tick()[1].endswith(f"is unchanged ({observed.tags['dagster/data_version']})")
    assert not sensor.events


def test_changes_run_once_each_when_they_are_quiet_and_changing_back_runs_again(corpus, sensor):
    sensor.tick()
    original = json.loads(sensor.cursor)["content"]
    keys = []
    for text in ("Tessamor lies in the south.", "Tessamor lies in the north.", "Tessamor lies in the south."):
        write(corpus, text)
        requests, reason = sensor.tick(15)
        assert requests == []
        assert "changed 0 s ago; waiting until it has been quiet for 30 s" in reason
        assert [event.tags["dagster/data_version"] for event in sensor.events] == [json.loads(sensor.cursor)["content"]]
        assert "changed 15 s ago" in sensor.tick(15)[1]
        (request,), _ = sensor.tick(15)
        assert request.job_name == "update_memory"
        assert (request.tags["zrag.corpus_fingerprint"] == original) == text.endswith("north.")
        assert request.tags["zrag.reason"].startswith("the corpus of watched.yaml changed:")
        keys.append(request.run_key)
        sensor.run(request, read=request.tags["zrag.corpus_fingerprint"])
        requests, reason = sensor.tick(15)
        assert requests == []
        assert "is unchanged" in reason
    assert len(set(keys)) == 3, "Dagster drops a run key that it has seen, for ever"


@pytest.mark.parametrize("status", ["NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"])
@pytest.mark.parametrize("job", ["update_memory", "full", "demo"])
def test_nothing_starts_while_the_memory_is_being_written(corpus, sensor, instance, job, status):
    sensor.tick()
    going = made_run(instance, job, status)
    write(corpus, "changed")
    sensor.tick(15)
    requests, reason = sensor.tick(60)
    assert requests == []
    assert f"{job} is still running (run {going.run_id[:8]}); the change of" in reason
    instance.delete_run(going.run_id)
    assert len(sensor.tick()[0]) == 1


@pytest.mark.parametrize("system", ["zrag_joint", "zrag_joint_free"])
def test_what_an_update_would_leave_out_is_run_afresh(corpus, sensor, tmp_path, system):
    (tmp_path / "watched.yaml").write_text(yaml.safe_dump(watched_config(corpus, system), allow_unicode=True), "utf-8")
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    (request,), _ = sensor.tick(30)
    assert request.job_name == "full"


def test_a_failed_run_is_tried_again_and_then_said_to_fail(corpus, sensor):
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    for attempt in (1, 2, 3):
        (request,), _ = sensor.tick(30)
        assert ("attempt" in request.tags["zrag.reason"]) == (attempt > 1)
        last = sensor.run(request, "FAILURE", read="half of it")
    requests, reason = sensor.tick(30)
    assert requests == []
    assert f"3 runs have not brought it about (the last one, {last.run_id[:8]}, failed)" in reason


def test_a_run_by_hand_counts_for_what_it_has_read(corpus, sensor, instance):
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    tags = {CORPUS_TAG: key(corpus), READ_TAG: json.loads(sensor.cursor)["content"]}
    made_run(instance, "full", "SUCCESS", tags=tags)
    requests, reason = sensor.tick(60)
    assert requests == []
    assert "is unchanged" in reason


def test_drift_starts_the_whole_lineage_once(corpus, sensor, tmp_path):
    drift = "34% of the corpus changed since the last full run (threshold 30%)"
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    (request,), _ = sensor.tick(30)
    content = request.tags["zrag.corpus_fingerprint"]
    update = sensor.run(request, read=content)
    report = tmp_path / "자료" / "handles" / "update_report" / f"{update.run_id}.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"run_id": update.run_id, "checkpoint_id": "memory-1", "retrain_reasons": [drift]}))
    (retraining,), _ = sensor.tick(30)
    assert retraining.job_name == "full"
    assert retraining.tags["zrag.reason"].startswith(f"drift: {drift}: retraining")
    assert retraining.tags["zrag.report"] == update.run_id
    assert dg.validate_run_config(defs.resolve_job_def("full"), retraining.run_config)
    sensor.run(retraining, read=content)
    requests, reason = sensor.tick(30)
    assert requests == []
    assert "is unchanged" in reason


@pytest.mark.parametrize("content", [None, "{", "{}", '{"retrain_reasons": null}', '{"retrain_reasons": []}', "[]"])
def test_a_report_without_reasons_asks_for_nothing(corpus, sensor, tmp_path, content):
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    (request,), _ = sensor.tick(30)
    update = sensor.run(request, read=request.tags["zrag.corpus_fingerprint"])
    if content is not None:
        report = tmp_path / "자료" / "handles" / "update_report" / f"{update.run_id}.json"
        report.parent.mkdir(parents=True)
        report.write_text(content)
    assert sensor.tick(30)[0] == []


def read_corpus(instance, tmp_path):
    """Run the first assets of the lineage on the watched corpus."""
    run_config = yaml.safe_load((tmp_path / "watched.yaml").read_text("utf-8"))
    selection = [dg.AssetKey(name) for name in ("preflight", "documents", "questions")]
    return execute("full", tmp_path / "자료", run_config=run_config, instance=instance, asset_selection=selection)


def stale(instance):
    resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
    names = ("raw_corpus", "documents", "questions")
    return {name for name in names if resolver.get_status(dg.AssetKey(name)).name == "STALE"}


def test_a_run_notes_what_it_has_read_and_what_was_made_from_it_is_stale_after_a_change(
    corpus, sensor, instance, tmp_path
):
    run = read_corpus(instance, tmp_path)
    sensor.tick()
    tags = instance.get_run_by_id(run.run_id).tags
    assert tags[CORPUS_TAG] == key(corpus) == json.loads(sensor.cursor)["corpus"]
    assert tags[READ_TAG] == json.loads(sensor.cursor)["content"]
    assert "is unchanged" in sensor.tick(15)[1]
    assert stale(instance) == set()
    write(corpus, "changed")
    sensor.tick(15)
    instance.report_runless_asset_event(sensor.events[0])  # as the daemon does
    assert stale(instance) == {"documents", "questions"}
    read_corpus(instance, tmp_path)
    assert stale(instance) == set()


def test_a_corpus_that_changes_while_it_is_read_is_read_again(corpus, sensor, instance, tmp_path, monkeypatch):
    from zrag_core.corpus import read as readers

    real = readers.read_corpus

    def changing(settings):
        read = real(settings)
        write(corpus, "changed in between")
        return read

    monkeypatch.setattr(readers, "read_corpus", changing)
    read_corpus(instance, tmp_path)
    sensor.tick()
    assert len(sensor.tick(60)[0]) == 1


def test_documents_added_by_command_are_a_change(corpus, sensor):
    sensor.tick()
    overlay = Overlay().with_added([Document("d2", "Arlen", "Arlen lies in the south.")])
    save_overlay(paths.overlay_dir(key(corpus)), overlay)
    sensor.tick(15)
    (request,), _ = sensor.tick(60)
    assert request.tags["zrag.corpus_fingerprint"] == json.loads(sensor.cursor)["content"]
    save_overlay(paths.overlay_dir(key(corpus)), Overlay())
    sensor.run(request, read=request.tags["zrag.corpus_fingerprint"])
    sensor.tick(15)
    assert len(sensor.tick(60)[0]) == 1


def test_folders_of_one_name_are_two_corpora(corpus, sensor, instance, tmp_path):
    sensor.tick()
    tags = {CORPUS_TAG: key(corpus), READ_TAG: json.loads(sensor.cursor)["content"]}
    made_run(instance, "full", "SUCCESS", tags=tags)
    other = tmp_path / "elsewhere" / corpus.name
    other.mkdir(parents=True)
    write(other, "Arlen lies in the south.")
    made_run(instance, "full", "SUCCESS", tags={CORPUS_TAG: key(other), READ_TAG: "other"})
    save_overlay(paths.overlay_dir(key(other)), Overlay().with_removed({"d1": []}))
    assert "is unchanged" in sensor.tick(60)[1]
    read_corpus(instance, tmp_path)
    (name,) = Warehouse(paths.warehouse_file()).query("SELECT name FROM corpora")["name"]
    assert name == key(corpus)
    assert "is unchanged" in sensor.tick(60)[1]


def test_touching_the_files_is_no_change(corpus, sensor):
    sensor.tick()
    write(corpus, "Tessamor lies in the north.")
    assert "is unchanged" in sensor.tick(60)[1]


def test_new_questions_are_a_change(corpus, sensor):
    sensor.tick()
    (corpus / "questions.jsonl").write_text('{"id": "q1", "question": "Where?", "golden_answers": ["north"]}\n')
    sensor.tick(15)
    assert len(sensor.tick(60)[0]) == 1


def test_the_requested_run_is_one_that_the_job_takes(corpus, sensor):
    sensor.tick()
    write(corpus, "changed")
    sensor.tick(15)
    (request,), _ = sensor.tick(60)
    assert dg.validate_run_config(defs.resolve_job_def(request.job_name), request.run_config)
    assert load_settings(request.run_config["resources"]["settings"]["config"]).corpus.location == str(corpus)


def test_an_unreadable_corpus_skips_with_the_reason_and_forgets_nothing(corpus, sensor, tmp_path):
    sensor.tick()
    cursor = sensor.cursor
    corpus.rename(tmp_path / "away")
    requests, reason = sensor.tick(15)
    assert requests == []
    assert "cannot be read" in reason
    assert "no such file or folder" in reason
    assert str(corpus) in reason
    assert sensor.cursor == cursor
    (tmp_path / "away").rename(corpus)
    write(corpus, "changed while it was away")
    sensor.tick(15)
    assert len(sensor.tick(60)[0]) == 1


@pytest.mark.parametrize("content", ["resources: [", "resources: {settings: {config: {a: 1}}}"])
def test_a_broken_configuration_skips_with_the_reason(corpus, sensor, tmp_path, content):
    (tmp_path / "watched.yaml").write_text(content)
    requests, reason = sensor.tick()
    assert requests == []
    assert str(tmp_path / "watched.yaml") in reason


@pytest.mark.parametrize("content", ["{}", "resources: {settings: {}}", "resources: {settings: {config: {corpus: }}}"])
def test_what_is_left_out_takes_its_default_as_in_a_run(corpus, sensor, tmp_path, content):
    (tmp_path / "watched.yaml").write_text(content)
    _, reason = sensor.tick()
    assert "watching the corpus" in reason
    assert json.loads(sensor.cursor)["content"] == source_fingerprint(Settings().corpus)


def test_a_missing_configuration_skips_with_the_reason(monkeypatch, sensor):
    monkeypatch.setenv("ZRAG_CONFIG", "nowhere.yaml")
    requests, reason = sensor.tick()
    assert requests == []
    assert "nowhere.yaml" in reason


def test_without_a_chosen_configuration_the_demo_is_watched(sensor):
    requests, reason = sensor.tick()
    assert requests == []
    assert "demo.yaml" in reason


@pytest.fixture
def ingested(tmp_path, instance):
    """A folder of documents whose memory is asked by default, as `zrag ingest` leaves it; called with its name."""

    def make(name):
        folder, made = tmp_path / "handbook", paths.checkpoints_dir() / "memory-1"
        folder.mkdir()
        (folder / "leave.md").write_text("# Leave\n\nThirty days a year.\n", "utf-8")
        made.mkdir(parents=True)
        (made / "config.json").write_text(json.dumps({"settings": {"backbone": {"name": "smollm2"}}}), "utf-8")
        source = str(folder)
        write_champion(
            Champion("memory-1", made, "v1", name, {}, "cpu", now(), "ingested", source=source), default=True
        )
        return folder

    return make


def test_without_a_chosen_configuration_the_ingested_documents_are_watched(ingested, sensor):
    folder = ingested("handbook")
    requests, reason = sensor.tick()
    assert requests == []
    assert "watching the corpus of the memory 'handbook'" in reason
    (folder / "leave.md").write_text("# Leave\n\nThirty-one days a year.\n", "utf-8")
    assert sensor.tick(20)[0] == []
    (request,) = sensor.tick(31)[0]
    settings = SettingsHandle(request.run_config["resources"]["settings"]["config"]).load()
    assert request.job_name == "update_memory"
    assert (settings.corpus.location, settings.corpus.name) == (str(folder), "handbook")
    assert (settings.backbone.name, settings.evaluation.memory_checks) == ("smollm2", "serving")


def test_what_was_added_of_a_watched_folder_does_not_hide_what_stands_there(ingested, sensor):
    folder = ingested("handbook")
    place = paths.overlay_dir("handbook")
    save_overlay(place, Overlay().with_added(read_documents(folder / "leave.md", folder)))
    sensor.tick()
    assert not load_overlay(place).added


def test_a_memory_of_another_configuration_is_not_followed_without_it(ingested, tmp_path, sensor):
    ingested(corpus_key(CorpusSettings(location=str(tmp_path / "handbook"))))
    assert "demo.yaml" in sensor.tick()[1]


def test_a_change_waits_for_documents_that_are_being_read(ingested, instance, sensor):
    folder = ingested("handbook")
    sensor.tick()
    going = made_run(instance, "ingest", "STARTED")
    (folder / "leave.md").unlink()
    (folder / "new.md").write_text("# New\n\nNothing is as it was.\n", "utf-8")
    sensor.tick(20)
    requests, reason = sensor.tick(31)
    assert requests == []
    assert f"ingest is still running (run {going.run_id[:8]})" in reason


def test_the_schedule_runs_a_configuration_that_the_job_takes_unless_the_memory_is_being_written(corpus, tmp_path):
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        (request,) = nightly.evaluate_tick(dg.build_schedule_context(instance)).run_requests
        going = made_run(instance, "update_memory", "QUEUED")
        data = nightly.evaluate_tick(dg.build_schedule_context(instance))
    assert dg.validate_run_config(defs.resolve_job_def("full"), request.run_config)
    assert request.run_config["resources"]["settings"]["config"]["corpus"]["location"] == str(corpus)
    assert not data.run_requests
    assert data.skip_message == f"update_memory is still running (run {going.run_id[:8]}); the next night counts"


@pytest.mark.parametrize("unmounted", [False, True])
def test_a_share_that_went_away_is_no_change_of_a_corpus_that_is_recognised(corpus, sensor, tmp_path, unmounted):
    watched = config(corpus={"format": "auto", "location": str(corpus)})
    (tmp_path / "watched.yaml").write_text(yaml.safe_dump(watched, allow_unicode=True), "utf-8")
    sensor.tick()
    cursor = sensor.cursor
    corpus.rename(tmp_path / "away")
    if unmounted:
        corpus.mkdir()
    requests, reason = sensor.tick(15)
    assert requests == []
    assert "cannot be read" in reason
    assert sensor.cursor == cursor
    if unmounted:
        corpus.rmdir()
    (tmp_path / "away").rename(corpus)
    requests, reason = sensor.tick(15)
    assert requests == []
    assert "is unchanged" in reason


def after_update(instance, update):
    """What `evaluate_updates` does about an update that succeeded: its request, or the reason for none."""
    event = dg.DagsterEvent("PIPELINE_SUCCESS", update.job_name)
    return evaluate_updates(dg.build_run_status_sensor_context("evaluate_updates", event, instance, update))


def test_an_update_is_evaluated_with_its_own_configuration(instance):
    update = made_run(instance, "update_memory", "SUCCESS", run_config=config())
    request = after_update(instance, update)
    assert request.run_config == config()
    assert dg.validate_run_config(defs.resolve_job_def("evaluate"), request.run_config)


@pytest.mark.parametrize(
    ("job", "status", "reason"),
    [
        ("update_memory", "QUEUED", "is still to come"),
        ("full", "STARTED", "is still to come"),
        ("update_memory", "SUCCESS", "has succeeded again since"),
        ("evaluate", "QUEUED", "will read the newest memory"),
        ("evaluate", "STARTING", "will read the newest memory"),
        ("evaluate", "STARTED", None),  # it may have read the former memory
        ("answers", "STARTED", None),
        ("train", "QUEUED", None),  # it evaluates nothing
    ],
)
def test_several_updates_in_a_row_are_evaluated_once(instance, job, status, reason):
    update = made_run(instance, "update_memory", "SUCCESS")
    other = made_run(instance, job, status)
    answer = after_update(instance, update)
    if reason is None:
        assert isinstance(answer, dg.RunRequest)
    else:
        assert reason in answer.skip_message
        assert other.run_id[:8] in answer.skip_message
