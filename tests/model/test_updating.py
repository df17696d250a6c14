"""Updates of a written memory, against writing the corpus afresh."""

import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from memory_fixtures import checkpoint_of
from updating_fixtures import SETTINGS, document, make_theta, save, text_of, texts_in, update, write

from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import CheckpointError
from zrag_core.model.architecture.memory_tables import KEYS, SLOTS
from zrag_core.model.architecture.row_table import NUMBERS, SCALE
from zrag_core.model.architecture.token_codec import slot_scales
from zrag_core.model.store.checkpoint import load_checkpoint, memory_id
from zrag_core.model.store.update import CorpusChange, compare_documents, update_memory

TOLERANCE = 1e-5
"""Of a slot's numbers (which are of the order of one): a row's rounding depends on what else was in its batch."""

ROUNDS, OPERATIONS = 25, 42  # more than a thousand operations in all

REFINED = SETTINGS.model_copy(
    update={"writing": SETTINGS.writing.model_copy(update={"steps": 3, "queries": 2, "tolerance": 1e-6, "lr": 0.5})}
)


@pytest.fixture(scope="module")
def theta():
    return make_theta()


def rows(checkpoint):
    """Everything that belongs to one document, by id."""
    tables = checkpoint.model.held.tables
    return {
        document.id: [column for name, table in tables.items() for column in table.select([row]).stored(name).values()]
        for row, document in enumerate(checkpoint.documents)
    }


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def assert_equals_fresh(checkpoint, fresh):
    """All that is exact is, and z is up to rounding."""
    assert checkpoint.documents == fresh.documents
    assert torch.equal(checkpoint.origin.studied, fresh.origin.studied)
    own, expected = (memory.model.stored_memory() for memory in (checkpoint, fresh))
    assert own.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.split(".")[1] in (NUMBERS, SCALE):
            assert tensor.shape == own[name].shape
        else:
            assert torch.equal(own[name], tensor), name
    for name in (SLOTS, KEYS):
        one, other = (memory.model.held.tables[name].vectors() for memory in (checkpoint, fresh))
        # A number that lies between two steps of the grid may be rounded either way.
        off = (one - other).abs()
        assert (off <= 1.001 * slot_scales(other) + TOLERANCE).all(), name
        assert (off > TOLERANCE).sum() <= 0.01 * off.numel(), name


# --- random operations ----------------------------------------------------------------------------

operations = st.lists(
    st.tuples(st.sampled_from(["add", "update", "delete"]), st.randoms(use_true_random=False)),
    min_size=OPERATIONS,
    max_size=OPERATIONS,
)
done = {"operations": 0}


