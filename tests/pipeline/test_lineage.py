"""The whole lineage on a small corpus: what it leaves in DuckDB, MLflow and Dagster, and how parts go on from it."""

import json
import urllib.parse
import uuid
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pipeline_runs import SETTINGS, config, execute

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CheckpointError
from zrag_core.model.checks.catalog import MEMORY_CHECKS, UPDATE_CHECKS, judged_figures
from zrag_core.model.store.checkpoint import checkpoint_digest, load_checkpoint
from zrag_core.settings import EvaluationSettings
from zrag_core.systems import SYSTEMS as REGISTERED
from zrag_core.text import evidence_tokens
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

SYSTEMS = set(REGISTERED)
RETRIEVAL = SYSTEMS - {"closed_book", "gold_evidence", "zrag_full_prefix"}
OWN_WORDS = {"zrag_free", "zrag_joint_free", "zrag_full_prefix", "closed_book"}
SHAPES = {policy: (SETTINGS[policy]["slots"], SETTINGS[policy]["width"]) for policy in ("separated", "joint")}
BUDGETS = EvaluationSettings().budgets
ANSWERED = 256
ANSWER_BUDGETS = (256, 64)
QUESTIONS = 12
EVERY = {(system, budget): QUESTIONS for system in SYSTEMS for budget in BUDGETS}


@pytest.fixture(scope="module")
def warehouse(lineage):
    return Warehouse(lineage.data / "warehouse.duckdb", timeout_s=5)


@pytest.fixture(scope="module")
def runs(lineage):
    """MLflow's runs of the lineage, oldest first."""
    tracking = Tracking(lineage.data)
    found = tracking.client.search_runs([tracking.experiment_id], order_by=["attributes.start_time ASC"])
    return [run for run in found if run.data.tags["dagster.run_id"] == lineage.run_id]


@pytest.fixture(scope="module")
def materialisations(lineage):
    events = lineage.result.get_asset_materialization_events()
    return {event.asset_key.to_user_string(): event.materialization for event in events}


def counts(warehouse, table, where, *params):
    """Rows by system and budget."""
    frame = warehouse.query(
        f"SELECT system, budget, count(*) AS n FROM {table} WHERE {where} GROUP BY ALL", list(params)
    )
    return {(row.system, row.budget): row.n for row in frame.itertuples()}


# --- DuckDB ---------------------------------------------------------------------------------------


def test_the_corpus_is_stored_as_it_was_generated(warehouse):
    corpus = generate_almanac(n_documents=12, language="en", seed=0)
    version = corpus_version(corpus.documents)
    stored = warehouse.load_corpus(version)
    assert stored.documents == corpus.documents
    assert [q.question for q in stored.questions] == [q.question for q in corpus.questions]
    assert {q.split for q in stored.questions} >= {"train", "dev", "test"}
    targets = warehouse.load_targets(version)
    assert {q.id for q in stored.questions if q.golden_answers} <= {target.id for target in targets}
    assert any(target.method == "self_study" for target in targets)
    for table in ("corpora", "documents", "questions", "evidence_targets"):
        assert set(warehouse.query(f"SELECT corpus_version FROM {table}")["corpus_version"]) == {version}


def test_every_system_has_evidence_scores_and_answers_for_the_same_questions(lineage, warehouse):
    run = lineage.run_id
    assert counts(warehouse, "evidence", "run_id = ?", run) == EVERY
    assert counts(warehouse, "scores", "run_id = ? AND reader = 'none'", run) == EVERY
    answered = {(system, budget): QUESTIONS for system in SYSTEMS for budget in ANSWER_BUDGETS}
    assert counts(warehouse, "answers", "run_id = ? AND reader = 'offline' AND error IS NULL", run) == answered
    assert counts(warehouse, "scores", "run_id = ? AND reader = 'offline' AND em IS NOT NULL", run) == answered
    assert counts(warehouse, "leaderboard_entries", "question_type = 'all' AND reader = 'none'") == dict.fromkeys(
        EVERY, 1
    )
    assert counts(warehouse, "leaderboard_entries", "question_type = 'all' AND reader = 'offline'") == dict.fromkeys(
        answered, 1
    )
    asked = warehouse.query("SELECT DISTINCT question_id FROM evidence")["question_id"]
    splits = warehouse.query("SELECT DISTINCT split FROM questions WHERE list_contains(?, question_id)", [list(asked)])
    assert list(splits["split"]) == ["test"]
    assert len(asked) == QUESTIONS


