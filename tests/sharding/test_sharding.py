"""Shards: what is written and found does not depend on who goes through them, not in one bit."""

import random
import sys
from dataclasses import replace

import pytest
import sharding_fixtures
import torch
from sharding_fixtures import Both, Doubling, Killed

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.self_study import self_study_queries
from zrag_core.errors import CorpusError, SettingsError, ZragError
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import load_checkpoint, save_checkpoint
from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.model.store.write import write_documents
from zrag_core.settings import DecodingSettings, EngineSettings, WritingSettings
from zrag_core.sharding.corpus_writing import DocumentWriter, WritingRecipe, document_shards, write_corpus
from zrag_core.sharding.engine import LocalEngine
from zrag_core.sharding.engine_choice import open_engine
from zrag_core.sharding.question_reading import ReadingRecipe, ShardedSystem
from zrag_core.sharding.shards import cut

CORPUS = generate_almanac(20, "en", seed=5)
DOCUMENTS, QUESTIONS = CORPUS.documents, CORPUS.questions[:20]
TARGETS = [target for document in DOCUMENTS for target in self_study_queries(document, 1, random.Random(0))]
SHARDS = document_shards(DOCUMENTS, TARGETS, 6)
WRITING = WritingSettings(steps=2, queries=2, batch_size=8)
DECODING = DecodingSettings(batch_size=4, max_new_tokens=8)
RECIPE = WritingRecipe(shipped_skill(), "cpu", 1, WRITING)


@pytest.fixture(scope="module")
def ray_workers():
    """Two workers of a local Ray cluster."""
    pytest.importorskip("ray")
    with open_engine(EngineSettings(name="ray", workers=2), 1) as engine:
        import ray

        # Workers do not look for modules where the tests lie.
        ray.cloudpickle.register_pickle_by_value(sharding_fixtures)
        yield engine
    assert not ray.is_initialized(), "a cluster that is started here is stopped"


@pytest.fixture(scope="module")
def skill():
    return load_skill(shipped_skill(), device="cpu")


@pytest.fixture(scope="module")
def rows(skill):
    """What one process writes."""
    torch.set_num_threads(1)
    return write_corpus(LocalEngine(), RECIPE, SHARDS, own=DocumentWriter(skill.model, WRITING))


@pytest.fixture(scope="module")
def checkpoint(skill, rows, tmp_path_factory):
    model = skill.model.with_same_theta()
    model.hold(rows.tables, rows.frequency)
    folder = tmp_path_factory.mktemp("sharded") / "memory-0"
    save_checkpoint(folder, model, DOCUMENTS, skill.settings, checkpoint_id=folder.name, metrics={})
    return folder


def assert_same_rows(one, other):
    assert one.tables.keys() == other.tables.keys()
    for name, table in one.tables.items():
        assert torch.equal(table.counts, other.tables[name].counts), name
        for column, values in table.columns.items():
            assert torch.equal(values, other.tables[name].columns[column]), f"{name}.{column}"
    assert torch.equal(one.frequency, other.frequency)
    assert one.frequency.dtype == other.frequency.dtype == torch.int32
    assert torch.equal(one.steps, other.steps)
    assert torch.equal(one.loss.nan_to_num(-1), other.loss.nan_to_num(-1))
    assert (one.longest, one.studied) == (other.longest, other.studied)


def timeless(found):
    return [replace(item, latency_ms=0.0) for item in found]


# --- shards -----------------------------------------------------------------------------------------


