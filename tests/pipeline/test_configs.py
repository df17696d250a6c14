"""Every shipped configuration can be run."""

import re
from pathlib import Path

import dagster as dg
import pytest

from zrag_core.model.store.skill_folder import read_skill_config, shipped_skill
from zrag_core.model.store.stored_settings import read_settings
from zrag_core.settings import JointSettings, Settings, SkillSettings, load_settings
from zrag_core.settings.backbone import PACKAGED, TINY
from zrag_core.systems import SYSTEMS
from zrag_pipeline.definitions import defs
from zrag_pipeline.defs.jobs import run_config
from zrag_pipeline.platform.paths import CONFIGS
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.warehouse import Warehouse

FILES = sorted(path.name for path in CONFIGS.glob("*.yaml"))
JOB_OF = {
    "own.yaml": "ingest",
    "demo.yaml": "demo",
    "squad_routing.yaml": "benchmark_routing",
    "pretrain_tiny.yaml": "pretrain_tiny",
    "pretrain_smollm2.yaml": "pretrain_smollm2",
    "refit_smollm2.yaml": "pretrain_smollm2",
    "pretrain_gemma3.yaml": "pretrain_gemma3",
    "benchmark.yaml": "benchmark",
    "benchmark_memory.yaml": "benchmark_memory",
    "benchmark_update.yaml": "benchmark_update",
    "benchmark_codec.yaml": "benchmark_codec",
}
READ_BY_THE_SKILL = {"corpus", "backbone", "memory", "separated", "skill"}
READ_BY_THE_BENCHMARK = {"corpus", "targets", "backbone", "memory", "separated", "writing"}
READ_BY_THE_BENCHMARK |= {"decoding", "evaluation", "benchmark"}
READ_BY = {
    "pretrain_tiny": READ_BY_THE_SKILL,
    "pretrain_smollm2": READ_BY_THE_SKILL - {"separated"} | {"codec"},
    "pretrain_gemma3": READ_BY_THE_SKILL - {"separated"} | {"codec"},
    "benchmark": READ_BY_THE_BENCHMARK - {"evaluation"} | {"baselines", "joint"},
    "benchmark_memory": READ_BY_THE_BENCHMARK,
    "benchmark_update": READ_BY_THE_BENCHMARK - {"evaluation"},
    "benchmark_codec": READ_BY_THE_BENCHMARK - {"targets", "separated", "evaluation"} | {"codec"},
}


def settings_of(name):
    return run_config(name)["resources"]["settings"]["config"]