def test_evidence_is_verbatim_and_keeps_to_its_budget(lineage, warehouse):
    texts = dict(warehouse.query("SELECT document_id, text FROM documents").itertuples(index=False))
    rows = warehouse.query("SELECT * FROM evidence WHERE run_id = ?", [lineage.run_id])
    assert (rows["evidence_tokens"] <= rows["budget"]).all()
    for row in rows.itertuples():
        assert row.evidence_tokens == evidence_tokens(row.evidence)
        sources = zip(row.source_document_ids, row.source_start, row.source_end, strict=True)
        pieces = [texts[document][start:end] for document, start, end in sources]
        if row.system in OWN_WORDS:
            assert pieces == []
        else:
            assert all(pieces)
            assert "\n".join(pieces) == row.evidence, (row.system, row.budget, row.question_id)
    assert (rows[rows["system"] == "closed_book"]["evidence"] == "").all()
    assert rows[rows["system"] == "zrag_joint_free"]["evidence"].str.len().gt(0).any()
    read = {(row.system, str(row.checkpoint_id).split("-")[0]) for row in rows.itertuples() if row.checkpoint_id}
    assert {pair for pair in read if pair[1] != "nan"} == {
        ("zrag", "memory"),
        ("zrag_free", "memory"),
        ("zrag_hybrid", "memory"),
        ("zrag_full_prefix", "memory"),
        ("memorag", "memory"),
        ("zrag_joint", "joint"),
        ("zrag_joint_free", "joint"),
    }
    memory = rows["system"].str.startswith("zrag") | (rows["system"] == "memorag")
    assert rows[memory]["checkpoint_id"].notna().all()
    assert rows[~memory]["checkpoint_id"].isna().all()
    sure = rows["system"].isin(["zrag", "zrag_free", "zrag_hybrid"])
    assert rows[sure]["confidence"].between(0, 1).all()
    assert rows[~sure]["confidence"].isna().all()
    assert rows[rows["system"] == "zrag_full_prefix"]["document_ids"].str.len().eq(0).all(), "nothing is routed"
    retrieved = rows[rows["system"].isin(RETRIEVAL)]["document_ids"]
    assert all(len(ids) >= 10 and len(set(ids)) == len(ids) for ids in retrieved)


def test_bm25_has_a_part_in_fused_routing(lineage, warehouse):
    rows = warehouse.query(
        "SELECT system, question_id, document_ids FROM evidence WHERE run_id = ? AND budget = 64", [lineage.run_id]
    )

    def ranked(system):
        own = rows[rows["system"] == system]
        return {row.question_id: list(row.document_ids) for row in own.itertuples()}

    assert ranked("zrag_hybrid") != ranked("zrag")


def test_memorag_keeps_its_traces_and_shows_passages_in_document_order(lineage, warehouse, materialisations):
    traces = warehouse.query("SELECT * FROM memorag_traces WHERE run_id = ?", [lineage.run_id]).set_index("question_id")
    rows = warehouse.query("SELECT * FROM evidence WHERE run_id = ? AND system = 'memorag'", [lineage.run_id])
    assert set(traces.index) == set(rows["question_id"])
    assert (traces["memory"] == "z").all()
    assert (traces["cost_usd"] == 0).all()
    assert traces["error"].isna().all()
    assert traces["draft"].str.len().gt(0).any()
    places = dict(warehouse.query("SELECT document_id, position FROM documents").itertuples(index=False))
    for row in rows.itertuples():
        trace, shown = traces.loc[row.question_id], [places[i] for i in row.source_document_ids]
        assert shown == sorted(shown)
        # Chosen by rank all the same: what is shown are the first of the passages.
        assert set(row.source_document_ids) == set(trace["passages"][: len(shown)])
        assert list(row.document_ids[: len(trace["passages"])]) == list(trace["passages"])
        found = json.loads(trace["found"])
        assert len(found) == 1 + len(trace["clues"]) <= 4
        assert {document for ids in found for document in ids} == set(trace["passages"])
        assert all(len(ids) == 3 for ids in found)
    several = rows[rows["source_document_ids"].str.len() > 1]
    ranked = [list(traces.loc[r.question_id, "passages"][: len(r.source_document_ids)]) for r in several.itertuples()]
    shown = [list(row.source_document_ids) for row in several.itertuples()]
    assert ranked != shown, "somewhere the two orders differ"
    metadata = materialisations["system_evidence"].metadata
    assert metadata["memorag_asking_cost_usd"].value == 0
    assert metadata["memorag_traces"].value.count("- draft: ") == 5


