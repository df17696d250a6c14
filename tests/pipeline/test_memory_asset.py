"""The asset `memory`: what a written checkpoint depends on, where its knowledge is, and when there is none."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import torch
from pipeline_runs import SETTINGS, config, execute, rows_of
from safetensors.torch import load_file

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.read import read_corpus
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.corpus.version import corpus_version, questions_version
from zrag_core.errors import CheckpointError, CorpusError
from zrag_core.model.architecture.token_codec import slot_scales
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_core.settings import load_settings
from zrag_pipeline.defs.evaluation.systems import Artefacts, system_inputs, system_params
from zrag_pipeline.defs.memory.separated_memory import write_memory
from zrag_pipeline.platform.handles import CheckpointReference, IndexHandle, MemoryHandle
from zrag_pipeline.platform.warehouse import Warehouse

SLOTS, WIDTH = SETTINGS["separated"]["slots"], SETTINGS["separated"]["width"]


@pytest.fixture
def write(trained_skill, tmp_path, monkeypatch):
    """Writes a corpus (by default the almanac of the tiny settings) under changed settings; each in its own folder."""
    usual = read_corpus(load_settings(SETTINGS).corpus)
    skill = trained_skill.result.output_for_node("skill").skill

    def write(*, corpus=usual, extra_targets=(), own_skill=skill, **sections):
        settings = load_settings(config(**sections)["resources"]["settings"]["config"])
        data = tmp_path / f"자료 {len(list(tmp_path.iterdir()))}"
        data.mkdir()
        monkeypatch.setenv("ZRAG_DATA_DIR", str(data))
        warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
        version = corpus_version(corpus.documents)
        warehouse.save_corpus(version, corpus)
        warehouse.save_targets(
            version, [*build_targets(corpus, settings.targets, settings.corpus.seed), *extra_targets]
        )
        return write_memory(settings, warehouse, version, own_skill, lambda line: None)

    write.corpus, write.skill = usual, skill
    return write


def without(corpus: Corpus, document_id: str) -> Corpus:
    return replace(
        corpus,
        documents=tuple(d for d in corpus.documents if d.id != document_id),
        questions=tuple(q for q in corpus.questions if document_id not in q.document_ids),
    )


def assert_nearly_same(one, other):
    """That slots and spans are those of the other up to rounding, which may lead to the next step of the grid."""
    assert torch.equal(one[1], other[1])
    off = (one[0] - other[0]).abs()
    assert (off <= 1.001 * slot_scales(other[0]) + 1e-4).all()
    assert (off > 1e-4).float().mean() < 0.01


# --- what it depends on ---------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_bytes_in_any_folder(write):
    first, second = write(), write()
    assert first.checkpoint.folder != second.checkpoint.folder
    assert (first.checkpoint.checkpoint_id, first.digest) == (second.checkpoint.checkpoint_id, second.digest)


@pytest.mark.parametrize(
    "sections",
    [
        {"joint": {"slots": 2, "width": 8, "steps": 3, "query_tokens": 32, "seed": 4}},
        {"decoding": {"routed_documents": 1, "max_new_tokens": 3, "steps": 1}},
        {"evaluation": {"seed": 9, "limit_questions": 3}, "answers": {"model": "other"}, "baselines": {"rrf_k": 7}},
        {"backbone": {"tiny": {"hidden_size": 64, "layers": 1, "heads": 2, "vocabulary": 300}}},
    ],
    ids=lambda sections: "+".join(sections),
)
def test_how_it_is_read_and_what_joint_memories_are_trained_with_is_no_part_of_it(write, sections):
    made, other = write(), write(**sections)
    assert (made.checkpoint.checkpoint_id, made.digest) == (other.checkpoint.checkpoint_id, other.digest)


def test_threads_and_batches_are_no_part_of_its_name(write):
    made, other = write(), write(writing={"batch_size": 5}, backbone={"threads": 2})
    assert made.checkpoint.checkpoint_id == other.checkpoint.checkpoint_id
    assert_nearly_same(*(load_checkpoint(one.checkpoint.folder).model.document_slots() for one in (made, other)))


def test_who_writes_and_in_which_shards_is_no_part_of_its_name(write):
    made, other = write(), write(engine={"documents_per_shard": 5})
    assert made.checkpoint.checkpoint_id == other.checkpoint.checkpoint_id
    assert_nearly_same(*(load_checkpoint(one.checkpoint.folder).model.document_slots() for one in (made, other)))


@pytest.mark.timeout(240)
def test_workers_of_ray_make_the_same_checkpoint(write):
    pytest.importorskip("ray")
    shards = {"documents_per_shard": 5}
    one = write(engine=shards)
    workers = write(engine={**shards, "name": "ray", "workers": 1}, backbone={"threads": 1})
    assert (workers.checkpoint.checkpoint_id, workers.digest) == (one.checkpoint.checkpoint_id, one.digest)


@pytest.mark.parametrize(
    "sections",
    [
        {"writing": {"steps": 2}},
        {"writing": {"lr": 0.1}},
        {"writing": {"seed": 1}},
        {"writing": {"asked_share": 0.1}},
        {"targets": {"self_study_per_sentence": 0}},
    ],
    ids=str,
)
def test_other_settings_of_writing_make_another_checkpoint(write, sections):
    assert write(**sections).checkpoint.checkpoint_id != write().checkpoint.checkpoint_id


def test_another_corpus_skill_question_or_target_makes_another_checkpoint(write):
    corpus = write.corpus
    asked = next(q for q in corpus.questions if q.split == "train")
    reworded = replace(asked, question=f"{asked.question} 뭘까?")
    held = replace(asked, split="test")
    rest = tuple(q for q in corpus.questions if q.id != asked.id)
    written = EvidenceTarget("llm:1", "Who?", asked.document_ids, asked.evidence, "llm", "train")
    ids = [
        made.checkpoint.checkpoint_id
        for made in (
            write(),
            write(corpus=without(corpus, corpus.documents[3].id)),
            write(corpus=replace(corpus, questions=(reworded, *rest))),
            write(corpus=replace(corpus, questions=(held, *rest))),
            write(extra_targets=[written]),
            write(own_skill=replace(write.skill, digest="another")),
        )
    ]
    assert len(set(ids)) == len(ids)


# --- where the knowledge is -----------------------------------------------------------------------


def test_theta_is_the_skills_byte_for_byte(write):
    made, skill = write(), write.skill.folder
    theta = {
        path.relative_to(skill): path.read_bytes()
        for path in skill.rglob("*")
        if path.is_file()
        and path.name not in ("README.md", "metrics.json", "everyday.safetensors")
        and path != skill / "config.json"
    }
    # Transformers notes there that the tokenizer was loaded from a folder.
    assert theta.pop(Path("tokenizer/tokenizer_config.json"))
    assert {path.parts[0] for path in theta} == {"backbone", "tokenizer", "heads.safetensors"}
    for path, content in theta.items():
        assert (made.checkpoint.folder / path).read_bytes() == content, path
    own = {path.relative_to(made.checkpoint.folder) for path in made.checkpoint.folder.rglob("*") if path.is_file()}
    assert {path.as_posix() for path in own - set(theta)} == {
        "config.json",
        "tokenizer/tokenizer_config.json",
        "documents.jsonl",
        "memory.safetensors",
        "metrics.json",
    }


def test_writing_moves_the_slots_and_tells_what_it_took(write):
    written, encoded = write(), write(writing={"steps": 0})
    n = len(write.corpus.documents)
    assert written.shape == (n, SLOTS, WIDTH)
    checkpoints = [load_checkpoint(made.checkpoint.folder) for made in (written, encoded)]
    stored = load_file(written.checkpoint.folder / "memory.safetensors")
    slots, keys = stored["slots.numbers"].numel(), stored["keys.numbers"].numel()
    words = len(stored["title_words.word"]) + len(stored["text_words.word"])
    assert written.numbers_per_document == slots // n + (words + keys) // n
    assert keys % SETTINGS["separated"]["key_width"] == 0
    z = [checkpoint.model.document_slots()[0] for checkpoint in checkpoints]
    moved = (z[0] - z[1]).abs() / slot_scales(z[1])
    assert moved.amax((1, 2)).gt(3).all(), "every document was refined, by more than a step of the grid"
    assert written.metrics["documents"] == encoded.metrics["documents"] == n
    assert (written.metrics["refine_steps_most"], encoded.metrics["refine_steps_most"]) == (3, 0)
    assert json.loads((written.checkpoint.folder / "metrics.json").read_text()) == pytest.approx(written.metrics)
    assert written.params["skill"] == write.skill.skill_id
    assert (written.params["policy"], written.params["writing_steps"]) == ("separated", 3)


def test_a_deleted_document_leaves_the_other_rows_as_they_were(write):
    gone = write.corpus.documents[4].id
    whole, fewer = (
        load_checkpoint(made.checkpoint.folder) for made in (write(), write(corpus=without(write.corpus, gone)))
    )
    assert [d.id for d in fewer.documents] == [d.id for d in whole.documents if d.id != gone]
    kept = [row for row, document in enumerate(whole.documents) if document.id != gone]
    assert_nearly_same(fewer.model.document_slots(), whole.model.document_slots(kept))
    own, gone = rows_of(fewer), rows_of(whole)
    for document in fewer.documents:
        for name in ("title_words.word", "title_words.weight", "text_words.word", "text_words.weight"):
            assert own[document.id][name] == gone[document.id][name]
    (all_z, _), (z, _) = fewer.model.document_slots(), whole.model.document_slots([4])
    assert all_z.shape[1] == z.shape[1]
    nearest = (all_z - z).abs().amax((1, 2)).min()
    assert nearest > 1e-2, "nothing of it is left"


# --- where there is none --------------------------------------------------------------------------

WRITTEN = ["preflight", "documents", "questions", "evidence_targets", "evidence_audit", "skill", "memory"]


def test_the_policy_joint_alone_writes_no_memory(tmp_path):
    joint = config(memory={"policy": "joint"}, evaluation={"systems": ["zrag_joint", "bm25"]})
    selection = [dg.AssetKey(name) for name in WRITTEN]
    result = execute("full", tmp_path / "data", run_config=joint, asset_selection=selection)
    made = result.output_for_node("memory")
    assert (made.checkpoint, made.params) == (None, {})
    assert made.left_out == "policy joint alone: no skill is needed"
    assert made.corpus_version == result.output_for_node("evidence_targets").corpus_version
    assert not (tmp_path / "data" / "checkpoints").exists()


def test_zrag_without_its_memory_is_refused_before_anything_starts(tmp_path, capfd):
    joint = config(memory={"policy": "joint"}, evaluation={"systems": ["zrag", "zrag_joint"]})
    assert not execute("full", tmp_path / "data", run_config=joint, raise_on_error=False).success
    text = capfd.readouterr().err
    (line,) = (line for line in text.splitlines() if "evaluation.systems: " in line)
    assert "zrag read the memory of policy separated, but memory.policy is joint -> leave them out" in line
    assert "read_corpus" not in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_a_run_without_joint_systems_trains_no_joint_memory(trained_skill, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(trained_skill.data / "skills", data / "skills")
    alone = config(evaluation={"systems": ["zrag", "zrag_free", "gold_evidence"], "limit_questions": 3})
    result = execute("full", data, run_config=alone)
    made = result.output_for_node("joint_memory")
    assert made.checkpoint is None
    assert "no system of this run reads it" in made.left_out
    written = result.output_for_node("memory").checkpoint
    assert [path.name for path in (data / "checkpoints").iterdir()] == [written.checkpoint_id]
    assert (
        result.output_for_node("skill").skill.skill_id == trained_skill.result.output_for_node("skill").skill.skill_id
    )
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    found = warehouse.query("SELECT DISTINCT system, checkpoint_id FROM evidence ORDER BY system")
    own = result.output_for_node("memory").checkpoint_id
    assert dict(zip(found["system"], found["checkpoint_id"].fillna("none"), strict=True)) == {
        "zrag": own,
        "zrag_free": own,
        "gold_evidence": "none",
    }
    checked = set(warehouse.query("SELECT checkpoint_id FROM memory_checks")["checkpoint_id"])
    assert checked == {own}


@pytest.fixture
def handles(write):
    """Handles as the assets before `system_evidence` leave them, no checkpoint among them."""
    corpus = write.corpus
    version = corpus_version(corpus.documents)
    none = MemoryHandle(version, questions_version(corpus.questions), left_out="a test")
    return SimpleNamespace(corpus=corpus, none=none, index=IndexHandle(version, {}, {}))


def artefacts_of(handles, *, separated=None, joint=None, bm25=None):
    memories = {"separated": separated or handles.none, "joint": joint or handles.none}
    return Artefacts(memories, {"bm25": bm25 or handles.index, "dense": handles.index})


def with_checkpoint(handle, checkpoint_id, **fields):
    reference = CheckpointReference(checkpoint_id, Path("somewhere"), handle.corpus_version)
    return replace(handle, checkpoint=reference, left_out=None, **fields)


@pytest.mark.parametrize(
    ("system", "policy"),
    [
        ("zrag", "separated"),
        ("zrag_free", "separated"),
        ("zrag_hybrid", "separated"),
        ("zrag_full_prefix", "separated"),
        ("memorag", "separated"),
        ("zrag_joint", "joint"),
        ("zrag_joint_free", "joint"),
    ],
)
def test_a_system_without_its_checkpoint_is_one_clear_error(handles, system, policy):
    settings = load_settings({"evaluation": {"systems": ["gold_evidence", system]}})
    artefacts = artefacts_of(handles)
    with pytest.raises(CheckpointError) as caught:
        system_inputs(settings, handles.corpus, [], artefacts, SpendingLedger(0.0))
    assert f"there is no checkpoint of policy {policy}, which a system of this run reads" in str(caught.value)
    assert "\n" not in str(caught.value)
    others = load_settings({"evaluation": {"systems": ["gold_evidence"]}})
    assert system_inputs(others, handles.corpus, [], artefacts, SpendingLedger(0.0)).make("gold_evidence"), (
        "who does not read it may run"
    )


def test_a_checkpoint_of_other_questions_is_refused_where_it_is_read(handles):
    other = with_checkpoint(handles.none, "memory-1", questions_version="another")
    artefacts = artefacts_of(handles, separated=other)

    def inputs(system):
        settings = load_settings({"evaluation": {"systems": [system]}})
        return system_inputs(settings, handles.corpus, [], artefacts, SpendingLedger(0.0))

    with pytest.raises(
        CheckpointError, match="checkpoint of policy separated was made under other questions or splits"
    ):
        inputs("zrag")
    assert inputs("closed_book").make("closed_book")


def test_an_index_is_looked_at_only_where_a_system_reads_it(handles):
    stale = replace(handles.index, corpus_version="another")
    left_out = replace(handles.index, left_out="not built: no system of this run reads it")
    memories = {"separated": handles.none, "joint": handles.none}

    def inputs(system, bm25):
        settings = load_settings({"evaluation": {"systems": [system]}})
        return system_inputs(
            settings, handles.corpus, [], Artefacts(memories, {"bm25": bm25, "dense": stale}), SpendingLedger(0.0)
        )

    assert inputs("bm25", handles.index).indexes == {"bm25": {}}
    with pytest.raises(CheckpointError, match="the dense index was made from corpus another"):
        inputs("dense", handles.index)
    with pytest.raises(CheckpointError, match="there is no bm25 index, which a system of this run reads"):
        inputs("bm25", left_out)


def test_each_system_is_told_by_its_own_checkpoint(handles):
    bm25 = replace(handles.index, params={"k1": 1})
    artefacts = artefacts_of(
        handles,
        separated=with_checkpoint(handles.none, "memory-1", params={"m": 32, "skill": "s"}),
        joint=with_checkpoint(handles.none, "joint-1", params={"m": 4}),
        bm25=bm25,
    )
    settings = load_settings({"evaluation": {"systems": ["zrag_joint_free", "zrag", "bm25"]}})
    params = system_params(settings, artefacts)
    assert params == {
        "zrag_joint_free": {"m": 4, "checkpoint_id": "joint-1", "k": 4, "decode": "free"},
        "zrag": {"m": 32, "skill": "s", "checkpoint_id": "memory-1", "k": 4, "decode": "constrained"},
        "bm25": {"k1": 1},
    }


def test_what_theta_learned_is_not_written(write, tmp_path):
    """By content: another path, another id or another title in the file would hide it otherwise."""
    known = write.corpus.documents[3]
    folder = tmp_path / "skill that knows"
    shutil.copytree(write.skill.folder, folder)
    config_file = folder / "config.json"
    values = json.loads(config_file.read_text("utf-8"))
    config_file.write_text(json.dumps({**values, "seen": [known.content_hash]}), "utf-8")
    with pytest.raises(CorpusError, match="1 of the 12 documents"):
        write(own_skill=replace(write.skill, folder=folder))
    write(own_skill=replace(write.skill, folder=folder), corpus=without(write.corpus, known.id))
