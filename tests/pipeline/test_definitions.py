"""What the code location offers, and how little it takes to load it."""

import subprocess
import sys

import dagster as dg
import pytest

from zrag_core.model.checks.catalog import MEMORY_CHECKS, UPDATE_CHECKS, judged_figures
from zrag_pipeline.definitions import defs

ASSETS = {
    "corpus": {"raw_corpus", "preflight", "documents", "questions"},
    "evidence": {"evidence_targets", "evidence_audit"},
    "model": {"backbone", "skill", "memory", "joint_memory", "memory_report", "update_report", "champion"},
    "baselines": {"bm25_index", "dense_index"},
    "evaluation": {"system_evidence", "evidence_scores", "leaderboard"},
    "answers": {"answer_runs", "answer_scores"},
    "benchmarks": {
        "scale_benchmark",
        "training_benchmark",
        "routing_benchmark",
        "memory_benchmark",
        "update_benchmark",
        "codec_benchmark",
        "client_benchmark",
    },
}
BLOCKING = {"evidence_audit: no_leakage", "evidence_audit: training_targets", "system_evidence: complete"}
WARNING = {
    "evidence_audit: questions_have_targets",
    "evidence_audit: answers_in_evidence",
    "leaderboard: memory_routes_like_bm25",
    "answer_runs: answered_by_a_model",
    "answer_runs: no_errors",
    "answer_runs: no_judge_errors",
    "champion: promoted",
    *(f"memory_report: {name}" for name in judged_figures(MEMORY_CHECKS)),
    *(f"update_report: {name}" for name in judged_figures(UPDATE_CHECKS)),
}
CORPUS = {"preflight", "documents", "questions"}
TRAINED = CORPUS | ASSETS["evidence"] | ASSETS["model"]
LINEAGE = TRAINED | ASSETS["baselines"] | ASSETS["evaluation"] | ASSETS["answers"]
JOBS = {
    "demo": LINEAGE,
    "full": LINEAGE,
    "train": TRAINED,
    "update_memory": TRAINED,
    "ingest": TRAINED,
    "evaluate": {"preflight"} | ASSETS["baselines"] | ASSETS["evaluation"],
    "answers": {"preflight"} | ASSETS["answers"],
    "pretrain_tiny": {"preflight", "skill"},
    "pretrain_smollm2": {"preflight", "skill"},
    "pretrain_gemma3": {"preflight", "skill"},
    "benchmark": {"preflight", "skill", "scale_benchmark", "training_benchmark"},
    "benchmark_routing": CORPUS | ASSETS["evidence"] | {"routing_benchmark"},
    "benchmark_memory": {"preflight", "skill", "memory_benchmark"},
    "benchmark_update": {"preflight", "skill", "update_benchmark"},
    "benchmark_codec": {"preflight", "skill", "codec_benchmark"},
    "benchmark_client": {"preflight", "client_benchmark"},
}
HEAVY = ("torch", "transformers", "mlflow", "sklearn", "pandas", "peft", "datasets", "openai", "matplotlib", "scipy")


@pytest.fixture(scope="module")
def graph():
    return defs.resolve_asset_graph()


def test_assets_and_their_groups(graph):
    groups = {}
    for node in graph.asset_nodes:
        groups.setdefault(node.group_name, set()).add(node.key.to_user_string())
    assert groups == ASSETS


def test_assets_are_described_owned_and_versioned(graph):
    for node in graph.asset_nodes:
        assert node.description, node.key
        if node.is_materializable:
            assert node.owners, node.key
            assert node.code_version, node.key
            assert node.kinds, node.key


def test_checks_block_where_they_are_about_integrity(graph):
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    names = {f"{spec.asset_key.to_user_string()}: {spec.name}": spec for spec in specs}
    assert {name for name, spec in names.items() if spec.blocking} == BLOCKING
    assert {name for name, spec in names.items() if not spec.blocking} == WARNING
    assert all(spec.description for spec in specs)


def test_jobs_and_what_they_materialise():
    assert {job.name for job in defs.jobs} == set(JOBS)
    for name, assets in JOBS.items():
        job = defs.resolve_job_def(name)
        found = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assert found == assets, name
        assert job.description


def test_training_and_writing_wait_for_the_audit_and_reading_for_preflight(graph):
    parents = {node.key.to_user_string(): {p.to_user_string() for p in node.parent_keys} for node in graph.asset_nodes}
    assert "evidence_audit" in parents["backbone"]
    assert parents["memory"] == {"skill", "evidence_targets", "evidence_audit"}
    assert parents["memory_report"] == {"memory", "joint_memory"}
    assert parents["champion"] == {"memory", "memory_report", "update_report"}
    assert parents["documents"] == parents["questions"] == {"preflight", "raw_corpus"}


def test_the_skill_cannot_see_the_corpus(graph):
    assert {key.to_user_string() for key in graph.get(dg.AssetKey("skill")).parent_keys} == {"preflight"}


@pytest.mark.parametrize("name", JOBS)
def test_every_job_starts_with_preflight(name, graph):
    executed = defs.resolve_job_def(name).asset_layer.executable_asset_keys
    (start,) = (key for key in executed if not set(graph.get(key).parent_keys) & set(executed))
    assert start.to_user_string() == "preflight"


def test_nothing_runs_by_itself_until_switched_on():
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    (schedule,) = repository.schedule_defs
    assert set(sensors) == {"corpus_sensor", "evaluate_updates"}
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.STOPPED}
    assert (schedule.name, schedule.default_status) == ("nightly", dg.DefaultScheduleStatus.STOPPED)
    assert {target.job_name for target in sensors["corpus_sensor"].targets} == {"update_memory", "full"}
    assert {target.job_name for target in sensors["evaluate_updates"].targets} == {"evaluate"}
    assert schedule.job_name == "full"
    assert not any(node.automation_condition for node in defs.resolve_asset_graph().asset_nodes)


def test_loading_imports_nothing_heavy():
    code = (
        "import sys; import zrag_pipeline.definitions as d; d.defs.get_repository_def(); "
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