def test_gold_evidence_is_the_ceiling_and_closed_book_the_floor(lineage, warehouse):
    means = warehouse.query(
        "SELECT system, avg(rouge_l) AS rouge_l, avg(answer_coverage) AS coverage FROM scores "
        "WHERE run_id = ? AND reader = 'none' AND budget = 512 GROUP BY system",
        [lineage.run_id],
    ).set_index("system")
    assert means.loc["gold_evidence"].to_dict() == {"rouge_l": 1.0, "coverage": 1.0}
    assert means.loc["closed_book"].to_dict() == {"rouge_l": 0.0, "coverage": 0.0}
    # Twelve documents with names of their own: whatever cannot find them is broken.
    assert means.loc[["bm25", "bm25_sentence", "hybrid"], "coverage"].min() > 0.5


def test_answers_are_labelled_as_the_stand_in_and_cost_nothing(warehouse):
    rows = warehouse.query("SELECT DISTINCT reader, cost_usd, cached FROM answers")
    assert rows.to_dict("records") == [{"reader": "offline", "cost_usd": 0.0, "cached": False}]


@pytest.mark.parametrize("view", ["leaderboard", "leaderboard_all"])
def test_leaderboard_views_hold_one_row_for_each_key(warehouse, view):
    frame = warehouse.query(f"SELECT * FROM {view}")
    key = ["corpus_version", "split", "question_type", "system", "reader", "budget"]
    assert len(frame) > 0
    assert not frame.duplicated([*key, "run_id"] if view == "leaderboard_all" else key).any()
    assert set(frame["system"]) == SYSTEMS
    for system in SYSTEMS:
        assert set(frame[frame["system"] == system]["budget"]) == set(BUDGETS)
    for measure in ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "rouge_l", "answer_coverage", "em", "f1"):
        values = frame[[f"{measure}_low", measure, f"{measure}_high"]].dropna().to_numpy(float)
        assert len(values)
        assert ((values >= 0) & (values <= 1)).all()
        assert (np.diff(values, axis=1) >= -1e-9).all(), measure
    total = frame[frame["question_type"] == "all"]
    assert (total["n_questions"] == QUESTIONS).all()
    parts = frame[frame["question_type"] != "all"].groupby(key[:2] + key[3:])["n_questions"].sum()
    assert (parts == QUESTIONS).all()


def test_systems_are_compared_with_the_reference_and_with_zrag(lineage, warehouse):
    rows = warehouse.query("SELECT * FROM comparisons")
    assert set(rows["run_id"]) == {lineage.run_id}
    families = {("none", measure, ANSWERED) for measure in ("recall_at_1", "recall_at_10", "answer_coverage")}
    families |= {("none", "answer_coverage", 64), ("offline", "f1", ANSWERED), ("offline", "em", ANSWERED)}
    found = set(rows[["reader", "measure", "budget"]].itertuples(index=False, name=None))
    assert found == families
    everything = rows[rows["question_type"] == "all"]
    for _, family in everything.groupby(["reader", "measure", "budget", "reference"]):
        (reference,) = set(family["reference"])
        assert set(family["system"]) == SYSTEMS - {reference}
    assert set(everything["reference"]) == {"bm25_sentence", "zrag"}
    board = warehouse.query("SELECT * FROM leaderboard_entries WHERE question_type = 'all'")
    means = board.set_index(["reader", "budget", "system"])
    for row in everything.itertuples():
        of, against = (means.loc[(row.reader, row.budget, name), row.measure] for name in (row.system, row.reference))
        assert row.difference == pytest.approx(of - against)
        assert row.system in row.verdict
        assert row.reference in row.verdict