# A failure is shown as it was found: shrinking forty operations would take longer than the test may.
@settings(
    max_examples=ROUNDS,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(operations=operations, sizes=st.lists(st.integers(1, 9), min_size=OPERATIONS, max_size=OPERATIONS))
def test_any_operations_end_in_the_memory_written_afresh(theta, tmp_path_factory, operations, sizes):
    tmp_path = tmp_path_factory.mktemp("updates")
    serials = iter(range(10_000, 20_000))
    corpus = [document(n, next(serials)) for n in range(4)]
    numbers = iter(range(4, 1000))
    checkpoint = write(theta, corpus)
    ever = {sentence for d in corpus for sentence in d.text.split(". ")}
    pending, queue = list(operations), iter(sizes)
    while pending:
        size = next(queue)
        batch, pending = pending[:size], pending[size:]
        before = list(corpus)
        for kind, rng in batch:
            if kind == "add" or not corpus:
                corpus.insert(rng.randint(0, len(corpus)), document(next(numbers), next(serials)))
            elif kind == "update":
                place = rng.randrange(len(corpus))
                corpus[place] = replace(corpus[place], text=text_of(next(serials)))
            else:
                corpus.pop(rng.randrange(len(corpus)))
            done["operations"] += 1
        ever |= {sentence for d in corpus for sentence in d.text.split(". ")}
        former = rows(checkpoint)
        checkpoint, made = update(checkpoint, corpus)
        untouched = {d.id for d in before} & {d.id for d in corpus if d in before}
        assert set(made.change.unchanged) == untouched
        assert set(made.rewritten) == {d.id for d in corpus} - untouched
        now = rows(checkpoint)
        assert all(same(former[key], now[key]) for key in untouched)
    assert_equals_fresh(checkpoint, write(theta, corpus))

    folder = tmp_path / "checkpoint"
    save(checkpoint, folder)
    assert_equals_fresh(load_checkpoint(folder), write(theta, corpus))
    raw, remaining = texts_in(folder), "\n".join(d.text for d in corpus)
    gone = [sentence for sentence in ever if sentence not in remaining]
    assert not [s for s in gone if s.encode() in raw or json.dumps(s)[1:-1].encode() in raw]


def test_a_thousand_operations_were_done():
    """Of the test above, which runs first: random operations are worth their number."""
    if not done["operations"]:
        pytest.skip("the operations were not selected")
    assert done["operations"] >= 1000


# --- what is written, and what stays --------------------------------------------------------------


def test_comparison_is_by_id_and_content():
    old = [Document("a", "A", "one"), Document("b", "B", "two"), Document("c", "C", "three"), Document("d", "D", "4")]
    new = [Document("e", "E", "five"), Document("c", "C", "drei"), Document("a", "A", "one", "source", 7)]
    change = compare_documents(old, new)
    assert change == CorpusChange(added=("e",), changed=("c",), removed=("b", "d"), unchanged=("a",))
    assert (change.empty, change.share) == (False, 4 / 5)
    assert compare_documents(old, list(reversed(old))).empty
    assert compare_documents([], []).share == 0.0
    assert compare_documents(old, [replace(old[0], title="Other")]).changed == ("a",)


def test_rows_follow_the_new_order_without_being_written(theta):
    corpus = [document(n, n) for n in range(6)]
    before = write(theta, corpus)
    after, made = update(before, corpus[::-1])
    assert made.written is None
    assert made.rewritten == ()
    assert made.change.empty
    former, now = rows(before), rows(after)
    assert all(same(former[key], now[key]) for key in former)
    assert [d.id for d in before.documents] == [d.id for d in corpus], "the former memory stays as it is"
    assert torch.equal(*(memory.model.document_slots([row])[0] for memory, row in ((before, 0), (after, 5))))


def test_the_former_memory_is_left_alone(theta):
    corpus = [document(n, n) for n in range(4)]
    before = write(theta, corpus)
    tensors = {name: tensor.clone() for name, tensor in before.model.stored_memory().items()}
    after, _ = update(before, [document(9, 9), *corpus[1:]])
    assert all(torch.equal(tensors[name], tensor) for name, tensor in before.model.stored_memory().items())
    assert after.model.lm is before.model.lm, "theta is shared"


def test_from_nothing_and_to_nothing(theta):
    corpus = [document(n, n) for n in range(3)]
    empty = write(theta, [])
    assert_equals_fresh(update(empty, corpus)[0], write(theta, corpus))
    gone, made = update(write(theta, corpus), [])
    assert_equals_fresh(gone, empty)
    assert len(made.change.removed) == 3
    assert not gone.model.held.frequency.any()


def test_an_updated_memory_has_the_id_of_one_written_afresh(theta, tmp_path):
    corpus = [document(n, n) for n in range(5)]
    asked = Question("q", "Where?", ("Kell",), (corpus[0].id,), split="test")
    target = EvidenceTarget("t", "Where?", (corpus[0].id,), "In Kell.", "gold", "train")

    def identity(checkpoint, **other):
        given = {"corpus": Corpus("c", checkpoint.documents, (asked,)), "targets": [target]}
        given |= {"settings": checkpoint.settings, "writing": checkpoint.origin.writing, **other}
        return memory_id(checkpoint.origin.skill_digest, **given)

    fresh = write(theta, corpus)
    save(update(write(theta, corpus[2:]), corpus)[0], tmp_path / "c")
    loaded = load_checkpoint(tmp_path / "c")
    assert identity(loaded) == identity(fresh)
    assert identity(fresh).startswith("memory-")
    slower = SETTINGS.writing.model_copy(update={"batch_size": 1})
    assert identity(fresh, writing=slower) == identity(fresh)
    assert identity(fresh, writing=REFINED.writing) != identity(fresh)
    assert identity(fresh, targets=[]) != identity(fresh)
    assert identity(write(theta, corpus[1:])) != identity(fresh)


def test_a_checkpoint_says_with_what_it_was_written(theta, tmp_path):
    before = write(theta, [document(n, n) for n in range(3)], settings=REFINED)
    save(before, tmp_path / "c")
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.config["skill"] == {"id": "skill", "digest": "0" * 64}
    assert loaded.config["writing"]["steps"] == 3
    assert "threads" not in loaded.config["writing"]
    assert torch.equal(loaded.origin.studied, before.origin.studied)
    assert loaded.origin.skill_id == "skill"


# --- refined rows ---------------------------------------------------------------------------------


def study_of(documents):
    """A training question and a self-study sentence for each document."""
    for d in documents:
        sentence = d.text.split(". ")[0].rstrip(".") + "."
        yield EvidenceTarget(f"q-{d.id}", f"What of {d.title}?", (d.id,), sentence, "gold", "train")
        yield EvidenceTarget(f"s-{d.id}", "", (d.id,), sentence, "self_study", "train")


def test_a_changed_question_refines_its_row_anew_and_no_other(theta):
    corpus = [document(n, n) for n in range(5)]
    targets = list(study_of(corpus))
    before = write(theta, corpus, targets, REFINED)
    other = [replace(t, query="Who was it?") if t.id == f"q-{corpus[2].id}" else t for t in targets]
    after, made = update(before, corpus, other, REFINED)
    assert made.change.empty
    assert made.rewritten == (corpus[2].id,)
    assert made.written.steps.tolist() == [3]
    former, now = rows(before), rows(after)
    assert [key for key in former if not same(former[key], now[key])] == [corpus[2].id]
    assert_equals_fresh(after, write(theta, corpus, other, REFINED))


def test_questions_that_no_row_is_refined_on_change_nothing(theta):
    corpus = [document(n, n) for n in range(3)]
    targets = list(study_of(corpus))
    held_out = EvidenceTarget("h", "Secret?", (corpus[0].id,), targets[0].evidence, "gold", "test")
    nowhere = EvidenceTarget("n", "Elsewhere?", (corpus[0].id,), "This stands in no document.", "gold", "train")
    before = write(theta, corpus, targets, REFINED)
    assert update(before, corpus, [*targets, held_out, nowhere], REFINED)[1].written is None
    plain = write(theta, corpus)
    assert update(plain, corpus, targets)[1].written is None, "without steps nothing but the document matters"


def test_an_update_of_refined_rows_equals_writing_afresh(theta):
    corpus = [document(n, n) for n in range(6)]
    targets = list(study_of(corpus))
    before = write(theta, corpus[:4], targets, REFINED)
    after, made = update(before, corpus[1:], targets, REFINED)
    assert made.rewritten == (corpus[4].id, corpus[5].id)
    assert_equals_fresh(after, write(theta, corpus[1:], targets, REFINED))


# --- refusals -------------------------------------------------------------------------------------


def test_a_joint_memory_is_refused(tmp_path):
    joint = checkpoint_of("joint", tmp_path)
    with pytest.raises(CheckpointError, match="policy joint cannot be updated") as caught:
        update_memory(joint, joint.documents, (), SETTINGS.writing)
    assert "\n" not in str(caught.value)


def test_rows_of_other_settings_are_refused(theta):
    before = write(theta, [document(0, 0)])
    with pytest.raises(CheckpointError, match=r"other settings \(writing.lr, writing.queries, writing.steps"):
        update_memory(before, before.documents, (), REFINED.writing)
    with pytest.raises(CheckpointError, match="does not say with what it was written"):
        update_memory(replace(before, origin=None), before.documents, (), SETTINGS.writing)


# --- killed in the middle -------------------------------------------------------------------------

KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    import safetensors.torch
    from zrag_core import files
    from zrag_core.corpus.types import Document
    from zrag_core.model.store.checkpoint import load_checkpoint, save_checkpoint
    from zrag_core.model.store.update import update_memory

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    stage, folder = sys.argv[1], Path(sys.argv[2])
    if stage == "half a folder":
        safetensors.torch.save_file = die
    if stage == "before the swap":
        files._swap_into_place = die
    before = load_checkpoint(folder)
    documents = [Document("new", "New", "Something else."), *before.documents[1:]]
    made = update_memory(before, documents, (), before.origin.writing, on_progress=die if stage == "writing" else None)
    save_checkpoint(folder, made.model, documents, before.settings, checkpoint_id="y", metrics={}, origin=made.origin)
    print("done")
""")


@pytest.mark.parametrize("stage", ["writing", "half a folder", "before the swap"])
def test_a_killed_update_leaves_the_former_memory(theta, tmp_path, stage):
    before = write(theta, [document(n, n) for n in range(4)])
    folder = tmp_path / "checkpoint"
    save(before, folder)
    raw = texts_in(folder)
    script = [sys.executable, "-c", KILLED, stage, str(folder)]
    run = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, ""), run.stderr
    assert texts_in(folder) == raw
    loaded = load_checkpoint(folder)
    assert_equals_fresh(loaded, before)
    after, _ = update(loaded, [document(9, 9), *loaded.documents[1:]])
    save(after, folder)
    assert_equals_fresh(load_checkpoint(folder), after)
