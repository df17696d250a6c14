import math
import random
from dataclasses import replace

import pytest
import torch

from zrag_core.corpus.self_study import self_study_queries
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.writing import encode_documents, write_documents


@pytest.fixture
def writing(skill_settings):
    return skill_settings.writing


@pytest.fixture
def writer(writer):
    """Untrained, but with weights so large that slots have something to say (a new model all but ignores them)."""
    with torch.no_grad():
        writer.lm.get_input_embeddings().weight.mul_(20)
        for name, parameter in writer.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                parameter.mul_(10)
    return writer


def _change(settings, **values):
    return settings.model_copy(update=values)


def _of(documents, targets):
    kept = {document.id for document in documents}
    return [target for target in targets if target.document_ids[0] in kept]


def _own_loss(model, z, documents, targets):
    """Evidence NLL per token of each document's targets, read from its slots."""
    encode, eos = model.backbone.encode, model.backbone.eos_id
    losses = []
    with torch.no_grad():
        for row, document in enumerate(documents):
            own = [(encode(t.query), [*encode(t.evidence), eos]) for t in _of([document], targets)]
            losses.append(model.packed_read_nll(z[row : row + 1], [own])[0].mean())
    return torch.stack(losses)


def test_without_steps_writing_is_one_forward_pass(writer, documents, targets, writing):
    seen = []
    written = write_documents(
        writer, documents, targets, _change(writing, steps=0), on_progress=lambda *a: seen.append(a)
    )
    with torch.no_grad():
        for row, document in enumerate(documents):
            alone = writer.encode([writer.backbone.encode(document.text)])[0]
            assert torch.allclose(written.z[row], alone, atol=1e-5), "rows stand in the documents' order"
    assert written.steps.tolist() == [0] * 5
    assert written.loss.isnan().all()
    assert written.longest == max(len(writer.backbone.encode(document.text)) for document in documents)
    assert seen == [("encoded", 3, 5), ("encoded", 5, 5)]


def test_refining_lowers_the_loss_of_every_document_and_leaves_theta_as_it_is(writer, documents, targets, writing):
    before = {name: value.clone() for name, value in writer.state_dict().items()}
    trainable = {name for name, p in writer.named_parameters() if p.requires_grad}
    seen = []
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    refined = write_documents(
        writer, documents, targets, _change(writing, steps=40), on_progress=lambda *a: seen.append(a)
    )
    after = writer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name for name, p in writer.named_parameters() if p.requires_grad} == trainable
    assert all(p.grad is None for p in writer.parameters())
    assert not refined.z.requires_grad
    first, last, wrong = (_own_loss(writer, z, documents, targets) for z in (encoded, refined.z, refined.z.roll(1, 0)))
    assert (last < 0.95 * first).all()
    assert (last < 0.97 * wrong).all(), "what was learned is in the document's own slots"
    assert refined.steps.tolist() == [40] * 5
    assert refined.loss.isfinite().all()
    assert seen[-2:] == [("refined", 3, 5), ("refined", 5, 5)]


def test_documents_are_written_independently_of_each_other(writer, documents, targets, writing):
    together = write_documents(writer, documents, targets, writing).z
    for batch_size in (1, 8):
        again = write_documents(writer, documents, targets, _change(writing, batch_size=batch_size)).z
        assert torch.allclose(again, together, atol=1e-4)
    alone = write_documents(writer, documents[2:3], _of(documents[2:3], targets), writing).z[0]
    assert torch.allclose(alone, together[2], atol=1e-4)
    backwards = write_documents(writer, documents[::-1], targets, writing).z.flip(0)
    assert torch.allclose(backwards, together, atol=1e-4)
    with_another = write_documents(writer, [documents[2], documents[0]], targets, writing).z[0]
    assert torch.allclose(with_another, together[2], atol=1e-4)
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    assert (together - encoded).abs().amax((1, 2)).min() > 0.05, "far more than the tolerance above"


def test_another_seed_studies_something_else(writer, documents, targets, writing):
    first, again, other = (
        write_documents(writer, documents, targets, _change(writing, seed=seed)).z for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_refinement_is_adam_with_falling_rate_in_directions_that_keys_do_not_see(writer, documents, targets, writing):
    """Oracle: torch's own Adam on one document whose only study is one question."""
    document, question = documents[0], targets[0]
    settings = _change(writing, steps=6)
    written = write_documents(writer, [document], [question], settings)
    encode, eos = writer.backbone.encode, writer.backbone.eos_id
    pair = encode(question.query), [*encode(question.evidence), eos]
    start = writer.encode([encode(document.text)]).detach()
    unseen = writer.router.unseen_directions()
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=settings.lr, betas=(0.9, 0.95))
    running = None
    for step in range(6):
        optimizer.param_groups[0]["lr"] = settings.lr * (1 - step / 6)
        loss = writer.packed_read_nll(start + change @ unseen, [[pair] * settings.queries])[0].mean()
        optimizer.zero_grad()
        loss.backward(inputs=[change])
        optimizer.step()
        running = loss.item() if running is None else 0.8 * running + 0.2 * loss.item()
    assert torch.allclose(written.z, start + change.detach() @ unseen, atol=1e-4)
    assert written.loss.item() == pytest.approx(running, abs=1e-4)