def test_every_row_says_which_code_wrote_it(warehouse):
    for table in (
        "documents",
        "questions",
        "evidence_targets",
        "evidence",
        "scores",
        "answers",
        "leaderboard_entries",
        "comparisons",
    ):
        frame = warehouse.query(f"SELECT zrag_version, created_at FROM {table}")
        assert len(frame) > 0, table
        assert frame.notna().all().all(), table


# --- MLflow ---------------------------------------------------------------------------------------


def test_each_materialisation_is_a_run_that_leads_back_to_dagster(lineage, warehouse, runs, materialisations):
    (version,) = warehouse.query("SELECT corpus_version FROM corpora")["corpus_version"]
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    # One run stands for both outputs of `read_corpus`; preflight makes nothing.
    assert sorted(run.info.run_name for run in parents) == sorted(set(materialisations) - {"preflight", "questions"})
    for run in runs:
        assert run.info.status == "FINISHED"
        tags = run.data.tags
        assert tags["dagster.job"] == "full"
        # The skill was learned elsewhere.
        assert tags.get("zrag.corpus_version") == (None if run.info.run_name == "skill" else version)
    (training,) = (run for run in parents if run.info.run_name == "joint_memory")
    assert training.data.params["joint.steps"] == "8"
    assert training.data.params["joint.width"] == str(SHAPES["joint"][1])
    history = Tracking(lineage.data).client.get_metric_history(training.info.run_id, "loss_evidence")
    assert [point.step for point in history] == list(range(1, 9))
    (learning,) = (run for run in parents if run.info.run_name == "skill")
    history = Tracking(lineage.data).client.get_metric_history(learning.info.run_id, "loss_reconstruction")
    assert [point.step for point in history] == list(range(1, SETTINGS["skill"]["steps"] + 1))
    (writing,) = (run for run in parents if run.info.run_name == "memory")
    assert writing.data.params["writing.steps"] == str(SETTINGS["writing"]["steps"])
    assert writing.data.metrics["documents"] == 12
    assert writing.inputs.dataset_inputs[0].dataset.digest == version
    (documents,) = (run for run in parents if run.info.run_name == "documents")
    assert documents.inputs.dataset_inputs[0].dataset.digest == version


@pytest.mark.parametrize("parent", ["evidence_scores", "answer_scores"])
def test_systems_are_child_runs_with_the_same_metrics(lineage, runs, parent):
    (above,) = (run for run in runs if run.info.run_name == parent)
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == above.info.run_id}
    assert set(children) == SYSTEMS
    names = {system: frozenset(run.data.metrics) for system, run in children.items()}
    assert len({names[system] for system in RETRIEVAL}) == 1
    expected = {"recall_at_1", "recall_at_10", "mrr", "latency_p50_ms"}
    expected |= {f"{name}_{budget}" for name in ("answer_coverage", "rouge_l", "evidence_tokens") for budget in BUDGETS}
    expected |= {"em", "f1", "cost_usd"} if parent == "answer_scores" else set()
    assert expected <= names["bm25"]
    client = Tracking(lineage.data).client
    for name in ("answer_coverage", "rouge_l", "evidence_tokens"):
        curve = client.get_metric_history(children["bm25"].info.run_id, name)
        single = children["bm25"].data.metrics
        assert {point.step: point.value for point in curve} == {b: single[f"{name}_{b}"] for b in BUDGETS}
    if parent == "answer_scores":
        curve = client.get_metric_history(children["bm25"].info.run_id, "f1")
        assert sorted(point.step for point in curve) == sorted(ANSWER_BUDGETS)
        assert children["bm25"].data.metrics["usd_per_1000"] == 0
        assert children["bm25"].data.metrics["estimated_usd_per_1000"] > 0
    for system, decode, policy in (
        ("zrag", "constrained", "separated"),
        ("zrag_free", "free", "separated"),
        ("zrag_hybrid", "constrained", "separated"),
        ("zrag_joint", "constrained", "joint"),
        ("zrag_joint_free", "free", "joint"),
    ):
        params = children[system].data.params
        assert (params["decode"], params["policy"]) == (decode, policy)
        assert (params["m"], params["d"], params["k"]) == (*map(str, SHAPES[policy]), "2")
    assert children["zrag"].data.params["skill"].startswith("skill-")
    assert "skill" not in children["zrag_joint"].data.params
    assert children["bm25"].data.params["bm25_k1"] == children["zrag_hybrid"].data.params["bm25_k1"] == "1.5"
    assert children["zrag_hybrid"].data.params["rrf_k"] == "60"
    whole = children["zrag_full_prefix"].data.params
    assert (whole["decode"], whole["policy"], whole["k"]) == ("free", "separated", "all")
    params = children["memorag"].data.params
    expected = {"memorag_memory": "z", "retriever": "bm25", "passages_per_clue": "3", "bm25_k1": "1.5", "rrf_k": "60"}
    assert expected.items() <= params.items()
    assert params["checkpoint_id"] == children["zrag"].data.params["checkpoint_id"]
    units = {name: children[name].data.params["evidence_from"] for name in ("bm25", "bm25_sentence", "closed_book")}
    assert units == {"bm25": "passages", "bm25_sentence": "sentences", "closed_book": "nothing"}


