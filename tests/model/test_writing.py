import math
import random
from dataclasses import replace

import pytest
import torch
from memory_fixtures import joined, louder, slots_of

from zrag_core.corpus.self_study import self_study_queries
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.architecture.token_codec import quantise, slot_scales
from zrag_core.model.store.write import encode_documents, write_documents
from zrag_core.sentences import split_sentences


@pytest.fixture
def writing(skill_settings):
    return skill_settings.writing


@pytest.fixture
def writer(writer):
    return louder(writer)


@pytest.fixture
def long_document():
    """Six sentences: with four slots, two share each span."""
    return Document(
        "l", "Pell", " ".join(f"Pell has {n} {what}." for n, what in enumerate("ab cd ef gh ij kl".split()))
    )


def _change(settings, **values):
    return settings.model_copy(update=values)


def _of(documents, targets):
    kept = {document.id for document in documents}
    return [target for target in targets if target.document_ids[0] in kept]


def _sentences(model, documents):
    return [sentence_ids(model.backbone, document.text) for document in documents]


def _span_of(document, evidence, slots):
    """Number of the span that keeps a sentence: sentences are dealt out evenly where there are more than slots."""
    texts = [span.text for span in split_sentences(document.text)]
    return texts.index(evidence) // math.ceil(len(texts) / slots)


def _read_nll(model, z, spans, document, target):
    """Nats per token of a target's evidence, read alone from the slots of its span."""
    prefix = slots_of(z, spans, _span_of(document, target.evidence, len(z)))
    ids = [*model.backbone.encode(target.evidence), model.backbone.eos_id]
    return model.read_nll(*prefix, [model.backbone.encode(target.query)], [ids])[0]


@torch.no_grad()
def _own_loss(model, z, spans, documents, targets):
    """Evidence NLL per token of each document's targets."""
    losses = []
    for row, document in enumerate(documents):
        own = [_read_nll(model, z[row], spans[row], document, target) for target in _of([document], targets)]
        losses.append(torch.cat(own).mean())
    return torch.stack(losses)


# --- encoding -------------------------------------------------------------------------------------


def test_without_steps_writing_is_one_forward_pass(writer, documents, targets, writing):
    seen = []
    written = write_documents(
        writer, documents, targets, _change(writing, steps=0), on_progress=lambda *a: seen.append(a)
    )
    sentences = _sentences(writer, documents)
    with torch.no_grad():
        for row, document in enumerate(sentences):
            z, spans = writer.encode([document])
            assert torch.allclose(written.z[row], z[0], atol=1e-5), "rows stand in the documents' order"
            assert written.spans[row].tolist() == spans[0].tolist()
    assert written.steps.tolist() == [0] * 5
    assert written.loss.isnan().all()
    assert written.longest == max(len(joined(document)) for document in sentences)
    assert seen == [("encoded", 3, 5), ("encoded", 5, 5)]


def test_batches_do_not_change_what_the_encoder_writes(writer, documents, long_document, writing):
    sentences = _sentences(writer, [*documents, long_document])
    z, spans, seconds = encode_documents(writer, sentences, _change(writing, batch_size=99))
    single = encode_documents(writer, sentences, _change(writing, batch_size=1))
    assert torch.allclose(z, single[0], atol=1e-5)
    assert torch.equal(spans, single[1])
    assert seconds > 0


def test_documents_are_encoded_into_another_number_of_slots(writer, documents, writing):
    sentences = _sentences(writer, documents)
    for slots in (1, 2, 9):
        z, spans, _ = encode_documents(writer, sentences, writing, slots=slots)
        with torch.no_grad():
            expected = writer.encode(sentences, slots=slots)
        assert z.shape == (5, slots, 24)
        assert torch.allclose(z, expected[0], atol=1e-5)
        assert spans.tolist() == expected[1].tolist()


def test_a_long_document_is_read_to_its_end(writer, long_document, writing):
    other = replace(long_document, text=long_document.text.replace("kl.", "mn."))
    z, spans, _ = encode_documents(writer, _sentences(writer, [long_document, other]), writing)
    last = spans[0] == spans[0].max()
    assert torch.equal(spans[0], spans[1])
    assert (z[0] - z[1])[last].abs().max() > 1e-3
    assert torch.allclose(z[0][~last], z[1][~last], atol=1e-5), "slots keep what comes before them"


def test_nothing_to_write(writer, writing):
    written = write_documents(writer, [], [], writing)
    assert written.z.shape == (0, 4, 24)
    assert written.spans.shape == (0, 4)
    assert written.longest == 0


