"""Who becomes the champion, and taking it back: pointer file and registry alias together."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest

from zrag_core.corpus.overlay import Overlay, save_overlay
from zrag_core.corpus.types import Corpus, Document
from zrag_core.errors import CheckpointError
from zrag_core.evaluation.comparison import Comparison
from zrag_core.model.checks.challenge import NonInferiority
from zrag_core.model.store.checkpoint import FORMAT_VERSION
from zrag_core.settings import load_settings
from zrag_pipeline.cli import main
from zrag_pipeline.defs.champion.decision import Decision, decide
from zrag_pipeline.defs.champion.promotion import carry_out, promote, roll_back
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champion, write_champion
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.model_registry import ALIAS, MODEL, ModelRegistry
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

SETTINGS = load_settings({"decoding": {"routed_documents": 3}})
CORPUS = Corpus("연감", (), ())
CHALLENGE = "zrag_pipeline.defs.champion.decision._challenge"
# Where refusal begins is given, so that no memory has to be opened to fit it.
REFUSES = {"decoding": SETTINGS.decoding.model_copy(update={"least_confidence": 0.4})}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """An MLflow store without any run; making its tables takes seconds."""
    tracking = Tracking(tmp_path_factory.mktemp("store"))
    assert tracking.client
    return tracking.data_dir / "mlflow.db"


@pytest.fixture
def tracking(data, tables):
    shutil.copy(tables, data)
    return Tracking(data)


def candidate(data, name):
    folder = data / "checkpoints" / name
    folder.mkdir(parents=True, exist_ok=True)
    read_as = {"decoding": {"routed_documents": 7}, "backbone": {"device": "cpu"}}
    config = {
        "format_version": FORMAT_VERSION,
        "checkpoint_id": name,
        "corpus_version": f"corpus-of-{name}",
        "settings": read_as,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return CheckpointReference(name, folder, f"corpus-of-{name}")


def result(low, system="zrag"):
    compared = Comparison("challenger", "champion", "answer_coverage", 40, 0, 30, 0.5, low, 3.0, 0.95, 0.5, 0.5, None)
    return NonInferiority(system, compared, 2.0)


def decided(data, name, failed=(), *, outcome=(), monkeypatch=None):
    if monkeypatch is not None:
        monkeypatch.setattr(CHALLENGE, lambda *_: list(outcome))
    return decide(candidate(data, name), failed, CORPUS, SETTINGS, lambda line: None)


class NoRegistry:
    """Stands for a registry that is empty."""

    class client:
        """Nothing is registered."""

        @staticmethod
        def search_registered_models(_query):
            return []

        search_model_versions = search_registered_models


def crown(data, *names):
    for name in names:
        promote(candidate(data, name), "연감", SETTINGS, f"made {name}", NoRegistry())


def test_the_first_checkpoint_becomes_champion_only_if_no_check_fails(data):
    assert decided(data, "a").promoted
    refused = decided(data, "a", ["z_shuffle_coverage", "document_top1", "z_shuffle_coverage"])
    assert not refused.promoted
    assert refused.reason == "memory checks fail: z_shuffle_coverage, document_top1"


def test_a_challenger_has_to_pass_in_every_way_of_reading(data, monkeypatch):
    crown(data, "a")
    passed = decided(data, "b", outcome=[result(-1.9), result(0.0, "zrag_free")], monkeypatch=monkeypatch)
    failed = decided(data, "b", outcome=[result(-1.9), result(-2.0, "zrag_free")], monkeypatch=monkeypatch)
    assert (passed.promoted, failed.promoted) == (True, False)
    assert passed.champion_id == "a"
    assert "zrag_free: may be inferior" in failed.reason
    assert not decided(data, "b", ["document_top1"], outcome=[result(1.0)], monkeypatch=monkeypatch).promoted


def in_memory(monkeypatch, **documents):
    """Let checkpoints hold these documents, by their hashes."""
    monkeypatch.setattr(
        "zrag_pipeline.defs.champion.decision.stored_hashes", lambda folder: list(documents[folder.name])
    )


def test_without_shared_questions_the_checks_decide_alone_and_that_is_said(data, monkeypatch):
    crown(data, "a")
    in_memory(monkeypatch, a="xy", b="yz")
    grown = decided(data, "b", outcome=[], monkeypatch=monkeypatch)
    assert grown.promoted
    assert "no held-out question can be asked of a" in grown.reason


def test_another_corpus_of_the_same_name_takes_nothing_over(data, monkeypatch):
    crown(data, "a")
    in_memory(monkeypatch, a="xy", b="z")
    other = decided(data, "b", outcome=[], monkeypatch=monkeypatch)
    assert not other.promoted
    assert "another corpus of the same name: it shares no document with a; give this one another corpus.name" in (
        other.reason
    )


def test_a_corpus_that_lies_where_it_lay_may_have_changed_as_a_whole(data, monkeypatch, tmp_path):
    crown(data, "a")
    in_memory(monkeypatch, a="xy", b="z")
    monkeypatch.setattr(CHALLENGE, lambda *_: [])
    for source, location, follows in (("x", str(tmp_path / "y"), False), (str(tmp_path), f"{tmp_path}/", True)):
        write_champion(replace(read_champion(), source=source))
        settings = load_settings({"corpus": {"format": "auto", "location": location}})
        decision = decide(candidate(data, "b"), [], CORPUS, settings, lambda line: None)
        assert decision.promoted == follows
        assert follows or "(x)" in decision.reason


def test_the_champion_is_not_compared_with_itself(data, monkeypatch):
    crown(data, "a")
    monkeypatch.setattr(CHALLENGE, lambda *_: pytest.fail("compared with itself"))
    assert decided(data, "a").reason == "it is the champion already"


def test_a_champion_whose_folder_is_gone_is_replaced(data):
    crown(data, "a")
    (data / "checkpoints" / "a" / "config.json").unlink()
    assert decided(data, "b").promoted


def test_rolling_back_twice_goes_back_twice(data):
    crown(data, "a", "b", "c")
    was, champion = roll_back(NoRegistry())
    assert (was.checkpoint_id, champion.checkpoint_id) == ("c", "b")
    assert roll_back(NoRegistry())[1].checkpoint_id == "a"
    assert read_champion().checkpoint_id == "a"
    assert read_champion().decoding["routed_documents"] == 3
    with pytest.raises(CheckpointError, match="nothing to roll back to: a has no predecessor"):
        roll_back(NoRegistry())


def test_what_was_rolled_back_is_promoted_by_no_run_until_a_person_does(data, monkeypatch):
    crown(data, "a", "b")
    roll_back(NoRegistry())
    refused = decided(data, "b", outcome=[result(1.0)], monkeypatch=monkeypatch)
    assert not refused.promoted
    assert "it was rolled back" in refused.reason
    assert decided(data, "c", outcome=[result(1.0)], monkeypatch=monkeypatch).promoted
    crown(data, "b")
    assert read_champion().checkpoint_id == "b"
    crown(data, "a")
    assert decided(data, "b", outcome=[result(1.0)], monkeypatch=monkeypatch).promoted


def test_a_failing_check_of_the_champion_itself_is_said(data):
    crown(data, "a")
    found = decided(data, "a", ["document_top1"])
    assert found.failed_checks == ("document_top1",)
    assert "memory checks fail: document_top1" in found.reason


def carried_out(data, name, decision, documents=()):
    corpus = Corpus("연감", tuple(documents), ())
    return carry_out(decision, candidate(data, name), corpus, SETTINGS.model_copy(update=REFUSES), NoRegistry())


def test_a_run_undoes_nothing_that_a_command_has_done_meanwhile(data):
    crown(data, "a")
    kept, gone = (Document(name, "", f"{name} lies by the sea.") for name in ("d1", "d2"))
    made = Decision("b", "a", True, "better")
    crown(data, "c")
    assert carried_out(data, "b", made, [kept, gone]).reason == "the champion was changed by a command during this run"
    made = replace(made, champion_id="c")
    save_overlay(paths.overlay_dir("연감"), Overlay().with_removed({gone.id: [gone]}))
    overtaken = carried_out(data, "b", made, [kept, gone])
    assert not overtaken.promoted
    assert "added or removed by a command" in overtaken.reason
    assert read_champion().checkpoint_id == "c"
    assert carried_out(data, "b", made, [kept]).promoted
    assert read_champion().checkpoint_id == "b"


def test_a_run_that_checks_what_a_command_wrote_marks_it_as_proven(data):
    crown(data, "a")
    write_champion(replace(read_champion(), proven=False))
    carried_out(data, "a", Decision("a", "a", True, "it is the champion already", failed_checks=("document_top1",)))
    assert not read_champion().proven
    carried_out(data, "a", Decision("a", "a", True, "it is the champion already"))
    assert read_champion().proven


def test_a_predecessor_whose_checkpoint_is_gone_is_stepped_over(data):
    crown(data, "a", "b", "c")
    (data / "checkpoints" / "b" / "config.json").unlink()
    assert roll_back(NoRegistry())[1].checkpoint_id == "a"


def test_the_alias_in_the_registry_follows(data, tracking):
    for name in ("a", "b"):
        own = candidate(data, name)
        with tracking.run("memory", asset="memory") as run:
            registered = ModelRegistry(tracking).register(run, MODEL, own)
        promote(own, "연감", SETTINGS, "test", tracking)
        assert alias(tracking) == registered
    roll_back(tracking)
    assert alias(tracking) != registered


def test_the_alias_stays_with_the_memory_that_is_asked(data, tracking):
    versions = {}
    for name, corpus in (("a", "mine"), ("b", "demo")):
        own = candidate(data, name)
        with tracking.run("memory", asset="memory") as run:
            versions[corpus] = ModelRegistry(tracking).register(run, MODEL, own)
        place = {"corpus": {"format": "auto", "location": "/mine"}} if corpus == "mine" else {}
        promote(own, corpus, load_settings(place), "test", tracking)
        assert alias(tracking) == versions["mine"], "a run of the demo takes nothing over"
    assert main(["use", "demo"]) == 0
    assert alias(tracking) == versions["demo"]


def test_the_served_model_is_read_as_the_champion_is(data, tracking):
    """Where refusal begins is in the registered model too, and promoting again replaces it."""
    own = candidate(data, "a")
    with tracking.run("memory", asset="memory") as run:
        ModelRegistry(tracking).register(run, MODEL, own)
    for least in (0.25, 0.125):
        settings = load_settings({"decoding": {"routed_documents": 3, "least_confidence": least}})
        promote(own, "연감", settings, "test", tracking)
        (written,) = data.glob("mlartifacts/**/decoding.json")
        assert json.loads(written.read_text("utf-8")) == read_champion().decoding
        assert read_champion().decoding["least_confidence"] == least


def alias(tracking):
    return str(tracking.client.get_model_version_by_alias(MODEL, ALIAS).version)


def test_rows_say_what_was_compared_or_that_nothing_was(data, monkeypatch):
    crown(data, "a")
    decision = decided(data, "b", outcome=[result(-3.0), result(1.0, "zrag_free")], monkeypatch=monkeypatch)
    rows = decision.rows("v", SETTINGS)
    nothing = replace(decision, results=()).rows("v", SETTINGS)
    assert decision.metrics["zrag/low_points"] == -3.0
    assert decision.metrics["promoted"] == 0.0
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    warehouse.replace_rows("champion_decisions", rows, {"run_id": "r1"})
    warehouse.replace_rows("champion_decisions", nothing, {"run_id": "r2"})
    frame = warehouse.query("SELECT * FROM champion_decisions ORDER BY run_id, system")
    assert frame["system"].tolist() == ["zrag", "zrag_free", "none"]
    assert frame["not_inferior"].tolist()[:2] == [False, True]
    assert frame["low"].tolist()[:2] == [-0.03, 0.01]
    assert not frame["promoted"].any()


# --- the command line -----------------------------------------------------------------------------


def test_commands_show_promote_and_roll_back(data, tracking, capsys):
    assert main(["champion"]) == 1
    assert "there is no champion yet" in capsys.readouterr().err
    candidate(data, "a"), candidate(data, "b")
    for name in ("a", "b"):
        assert main(["promote", name]) == 0
    capsys.readouterr()
    assert main(["champion", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["checkpoint_id"], shown["reason"]) == ("b", "promoted by hand")
    assert [item["checkpoint_id"] for item in shown["former"]] == ["a"]
    assert main(["rollback"]) == 0
    assert "b -> a" in capsys.readouterr().out
    assert main(["rollback"]) == 1
    assert main(["promote", "nothing-there"]) == 1
    assert "there is no checkpoint 'nothing-there' -> known: a, b" in capsys.readouterr().err


def test_showing_the_champion_imports_nothing_heavy(data):
    import os
    import subprocess
    import sys

    crown(data, "a")
    code = (
        "import sys; from zrag_pipeline.cli import main; main(['champion']); "
        "print(*[n for n in ('torch', 'mlflow', 'dagster', 'pandas') if n in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert (found.returncode, found.stderr.strip()) == (0, ""), found.stderr


def test_by_hand_a_checkpoint_is_read_as_it_was_evaluated(data, tracking):
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    judged = load_settings({"decoding": {"routed_documents": 5, "steps": 1}, "backbone": {"device": "cpu"}})
    rows = Decision("a", None, False, "checks fail").rows("v", judged)
    warehouse.replace_rows("champion_decisions", rows, {"run_id": "r1"})
    candidate(data, "a"), candidate(data, "b")
    assert main(["promote", "a"]) == 0
    assert (read_champion().decoding["routed_documents"], read_champion().decoding["steps"]) == (5, 1)
    assert read_champion().backbone_device == "cpu"
    assert main(["promote", "b"]) == 0
    assert read_champion().decoding["routed_documents"] == 7, "no run has judged it: as it was written"
    changed = {**read_champion().decoding, "routed_documents": 9, "least_confidence": 0.3}
    write_champion(replace(read_champion(), decoding=changed, proven=False, source="/handbook"))
    assert main(["promote", "a"]) == 0
    assert main(["promote", "b"]) == 0
    again = read_champion()
    assert (again.decoding, again.proven, again.source) == (changed, False, "/handbook"), (
        "as it was the champion before"
    )


def test_by_hand_where_refusal_begins_is_fitted_as_in_a_run(data, tracking, monkeypatch):
    made = candidate(data, "a")
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    corpus = Corpus("연감", (Document("d1", "", "It lies by the sea."),), ())
    warehouse.save_corpus(made.corpus_version, corpus)
    fitted = []
    monkeypatch.setattr(
        "zrag_pipeline.defs.champion.promotion._least_confidence", lambda *given: fitted.append(given) or 0.25
    )
    assert main(["promote", "a"]) == 0
    assert read_champion().corpus == "연감"
    assert read_champion().decoding["least_confidence"] == 0.25
    assert fitted[0][1].documents == corpus.documents
    assert main(["promote", "a"]) == 0
    assert len(fitted) == 1, "it is kept"


def test_promotion_by_hand_waits_for_other_commands(data, tracking, monkeypatch):
    candidate(data, "a")
    held = []

    def locked(file):
        held.append(file.name)
        return contextlib.nullcontext()

    monkeypatch.setattr("zrag_pipeline.defs.champion.corpus_changes.locked", locked)
    assert main(["promote", "a"]) == 0
    assert held == [".corpus_changes.lock"], "the lock of add, remove, rollback and the champion of a run"