@pytest.mark.parametrize("asset", ["leaderboard", "answer_scores"])
def test_comparisons_and_curves_are_shown(lineage, warehouse, runs, materialisations, asset):
    metadata = materialisations[asset].metadata
    compared = metadata["comparisons"].value
    verdict = warehouse.query(
        "SELECT verdict FROM comparisons WHERE measure = 'answer_coverage' AND budget = 64 AND question_type = 'all' "
        "AND system = 'bm25' AND reference = 'bm25_sentence'"
    )["verdict"][0]
    assert verdict in compared
    assert ("F1 at 256, offline" in compared) == (asset == "answer_scores")
    (run,) = (run for run in runs if run.info.run_name == asset)
    folder = lineage.data / "mlartifacts" / run.info.run_id / "artifacts"
    assert (folder / "comparisons.md").read_text("utf-8") == compared
    table = pd.read_csv(folder / "comparisons.csv")
    assert len(table) == warehouse.query("SELECT count(*) AS n FROM comparisons")["n"][0] - (
        0
        if asset == "answer_scores"
        else warehouse.query("SELECT count(*) AS n FROM comparisons WHERE reader <> 'none'")["n"][0]
    )
    plots = {"coverage_curve", "recall", "question_types"} | (
        {"answers", "f1_curve", "coverage_cost"} if asset == "answer_scores" else set()
    )
    assert {path.stem for path in (folder / "plots" / "test").iterdir()} == plots
    assert all(metadata[f"{name} (test)"].value.startswith("![") for name in plots)
    if asset == "answer_scores":
        assert "offline extractive stand-in, which costs nothing" in metadata["answering_cost"].value


@pytest.mark.parametrize("asset", ["evidence_scores", "answer_scores"])
def test_links_lead_to_the_comparison_of_all_systems(runs, materialisations, asset):
    (above,) = (run for run in runs if run.info.run_name == asset)
    children = {run.info.run_id for run in runs if run.data.tags.get("mlflow.parentRunId") == above.info.run_id}
    for name, page in (("mlflow_compare", "compare-runs"), ("mlflow_curves", "metric")):
        url = materialisations[asset].metadata[name].url
        assert f"/#/{page}?" in url
        query = urllib.parse.parse_qs(url.partition("?")[2])
        assert set(json.loads(query["runs"][0])) == children