@torch.no_grad()
def test_routing_is_the_same_after_refinement(writer, documents, targets, writing):
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    refined = write_documents(writer, documents, targets, _change(writing, steps=30)).z
    assert (refined - encoded).norm() > 1
    assert torch.allclose(writer.router.slot_keys(refined), writer.router.slot_keys(encoded), atol=1e-4)
    texts = [target.query for target in targets]
    queries = [writer.backbone.encode(text) for text in texts]
    scores = []
    for z in (encoded, refined):
        writer.remember(documents, z)
        scores.append(writer.routing_scores(texts, queries))
    assert torch.allclose(*scores, atol=1e-3)
    assert not torch.allclose(scores[0][0], scores[0][1], atol=0.1)


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


def test_only_training_targets_of_single_documents_are_studied(writer, documents, targets, writing):
    base = write_documents(writer, documents, targets, writing).z
    others = [
        EvidenceTarget(f"{split}{n}", "Where does Orla Venn live?", ("d0",), "Orla Venn keeps bees.", "gold", split)
        for n, split in enumerate(("dev", "test", "new_documents", "unanswerable"))
    ]
    others += [replace(target, split="test") for target in self_study_queries(documents[0], 3, random.Random(9))]
    others += [EvidenceTarget("h", "both?", ("d0", "d2"), "Two. Sentences.", "gold", "train")]
    others += [EvidenceTarget("x", "Who?", ("elsewhere",), "Nobody.", "gold", "train")]
    assert torch.equal(write_documents(writer, documents, [*targets, *others], writing).z, base)
    trained = replace(others[0], split="train")
    assert not torch.equal(write_documents(writer, documents, [*targets, trained], writing).z[0], base[0])


@pytest.mark.parametrize(("asked_share", "expected"), [(0.0, {"study"}), (1.0, {"asked"}), (0.5, {"study", "asked"})])
def test_questions_and_self_study_are_mixed(writer, documents, targets, writing, asked_share, expected, monkeypatch):
    asked = {tuple(writer.backbone.encode(t.query)) for t in targets if t.method != "self_study"}
    seen, lengths, read = set(), set(), writer.packed_read_nll

    def record(z, pairs):
        seen.update("asked" if tuple(query) in asked else "study" for own in pairs for query, _ in own)
        lengths.update(len(own) for own in pairs)
        return read(z, pairs)

    monkeypatch.setattr(writer, "packed_read_nll", record)
    write_documents(writer, documents, targets, _change(writing, asked_share=asked_share))
    assert seen == expected
    assert lengths == {writing.queries}


def test_a_held_out_sentence_is_never_studied(writer, documents, targets, writing, monkeypatch):
    kept = [target for target in targets if target.evidence != "Orla Venn keeps bees."]
    seen, read = set(), writer.packed_read_nll

    def record(z, pairs):
        seen.update(writer.backbone.decode(evidence[:-1]) for own in pairs for _, evidence in own)
        return read(z, pairs)

    monkeypatch.setattr(writer, "packed_read_nll", record)
    write_documents(writer, documents, kept, _change(writing, steps=20))
    assert "Orla Venn was born in Tessamor." in seen
    assert "Orla Venn keeps bees." not in seen


def test_documents_with_nothing_to_study_keep_what_the_encoder_wrote(writer, documents, targets, writing):
    encoded = write_documents(writer, documents, targets, _change(writing, steps=0)).z
    some = [target for target in targets if target.document_ids[0] in ("d1", "d4")]
    written = write_documents(writer, documents, some, writing)
    assert written.steps.tolist() == [0, 8, 0, 0, 8]
    assert torch.equal(written.z[[0, 2, 3]], encoded[[0, 2, 3]])
    assert [math.isnan(value) for value in written.loss.tolist()] == [True, False, True, True, False]
    assert write_documents(writer, documents, [], writing).steps.sum() == 0


def test_nothing_to_write(writer, writing):
    written = write_documents(writer, [], [], writing)
    assert written.z.shape == (0, 4, 24)
    assert written.longest == 0


def test_batches_do_not_change_what_the_encoder_writes(writer, documents, writing):
    ids = [writer.backbone.encode(document.text) for document in documents]
    whole, seconds = encode_documents(writer, ids, _change(writing, batch_size=99))
    single, _ = encode_documents(writer, ids, _change(writing, batch_size=1))
    assert torch.allclose(whole, single, atol=1e-5)
    assert seconds > 0


def test_a_long_document_is_read_to_its_end(writer, documents, writing):
    long = " ".join(document.text for document in documents)
    pair = [Document("a", "t", long), Document("b", "t", long + " The end.")]
    z, _ = encode_documents(writer, [writer.backbone.encode(document.text) for document in pair], writing)
    assert (z[0] - z[1]).abs().max() > 1e-3