def test_the_promised_files_are_there():
    promised = {"demo.yaml", "squad.yaml", "almanac.yaml", "korquad.yaml", "hotpotqa.yaml", "evidence_poc.yaml"}
    promised.add("pretrain_tiny.yaml")
    assert promised <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_fits_its_job_and_speaks_in_short_lines(name):
    config = run_config(name)
    assert dg.validate_run_config(defs.resolve_job_def(JOB_OF.get(name, "full")), config)
    assert set(config) == {"loggers", "resources"}
    assert set(config["loggers"]) == {"console"}
    first = (CONFIGS / name).read_text("utf-8").splitlines()[0]
    assert first.startswith("# "), "says what it is for"


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_is_complete_and_its_fields_are_known(name, monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    monkeypatch.setenv("ZRAG_SKILL_CORPUS", str(tmp_path / "other"))
    given = settings_of(name)
    settings = SettingsHandle(given).load()
    expected = READ_BY.get(JOB_OF.get(name))
    if expected is None:
        # What says nothing is left out: the policy joint needs no skill, the shipped one has no settings, and who does
        # the work changes nothing.
        unused = {"skill", "benchmark", "codec", "engine"}
        if settings.backbone.name != TINY:
            unused.add("separated")
        if settings.memory.policy == "joint":
            unused |= {"separated", "codec", "writing", "updates"}
        if not any(SYSTEMS[system].policy == "joint" for system in settings.evaluation.systems):
            unused.add("joint")
            assert settings.joint == JointSettings()
        if "memorag" not in settings.evaluation.systems:
            unused.add("memorag")
        expected = set(Settings.model_fields) - {section for section in unused if section not in given}
        assert settings.skill == SkillSettings() or "skill" in given
    in_order = [section for section in Settings.model_fields if section in expected]
    assert list(given) == in_order, "every section, in the order of the settings"
    assert settings.answers.budget in settings.evaluation.budgets
    assert settings.corpus.location == (None if settings.corpus.format == "almanac" else str(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_field_in_it_would_be_noticed(name, monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    monkeypatch.setenv("ZRAG_SKILL_CORPUS", str(tmp_path / "other"))
    given = settings_of(name)
    section, right = given["memory"]["policy"], "slots"
    if section not in given:  # a pretrained LLM's memory has no shape of the policy's
        section, right = ("codec", "width") if "codec" in given else ("decoding", "steps")
    given[section][f"{right}z"] = 4
    with pytest.raises(Exception, match=rf"{section}\.{right}z: unknown field -> did you mean '{right}'"):
        load_settings(given)


@pytest.mark.parametrize("corpus", ["squad", "korquad", "hotpotqa"])
def test_a_real_corpus_needs_nothing_but_its_location_and_has_a_joint_version_beside_it(corpus, monkeypatch, tmp_path):
    monkeypatch.delenv("ZRAG_SKILL_CORPUS", raising=False)
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    settings, joint = (load_settings(settings_of(f"{corpus}{kind}.yaml")) for kind in ("", "_joint"))
    assert (settings.memory.policy, joint.memory.policy) == ("separated", "joint")
    assert (settings.skill.corpus, settings.skill.steps) == (None, 0), "the shipped skill"


def test_the_demo_is_what_its_job_runs_and_cannot_spend():
    demo = next(job for job in defs.jobs if job.name == "demo")
    assert demo.config == run_config("demo.yaml")
    assert settings_of("demo.yaml")["answers"]["reader"] == "offline"
    assert settings_of("demo.yaml")["corpus"]["format"] == "almanac"


def test_the_reference_setting_is_the_published_one(monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    settings = load_settings(settings_of("evidence_poc.yaml"))
    assert (settings.backbone.name, settings.backbone.quantization) == ("Qwen/Qwen3-8B", "nf4")
    lora = settings.backbone.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (32, 64, 0.05)
    assert set(lora.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert (settings.corpus.limit_documents, settings.joint.slots, settings.joint.width) == (2000, 4, 256)
    training = settings.joint
    assert (training.steps, training.epochs, training.batch_size, training.gradient_accumulation) == (None, 5, 2, 8)
    assert (training.lr_theta, training.lr_memory, training.lr_projections) == (2e-5, 1e-3, 1e-4)
    assert (training.warmup, training.query_tokens, training.evidence_tokens) == (0.1, 128, 256)


@pytest.mark.parametrize("page", ["operations.md", "comparing.md"])
def test_the_queries_on_the_pages_run(page, lineage):
    warehouse = Warehouse(lineage.data / "warehouse.duckdb")
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    queries = re.findall(r"^```sql\n(.*?)^```", text, flags=re.M | re.S)
    assert queries
    for query in queries:
        assert len(warehouse.query(query)) > 0


@pytest.mark.parametrize("backbone", PACKAGED)
def test_the_shipped_skill_of_a_pretrained_llm_is_that_of_its_configuration(backbone):
    shipped = read_settings(read_skill_config(shipped_skill(backbone))["settings"])
    given = load_settings(settings_of(f"pretrain_{backbone}.yaml"))
    assert shipped.backbone.lora == given.backbone.lora
    for section in ("codec", "skill"):
        own = [getattr(settings, section).model_dump(exclude={"save_every"}) for settings in (shipped, given)]
        assert own[0] == own[1], section