@pytest.mark.parametrize(
    ("asset", "name", "policy"), [("memory", "zrag", "separated"), ("joint_memory", "zrag-joint", "joint")]
)
def test_the_checkpoints_are_registered_and_load(lineage, runs, materialisations, asset, name, policy):
    made = materialisations[asset]
    (version,) = Tracking(lineage.data).client.search_model_versions(f"name='{name}'")
    assert version.run_id in {run.info.run_id for run in runs}
    assert made.metadata["registered_model"].value == f"{name} version {version.version}"
    folder = lineage.data / "checkpoints" / made.metadata["checkpoint_id"].value
    model = lineage.data / "mlartifacts" / "registered" / name / folder.name
    assert (version.source, version.tags["checkpoint_id"]) == (model.as_uri(), folder.name)
    assert version.tags["corpus_version"] == materialisations["documents"].metadata["corpus_version"].value
    assert checkpoint_digest(model / "artifacts" / "checkpoint") == checkpoint_digest(folder)
    checkpoint = load_checkpoint(folder)
    slots, width = SHAPES[policy]
    assert checkpoint.model.shape == (12, slots, width)
    assert made.metadata["memory_shape"].value == f"12 x {slots} x {width}"
    assert made.tags["dagster/data_version"] == checkpoint_digest(folder)


# --- Dagster --------------------------------------------------------------------------------------


def test_metadata_counts_rows_shows_columns_and_links_to_mlflow(warehouse, runs, materialisations):
    by_id = {run.info.run_id: run for run in runs}
    for name, made in materialisations.items():
        if name == "preflight":
            continue
        linked = by_id[made.metadata["mlflow"].url.rsplit("/", 1)[1]]
        assert linked.info.run_name == ("documents" if name == "questions" else name)
    tables = {
        "documents": "documents",
        "questions": "questions",
        "evidence_targets": "evidence_targets",
        "system_evidence": "evidence",
        "evidence_scores": "scores WHERE reader = 'none'",
        "memory_report": "memory_checks WHERE check_name NOT IN ('routing_margin', 'probe_coverage')",
        "answer_runs": "answers",
        "answer_scores": "scores WHERE reader = 'offline'",
    }
    for name, table in tables.items():
        metadata = materialisations[name].metadata
        assert metadata["dagster/row_count"].value == warehouse.query(f"SELECT count(*) AS n FROM {table}")["n"][0]
        if name != "answer_scores":
            assert metadata["dagster/column_schema"].value.columns
            assert metadata["preview"].value.count("\n") >= 2
    report = materialisations["leaderboard"].metadata
    assert all(system in report["leaderboard"].value for system in SYSTEMS)
    assert any(value.value.startswith("![") for value in report.values() if isinstance(value.value, str))


def test_the_stand_in_reader_is_warned_about_and_does_not_block(lineage):
    checks = {check.check_name: check for check in lineage.result.get_asset_check_evaluations()}
    stand_in = checks.pop("answered_by_a_model")
    assert not stand_in.passed
    assert stand_in.severity == dg.AssetCheckSeverity.WARN
    assert "OPENAI_API_KEY" in stand_in.description
    for name in (
        "memory_routes_like_bm25",
        "promoted",
        *judged_figures(MEMORY_CHECKS),
    ):  # a few steps of training promise nothing
        assert checks.pop(name).severity == dg.AssetCheckSeverity.WARN
    assert {name: check.passed for name, check in checks.items()} == dict.fromkeys(
        (
            "no_leakage",
            "training_targets",
            "questions_have_targets",
            "answers_in_evidence",
            "complete",
            "no_errors",
            "no_judge_errors",
            *judged_figures(UPDATE_CHECKS),  # nothing was updated
        ),
        True,
    )
    assert lineage.result.success


NOTHING_HANDED_ON = {"preflight", "evidence_audit", "leaderboard", "champion", "answer_scores"}


def test_every_asset_that_another_one_reads_hands_on_a_handle(lineage, materialisations):
    kept = {path.name for path in (lineage.data / "handles").iterdir()}
    assert kept == set(materialisations) - NOTHING_HANDED_ON
    for name in kept:
        folder = lineage.data / "handles" / name
        latest = json.loads((folder / "latest.json").read_text("utf-8"))
        assert latest == json.loads((folder / f"{lineage.run_id}.json").read_text("utf-8"))


