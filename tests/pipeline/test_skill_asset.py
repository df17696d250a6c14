"""The asset `skill`: shipped, trained, found again, resumed, or a clear error."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from pipeline_runs import CHECKOUT, SETTINGS, command_line, config, execute, native_corpus

from zrag_core.errors import SettingsError
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.model.store.skill_folder import load_skill, read_skill_config, shipped_skill
from zrag_core.model.store.stored_settings import read_settings
from zrag_core.settings import load_settings
from zrag_core.settings.backbone import PACKAGED
from zrag_pipeline.defs.memory.skill_provider import _start, provide_skill
from zrag_pipeline.platform.handles import SkillReference
from zrag_pipeline.platform.tracking import Tracking

TINY = SETTINGS["backbone"]["tiny"]


def skill_of(result):
    return result.output_for_node("skill").skill


def metadata(result):
    (made,) = result.asset_materializations_for_node("skill")
    return made.metadata


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shipped(trained_skill, tmp_path, monkeypatch):
    """A copy of the trained skill, in the place of the one that comes with the package."""
    folder = tmp_path / "weights"
    shutil.copytree(skill_of(trained_skill.result).folder, folder)
    monkeypatch.setattr("zrag_pipeline.defs.memory.skill_provider.shipped_skill", lambda _backbone: folder)
    return folder


# --- trained --------------------------------------------------------------------------------------


def test_a_trained_skill_is_a_whole_folder_and_its_handle_names_it(trained_skill):
    made, shown = skill_of(trained_skill.result), metadata(trained_skill.result)
    folder = made.folder
    assert folder == trained_skill.data / "skills" / made.skill_id
    own = read_skill_config(folder)
    assert own["skill_id"] == made.skill_id
    assert own["settings"]["skill"]["steps"] == SETTINGS["skill"]["steps"]
    assert made.digest == checkpoint_digest(folder)
    assert [path.name for path in folder.parent.iterdir() if path.name != ".training"] == [folder.name]
    assert list((folder.parent / ".training").iterdir()) == [], "the resumable state is gone"
    (event,) = trained_skill.result.asset_materializations_for_node("skill")
    assert event.tags["dagster/data_version"] == made.digest
    assert shown["model_card"].value == (folder / "README.md").read_text("utf-8")
    assert shown["training_curves"].value.startswith("![")
    model = load_skill(folder).model
    assert (model.n_documents, model.settings.slots) == (0, SETTINGS["separated"]["slots"])
    assert model.shape[2] == SETTINGS["separated"]["width"]


def test_the_model_card_tells_how_it_was_made(trained_skill):
    made = skill_of(trained_skill.result)
    card = (made.folder / "README.md").read_text("utf-8")
    assert card.startswith(f"# {made.skill_id}\n")
    assert f"hidden size {TINY['hidden_size']}, {TINY['layers']} layers" in card
    assert "almanac (en)" in card
    assert f"{SETTINGS['skill']['steps']} steps of {SETTINGS['skill']['documents']} documents" in card


def test_mlflow_has_its_curves_step_by_step(trained_skill):
    tracking = Tracking(trained_skill.data)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert (run.info.run_name, run.info.status) == ("skill", "FINISHED")
    assert run.data.tags["dagster.run_id"] == trained_skill.run_id
    steps = list(range(1, SETTINGS["skill"]["steps"] + 1))
    losses = ("loss_evidence", "loss_finding", "loss_reconstruction", "loss_routing")
    for name in (*losses, "learning_rate", "tokens_per_s"):
        assert [point.step for point in tracking.client.get_metric_history(run.info.run_id, name)] == steps, name
    assert run.data.params["skill.steps"] == str(len(steps))
    assert 0 <= run.data.metrics["skill_documents_recall_at_1"] <= 1
    assert "training_curves.png" in {file.path for file in tracking.client.list_artifacts(run.info.run_id)}


def test_the_same_settings_find_it_again_and_others_do_not(trained_skill, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(trained_skill.data / "skills", data / "skills")
    before = files(data / "skills")

    def refuse(*_arguments, **_options):
        raise RuntimeError("training again")

    monkeypatch.setattr("zrag_core.model.training.skill_training.train_skill", refuse)
    same = config(
        skill={"save_every": 7}, backbone={"threads": 2}, decoding={"routed_documents": 1}, writing={"steps": 9}
    )
    made = skill_of(execute("pretrain_tiny", data, run_config=same))
    assert made == replace(skill_of(trained_skill.result), folder=data / "skills" / made.skill_id)
    assert files(data / "skills") == before
    for other in (
        {"skill": {"seed": 1}},
        {"skill": {"lr": 0.1}},
        {"backbone": {"tiny": TINY | {"layers": 1}}},
        {"separated": {"stride": 6}},
    ):
        with pytest.raises(RuntimeError, match="training again"):
            execute("pretrain_tiny", data, run_config=config(**other))


# --- shipped --------------------------------------------------------------------------------------

AS_SHIPPED = {"start": "auto", "steps": 0}


def test_without_steps_the_shipped_skill_is_taken_as_it_is(shipped, tmp_path):
    before = files(shipped)
    result = execute("pretrain_tiny", tmp_path / "data", run_config=config(skill=AS_SHIPPED))
    own = read_skill_config(shipped)["skill_id"]
    assert skill_of(result) == SkillReference(own, shipped, checkpoint_digest(shipped))
    assert files(shipped) == before
    assert not list((tmp_path / "data").glob("skills/*"))
    assert "training_curves" not in metadata(result)


@pytest.mark.parametrize("steps", [0, 4])
def test_other_slots_than_the_shipped_ones_are_one_clear_error(shipped, tmp_path, steps, capfd):
    other = config(skill={"start": "auto", "steps": steps}, separated={"slots": 5, "width": 40})
    assert not execute("pretrain_tiny", tmp_path / "data", run_config=other, raise_on_error=False).success
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "FAILED: separated: " in line)
    assert "the shipped skill of zrag-tiny has separated.slots 4 (given: 5), separated.width 32 (given: 40) ->" in line
    assert "stride" not in line
    assert not list((tmp_path / "data").glob("skills/*"))


@pytest.mark.parametrize("backbone", PACKAGED)
def test_slots_that_nobody_set_are_those_of_the_skill(backbone):
    own = read_settings(read_skill_config(shipped_skill(backbone))["settings"]).codec
    given = {"backbone": {"name": backbone}, "skill": AS_SHIPPED}
    assert _start(load_settings(given)) == shipped_skill(backbone)
    other = load_settings({**given, "codec": {"width": own.width + 1}})
    with pytest.raises(SettingsError, match=rf"codec.width {own.width} \(given: {own.width + 1}\) ->"):
        _start(other)


@pytest.mark.parametrize(
    ("backbone", "start", "message"),
    [
        ("gpt2", "auto", "no skill is shipped for 'gpt2' -> set it above 0 to train one"),
        ("zrag-tiny", "scratch", "random weights are no skill -> set it above 0 to train one"),
    ],
)
def test_without_steps_and_without_a_shipped_skill_there_is_none(backbone, start, message):
    settings = load_settings({"backbone": {"name": backbone}, "skill": {"start": start, "steps": 0}})
    with pytest.raises(SettingsError) as caught:
        provide_skill(settings, None, dg.build_asset_context())
    assert f"skill.steps: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_training_may_start_from_the_shipped_skill_and_keeps_its_architecture(shipped, tmp_path):
    more = {"start": "auto", "steps": 2}
    other = config(skill=more, backbone={"tiny": TINY | {"layers": 3, "vocabulary": 500}})
    made = [
        skill_of(execute("pretrain_tiny", tmp_path / name, run_config=run))
        for name, run in (("a", config(skill=more)), ("b", other))
    ]
    assert made[0].digest == made[1].digest
    folder = Path(made[1].folder)
    assert read_skill_config(folder)["settings"]["backbone"]["tiny"] == TINY
    assert f"{TINY['layers']} layers" in (folder / "README.md").read_text("utf-8")
    own, start = files(folder), files(shipped)
    assert own["tokenizer/tokenizer.json"] == start["tokenizer/tokenizer.json"]
    assert own["backbone/model.safetensors"] != start["backbone/model.safetensors"]


def test_the_shipped_skill_can_be_calibrated_on_another_corpus(shipped, tmp_path):
    folder = native_corpus(tmp_path / "말뭉치")
    result = execute("pretrain_tiny", tmp_path / "data", run_config=config(skill=AS_SHIPPED | {"corpus": str(folder)}))
    made = skill_of(result).folder
    own, start = files(made), files(shipped)
    assert own["backbone/model.safetensors"] == start["backbone/model.safetensors"], "theta is the same"
    assert own["heads.safetensors"] != start["heads.safetensors"], "the judgement is not"
    assert "training_curves" not in metadata(result)
    assert "Training**: none" in metadata(result)["model_card"].value


def test_the_policy_joint_needs_no_skill(tmp_path):
    joint = config(memory={"policy": "joint"}, evaluation={"systems": ["zrag_joint"]})
    result = execute("pretrain_tiny", tmp_path / "data", run_config=joint)
    assert skill_of(result) is None
    assert result.output_for_node("skill").left_out == "policy joint alone: no skill is needed"


def test_neither_card_nor_metrics_make_it_another_skill(shipped):
    before = checkpoint_digest(shipped)
    (shipped / "README.md").write_text("60 minutes", "utf-8")
    (shipped / "metrics.json").write_text("{}", "utf-8")
    assert checkpoint_digest(shipped) == before
    heads = bytearray((shipped / "heads.safetensors").read_bytes())
    heads[-1] ^= 1
    (shipped / "heads.safetensors").write_bytes(heads)
    assert checkpoint_digest(shipped) != before


# --- killed ---------------------------------------------------------------------------------------

LONG = {"steps": 60, "save_every": 4}


def killed_in_training(folder):
    """Start `pretrain_tiny`, kill it as soon as it has saved a state, and return that state's step."""
    command, environment = command_line("pretrain_tiny", folder, config(skill=LONG))
    output = (folder / "killed.log").open("w+")
    process = subprocess.Popen(
        command, env=environment, cwd=CHECKOUT, stdout=output, stderr=output, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (saved := list((folder / "data" / "skills" / ".training").glob("[!.]*/state.json"))):
            output.seek(0)
            assert process.poll() is None, output.read()
            assert time.monotonic() < deadline, output.read()
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        output.close()
    return json.loads(saved[0].read_text())["step"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_training_resumes_to_the_same_skill(tmp_path, capfd):
    half_way = killed_in_training(tmp_path)
    assert half_way % 4 == 0
    assert half_way < 60, "it was killed too late to show anything"
    assert not list((tmp_path / "data" / "skills").glob("skill-*")), "a skill appears whole or not at all"
    resumed = execute("pretrain_tiny", tmp_path / "data", run_config=config(skill=LONG))
    assert f"resumed from step {half_way:,}" in capfd.readouterr().err
    assert metadata(resumed)["resumed_from_step"].value == half_way
    # How the run itself reads and writes is no part of the skill.
    other = config(skill=LONG | {"save_every": 50}, decoding={"routed_documents": 1, "steps": 1})
    whole = execute("pretrain_tiny", tmp_path / "uninterrupted", run_config=other)
    assert metadata(whole)["resumed_from_step"].value == 0
    assert skill_of(resumed).skill_id == skill_of(whole).skill_id
    assert skill_of(resumed).digest == skill_of(whole).digest
