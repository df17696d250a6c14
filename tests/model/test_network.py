import pytest
import torch

from zrag_core.model.joint import routing_loss
from zrag_core.model.reading import generate, route, sentence_log_likelihoods


def _queries(model, documents):
    texts = ["Where was Orla Venn born?", "How deep is it?", "서린도는 어디에 있나? 그리고 등대는 몇 개인가?"]
    return texts, [model.backbone.encode(text) for text in texts]


def _plain_log_p(model, prefix, target):
    """Log P of each target token by running the LM on one unpadded sequence, token by token."""
    embeds, total = prefix, []
    for token in target:
        out = model.lm(inputs_embeds=embeds[None]).logits[0, -1].log_softmax(-1)
        total.append(out[token])
        embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([token]))])
    return torch.stack(total)


def _plain_prompt(model, z, query):
    return torch.cat([model.slots(z[None])[0], model.backbone.embed(torch.tensor(query)), model.markers[2][None]])


@torch.no_grad()
def test_read_loss_is_the_mean_negative_log_likelihood(model, documents):
    _, queries = _queries(model, documents)
    targets = [[*model.backbone.encode(text), model.backbone.eos_id] for text in ("In Tessamor.", "Deep.", "남쪽")]
    rows = torch.tensor([0, 2, 3])
    expected = torch.cat(
        [
            _plain_log_p(model, _plain_prompt(model, model.z[row], query), target)
            for row, query, target in zip(rows, queries, targets, strict=True)
        ]
    )
    assert model.read_loss(model.z[rows], queries, targets).item() == pytest.approx(-expected.mean().item(), abs=1e-4)


@torch.no_grad()
def test_write_loss_predicts_each_token_from_the_ones_before(model):
    target = [*model.backbone.encode("Lake Munar is deep."), model.backbone.eos_id]
    prefix = model.write_prompt(model.z[2:3])[0][0]
    expected = -_plain_log_p(model, prefix, target).mean().item()
    assert model.write_loss(model.z[2:3], [target], [target]).item() == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_padding_and_company_do_not_change_routing(model, documents):
    texts, queries = _queries(model, documents)
    together = model.query_vectors(texts, queries)
    for i, (text, query) in enumerate(zip(texts, queries, strict=True)):
        alone = model.query_vectors([text], [query])
        assert torch.allclose(alone[0], together[i], atol=1e-4)


@torch.no_grad()
def test_contextual_routing_ignores_padding(model, documents):
    torch.nn.init.normal_(model.router.context.weight)
    test_padding_and_company_do_not_change_routing.__wrapped__(model, documents)


@torch.no_grad()
def test_each_query_of_a_batch_gets_its_own_documents(model, documents):
    texts = [document.title for document in documents]
    routed = route(model, texts, [model.backbone.encode(text) for text in texts], 3)
    assert routed.rows[:, 0].tolist() == list(range(len(documents)))
    assert (routed.log_p[:, 0] >= routed.log_p[:, 1]).all()


@torch.no_grad()
def test_shared_prefix_scores_equal_plain_scores(model, documents):
    query = model.backbone.encode("Where was Orla Venn born?")
    candidates = [
        [model.backbone.encode(text) for text in ("Orla Venn was born in Tessamor.", "Bees.")],
        [model.backbone.encode("He owns two parrots.")],
    ]
    rows = torch.tensor([0, 1])
    scores = sentence_log_likelihoods(model, model.z[rows], query, candidates)
    for row, sentences, found in zip(rows, candidates, scores, strict=True):
        prompt = _plain_prompt(model, model.z[row], query)
        for sentence, value in zip(sentences, found, strict=True):
            expected = _plain_log_p(model, prompt, [*sentence, model.backbone.eos_id]).mean().item()
            assert value == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_batched_generation_equals_greedy_decoding_one_by_one(model, documents):
    _, queries = _queries(model, documents)
    rows = torch.tensor([0, 2, 3])
    batched = generate(model, model.z[rows], queries, 8)
    for row, query, text in zip(rows, queries, batched, strict=True):
        embeds, ids = _plain_prompt(model, model.z[row], query), []
        for _ in range(8):
            token = int(model.lm(inputs_embeds=embeds[None]).logits[0, -1].argmax())
            if token == model.backbone.eos_id:
                break
            ids.append(token)
            embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([token]))])
        assert text == model.backbone.decode(ids)


def test_routing_loss_closed_form():
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    total = sum(torch.exp(torch.tensor([2.0, 1.0, 0.0])))
    first = -torch.log((torch.exp(torch.tensor(2.0)) + torch.exp(torch.tensor(0.0))) / total)
    second = torch.log(torch.tensor(3.0))
    assert routing_loss(scores, [(0, 2), (1,)]).item() == pytest.approx(((first + second) / 2).item(), abs=1e-6)


def test_evidence_loss_reaches_z_and_only_the_read_rows(model):
    target = [[*model.backbone.encode("Tessamor"), model.backbone.eos_id]]
    model.read_loss(model.z[[0]], [model.backbone.encode("Where?")], target).backward()
    norms = model.z.grad.flatten(1).norm(dim=1)
    assert norms[0] > 0
    assert (norms[1:] == 0).all()


def test_alpha_zero_hides_z(model):
    model.alpha = 0.0
    slots = model.slots(model.z)
    assert torch.equal(slots[0], slots[1])