def test_the_memory_report_checks_both_checkpoints(warehouse, lineage, materialisations):
    rows = warehouse.query("SELECT * FROM memory_checks WHERE run_id = ?", [lineage.run_id])
    ids = [materialisations[name].metadata["checkpoint_id"].value for name in ("memory", "joint_memory")]
    assert list(dict.fromkeys(rows["checkpoint_id"])) == ids
    for _, own in rows.groupby("checkpoint_id"):
        assert set(own["check_name"]) >= set(judged_figures(MEMORY_CHECKS))


def test_the_memory_holds_the_theta_of_the_skill(lineage, materialisations):
    skill, memory = (Path(materialisations[name].metadata["folder"].value) for name in ("skill", "memory"))
    assert materialisations["skill"].tags["dagster/data_version"] == checkpoint_digest(skill)
    assert (memory / "heads.safetensors").read_bytes() == (skill / "heads.safetensors").read_bytes()


# --- going on from it -----------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_go_on_from_the_newest_handles_and_repeating_a_run_replaces_its_rows(own_lineage):
    warehouse = Warehouse(own_lineage.data / "warehouse.duckdb", timeout_s=5)
    evaluated, answered = (str(uuid.UUID(int=n)) for n in (1, 2))

    def run(job, run_id, **sections):
        with dg.DagsterInstance.ephemeral() as instance:
            return execute(job, own_lineage.data, run_config=config(**sections), run_id=run_id, instance=instance)

    fewer = {"systems": ["zrag", "zrag_joint", "bm25", "gold_evidence"], "limit_questions": 5}
    for limit in (5, 4):  # the second time, the same run id
        run("evaluate", evaluated, evaluation=fewer | {"limit_questions": limit})
        expected = {(system, budget): limit for system in fewer["systems"] for budget in BUDGETS}
        assert counts(warehouse, "evidence", "run_id = ?", evaluated) == expected
        assert counts(warehouse, "scores", "run_id = ?", evaluated) == expected
        total = "run_id = ? AND question_type = 'all'"
        assert counts(warehouse, "leaderboard_entries", total, evaluated) == dict.fromkeys(expected, 1)
    for table in ("evidence", "scores"):
        where = "run_id = ?" + (" AND reader = 'none'" if table == "scores" else "")
        assert counts(warehouse, table, where, own_lineage.run_id) == EVERY, "other runs keep their rows"

    for limit in (3, 2):
        run("answers", answered, evaluation=fewer, answers={"limit_questions": limit})
        expected = {(system, budget): limit for system in fewer["systems"] for budget in ANSWER_BUDGETS}
        assert counts(warehouse, "answers", "run_id = ? AND evidence_run_id = ?", answered, evaluated) == expected
        assert counts(warehouse, "scores", "run_id = ? AND evidence_run_id = ?", answered, evaluated) == expected
    newest = warehouse.query(
        "SELECT DISTINCT run_id, reader, n_questions FROM leaderboard WHERE system = 'bm25' AND budget = 256 "
        "AND question_type = 'all' ORDER BY reader"
    )
    assert newest.to_numpy().tolist() == [[evaluated, "none", 4], [answered, "offline", 2]]


def test_a_checkpoint_of_another_corpus_is_one_clear_error(own_lineage, lineage_instance):
    other = config(corpus={"almanac": SETTINGS["corpus"]["almanac"] | {"seed": 1}})
    changed = ["preflight", "documents", "questions", "evidence_targets"]
    selection = [dg.AssetKey(name) for name in changed]
    execute("full", own_lineage.data, run_config=other, instance=lineage_instance, asset_selection=selection)
    before = counts(Warehouse(own_lineage.data / "warehouse.duckdb"), "evidence", "true")
    result = execute("evaluate", own_lineage.data, run_config=other, instance=lineage_instance, raise_on_error=False)
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert failure.step_key == "system_evidence"
    cause = failure.step_failure_data.error.cause
    assert cause.cls_name == CheckpointError.__name__
    assert "\n" not in cause.message.strip()
    old, new = (corpus_version(generate_almanac(n_documents=12, language="en", seed=n).documents) for n in (0, 1))
    assert (
        f"the checkpoint of policy separated was made from corpus {old}, the corpus is now {new} -> run the job `full`"
        in cause.message
    )
    assert counts(Warehouse(own_lineage.data / "warehouse.duckdb"), "evidence", "true") == before