# --- refinement -----------------------------------------------------------------------------------


def test_refining_lowers_the_loss_of_every_document_and_leaves_theta_as_it_is(writer, documents, targets, writing):
    before = {name: value.clone() for name, value in writer.state_dict().items()}
    trainable = {name for name, p in writer.named_parameters() if p.requires_grad}
    seen = []
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0))
    refined = write_documents(
        writer, documents, targets, _change(writing, steps=40), on_progress=lambda *a: seen.append(a)
    )
    after = writer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name for name, p in writer.named_parameters() if p.requires_grad} == trainable
    assert all(p.grad is None for p in writer.parameters())
    assert not refined.z.requires_grad
    assert torch.equal(refined.spans, encoded.spans)
    first, last, wrong = (
        _own_loss(writer, z, spans, documents, targets)
        for z, spans in (
            (encoded.z, encoded.spans),
            (refined.z, refined.spans),
            (refined.z.roll(1, 0), refined.spans.roll(1, 0)),
        )
    )
    assert (last < 0.95 * first).all()
    assert (last < 0.97 * wrong).all(), "what was learned is in the document's own slots"
    assert refined.steps.tolist() == [40] * 5
    assert refined.loss.isfinite().all()
    assert seen[-2:] == [("refined", 3, 5), ("refined", 5, 5)]


def test_documents_are_written_independently_of_each_other(writer, documents, targets, writing):
    together = write_documents(writer, documents, targets, writing)

    def rows(*numbers, **changes):
        chosen = [documents[number] for number in numbers]
        written = write_documents(writer, chosen, _of(chosen, targets), _change(writing, **changes))
        assert torch.equal(written.spans, together.spans[list(numbers)])
        assert torch.allclose(written.z, together.z[list(numbers)], atol=1e-4)

    rows(0, 1, 2, 3, 4, batch_size=1)
    rows(0, 1, 2, 3, 4, batch_size=8)
    rows(4, 3, 2, 1, 0)
    rows(2)
    rows(2, 0)
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    assert (together.z - encoded).abs().amax((1, 2)).min() > 0.05, "far more than the tolerance above"


def test_another_seed_studies_something_else(writer, documents, targets, writing):
    first, again, other = (
        write_documents(writer, documents, targets, _change(writing, seed=seed)).z for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize("sentence", [1, 4])
def test_refinement_is_adam_on_the_evidences_span_in_directions_that_keys_do_not_see(
    writer, long_document, writing, sentence
):
    """Oracle: torch's own Adam on one document whose only study is one question."""
    document, settings = long_document, _change(writing, steps=6)
    evidence = [span.text for span in split_sentences(document.text)][sentence]
    question = EvidenceTarget("q", "What does Pell have?", (document.id,), evidence, "gold", "train")
    written = write_documents(writer, [document], [question], settings)
    start, spans = (value.detach() for value in writer.encode(_sentences(writer, [document])))
    unseen = writer.router.unseen_directions()
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=settings.lr, betas=(0.9, 0.95))
    running = None
    for step in range(6):
        optimizer.param_groups[0]["lr"] = settings.lr * (1 - step / 6)
        loss = _read_nll(writer, (start + change @ unseen)[0], spans[0], document, question).mean()
        optimizer.zero_grad()
        loss.backward(inputs=[change])
        optimizer.step()
        running = loss.item() if running is None else 0.8 * running + 0.2 * loss.item()
    exact = start + change.detach() @ unseen
    # Up to half a step of the grid that slots are stored on.
    assert torch.equal(quantise(written.z), written.z)
    assert ((written.z - exact).abs() <= slot_scales(exact) / 2 + 1e-4).all()
    assert written.loss.item() == pytest.approx(running, abs=1e-4)
    own = spans[0] == _span_of(document, evidence, 4)
    assert (written.z - start)[0][own].abs().amax(1).min() > 0.01
    assert torch.allclose(written.z[0][~own], quantise(start[0][~own]), atol=1e-6), "what was not asked for stays"