def test_shards_are_neighbours_and_nothing_is_one_empty_shard():
    assert cut([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert cut([], 2) == [[]]


def test_a_shard_has_the_targets_of_its_own_documents():
    assert [len(shard.documents) for shard in SHARDS] == [6, 6, 6, 2]
    assert [shard.start for shard in SHARDS] == [0, 6, 12, 18]
    assert [target for shard in SHARDS for target in shard.targets] == TARGETS
    two = replace(TARGETS[0], document_ids=(DOCUMENTS[0].id, DOCUMENTS[1].id))
    elsewhere = replace(TARGETS[0], document_ids=("unknown",))
    assert document_shards(DOCUMENTS, [two, elsewhere], 8)[0].targets == []


# --- one process ------------------------------------------------------------------------------------


def test_one_shard_is_what_is_written_without_shards(skill):
    documents, targets = DOCUMENTS[:6], list(SHARDS[0].targets)
    written = write_documents(skill.model, documents, targets, WRITING)
    whole = skill.model.with_same_theta()
    whole.remember(documents, written.z, written.spans)
    made = write_corpus(
        LocalEngine(), RECIPE, document_shards(documents, targets, 512), own=DocumentWriter(skill.model, WRITING)
    )
    sharded = skill.model.with_same_theta()
    sharded.hold(made.tables, made.frequency)
    stored, expected = sharded.stored_memory(), whole.stored_memory()
    assert stored.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in stored.items())
    assert made.studied == written.studied


def test_a_corpus_without_documents_is_an_empty_memory(skill):
    made = write_corpus(LocalEngine(), RECIPE, document_shards([], [], 8), own=DocumentWriter(skill.model, WRITING))
    assert all(len(table) == 0 for table in made.tables.values())
    assert not made.frequency.any()
    assert made.longest == 0


def test_progress_counts_documents_of_the_corpus(skill):
    lines, done = [], []
    writer = DocumentWriter(skill.model, WRITING.model_copy(update={"steps": 0}), lambda *line: lines.append(line))
    write_corpus(LocalEngine(), RECIPE, SHARDS, own=writer, on_done=done.append)
    assert lines == [("encoded", n, 20) for n in (6, 12, 18, 20)]
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize("free", [False, True], ids=["verbatim", "free"])
def test_shards_of_questions_find_what_asking_all_at_once_finds(checkpoint, free):
    system = create_system("zrag", load_checkpoint(checkpoint, device="cpu"), DECODING, free=free, threads=1)
    asked = []
    recipe = ReadingRecipe("zrag", checkpoint, "cpu", DECODING, free, 1)
    sharded = ShardedSystem(recipe, LocalEngine(), 6, on_done=lambda *line: asked.append(line))
    assert timeless(sharded.retrieve(QUESTIONS)) == timeless(system.retrieve(QUESTIONS))
    assert asked == [(8, 20), (16, 20), (20, 20)]
    assert sharded.retrieve([]) == []


# --- workers ----------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_two_workers_write_the_rows_of_one_process(ray_workers, rows):
    done = []
    assert_same_rows(write_corpus(ray_workers, RECIPE, SHARDS, on_done=done.append), rows)
    assert done == [1, 2, 3, 4]


@pytest.mark.timeout(240)
def test_a_killed_worker_changes_nothing(ray_workers, rows, tmp_path):
    recipe = Killed(RECIPE, SHARDS[2], tmp_path / "killed")
    assert_same_rows(write_corpus(ray_workers, recipe, SHARDS), rows)
    assert recipe.trace.exists(), "nobody was killed"


@pytest.mark.timeout(240)
def test_two_workers_find_what_one_process_finds(ray_workers, checkpoint):
    recipe = Both(*(ReadingRecipe("zrag", checkpoint, "cpu", DECODING, free, 1) for free in (False, True)))
    one, two = (engine.run(recipe, cut(QUESTIONS, 4)) for engine in (LocalEngine(), ray_workers))
    for expected, found in zip(one, two, strict=True):
        assert [timeless(part) for part in found] == [timeless(part) for part in expected]
    assert any(item.segments for verbatim, _ in two for item in verbatim)
    assert any(item.text for _, free in two for item in free)


def test_results_come_in_order_from_several_processes(ray_workers):
    made = ray_workers.run(Doubling(), list(range(30)))
    assert [double for double, _ in made] == list(range(0, 60, 2))
    assert len({process for _, process in made}) == 2


def test_what_a_worker_raises_is_the_same_error_here(ray_workers):
    with pytest.raises(CorpusError, match=r"numbers\.jsonl:3: no such number -> give another one"):
        ray_workers.run(Doubling(bad=2), [1, 2, 3])


def test_an_error_that_nobody_foresaw_is_one_line(ray_workers, tmp_path):
    recipe = Killed(Doubling(), 2, tmp_path / "no folder" / "killed")
    with pytest.raises(ZragError, match=r"^engine\.name: a worker failed \(FileNotFoundError: .*killed.*\) -> "):
        ray_workers.run(recipe, [1, 2, 3])


def test_a_shard_that_kills_every_worker_is_told(ray_workers, tmp_path):
    trace = tmp_path / "killed"
    with pytest.raises(ZragError, match=r"shard 1 has killed its worker 4 times -> give the workers more memory"):
        ray_workers.run(Killed(Doubling(), 2, trace, times=100), [1, 2, 3])
    assert len(trace.read_text().splitlines()) == 4


def test_more_workers_than_the_cluster_has_cpus_are_refused(ray_workers):
    with (
        pytest.raises(SettingsError, match=r"engine\.workers: 2 workers of 4 threads each need 8 CPUs, .* has 2 -> "),
        open_engine(EngineSettings(name="ray", workers=2), 4),
    ):
        pass
    assert ray_workers.run(Doubling(), [1])[0][0] == 2, "a cluster that was there before stays"


def test_without_ray_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(SettingsError, match=r"engine\.name: ray is not installed -> pip install 'zrag\[ray\]'"),
        open_engine(EngineSettings(name="ray"), 1),
    ):
        pass