@torch.no_grad()
def test_routing_and_finding_are_the_same_after_refinement(writer, documents, targets, writing):
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0))
    refined = write_documents(writer, documents, targets, _change(writing, steps=30))
    assert (refined.z - encoded.z).norm() > 1
    texts = [target.query for target in targets]
    queries = [writer.backbone.encode(text) for text in texts]
    rows = [int(target.document_ids[0].removeprefix("d")) for target in targets]
    routing, finding = [], []
    for written in (encoded, refined):
        writer.remember(documents, written.z, written.spans)
        routing.append(writer.routing_scores(texts, queries))
        finding.append(writer.span_logits(queries, *writer.document_slots(rows)))
    # Up to what rounding slots to bytes changes.
    assert torch.allclose(*routing, atol=4e-3)
    assert torch.allclose(*finding, atol=4e-3)
    assert not torch.allclose(routing[0][0], routing[0][1], atol=0.1)
    assert (finding[0][:, 0] - finding[0][:, 1]).abs().max() > 0.1


def test_a_document_stops_when_its_loss_is_low_enough(writer, documents, targets, writing):
    whole = write_documents(writer, documents, targets, _change(writing, steps=30))
    tolerance = whole.loss.sort().values[2:4].mean().item()  # three documents get there, two do not
    stopped = write_documents(writer, documents, targets, _change(writing, steps=30, tolerance=tolerance))
    done = stopped.loss < tolerance
    assert 2 <= done.sum() <= 4
    assert (stopped.steps[done] <= 30).all()
    assert stopped.steps.min() < 30
    assert (stopped.steps[~done] == 30).all()
    # Those that went on are not disturbed by those that stopped.
    assert torch.allclose(stopped.z[~done], whole.z[~done], atol=1e-4)
    at_once = write_documents(writer, documents, targets, _change(writing, steps=30, tolerance=1e9))
    assert at_once.steps.tolist() == [1] * 5


# --- what is studied ------------------------------------------------------------------------------


def test_only_training_targets_of_one_sentence_of_one_document_are_studied(writer, documents, targets, writing):
    base = write_documents(writer, documents, targets, writing).z
    other = EvidenceTarget("o", "Where does Orla Venn live?", ("d0",), "Orla Venn keeps bees.", "gold", "train")
    others = [replace(other, split=split) for split in ("dev", "test", "new_documents", "unanswerable")]
    others += [replace(target, split="test") for target in self_study_queries(documents[0], 3, random.Random(9))]
    others += [
        replace(other, document_ids=("d0", "d2")),
        replace(other, document_ids=("elsewhere",)),
        replace(other, evidence=documents[0].text),  # both of its sentences
        replace(other, evidence="keeps bees"),
        replace(other, evidence="Nobody."),
    ]
    assert torch.equal(write_documents(writer, documents, [*targets, *others], writing).z, base)
    assert not torch.equal(write_documents(writer, documents, [*targets, other], writing).z[0], base[0])


@pytest.fixture
def seen(writer, monkeypatch):
    """(query, evidence) pairs of every step, as token ids."""
    steps, read = [], writer.read_nll

    def record(z, used, queries, targets):
        steps.append(list(zip(queries, targets, strict=True)))
        return read(z, used, queries, targets)

    monkeypatch.setattr(writer, "read_nll", record)
    return steps


@pytest.mark.parametrize(("asked_share", "expected"), [(0.0, {"study"}), (1.0, {"asked"}), (0.5, {"study", "asked"})])
def test_questions_and_self_study_are_mixed(writer, documents, targets, writing, asked_share, expected, seen):
    asked = {tuple(writer.backbone.encode(t.query)) for t in targets if t.method != "self_study"}
    write_documents(writer, documents, targets, _change(writing, asked_share=asked_share, batch_size=5))
    assert {"asked" if tuple(query) in asked else "study" for step in seen for query, _ in step} == expected
    assert [len(step) for step in seen] == [5 * writing.queries] * writing.steps


def test_a_held_out_sentence_is_never_studied(writer, documents, targets, writing, seen):
    kept = [target for target in targets if target.evidence != "Orla Venn keeps bees."]
    write_documents(writer, documents, kept, _change(writing, steps=20))
    studied = {writer.backbone.decode(evidence[:-1]) for step in seen for _, evidence in step}
    assert "Orla Venn was born in Tessamor." in studied
    assert "Orla Venn keeps bees." not in studied


def test_documents_with_nothing_to_study_keep_what_the_encoder_wrote(writer, documents, targets, writing):
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    some = [target for target in targets if target.document_ids[0] in ("d1", "d4")]
    written = write_documents(writer, documents, some, writing)
    assert written.steps.tolist() == [0, 8, 0, 0, 8]
    assert torch.equal(written.z[[0, 2, 3]], encoded[[0, 2, 3]])
    assert [math.isnan(value) for value in written.loss.tolist()] == [True, False, True, True, False]
    assert write_documents(writer, documents, [], writing).steps.sum() == 0
