import pytest
import torch

from zrag_core.corpus.types import Document
from zrag_core.model.joint import routing_loss
from zrag_core.model.network import EVIDENCE, WRITE, MemoryModel
from zrag_core.model.reading import generate, read_sentences, reconstruct, route


@pytest.fixture(params=["joint", "separated"])
def either(request):
    """A model of each policy with every document in its memory; its reading has to follow its own positions."""
    model = request.getfixturevalue("model" if request.param == "joint" else "remembering")
    with torch.no_grad():  # a new model hardly attends to anything; positions must matter
        for name, parameter in model.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                parameter.mul_(5)
    return model


def _queries(model):
    texts = ["Where was Orla Venn born?", "How deep is it?", "서린도는 어디에 있나? 그리고 등대는 몇 개인가?"]
    return texts, [model.backbone.encode(text) for text in texts]


def _slot_places(model):
    """Slots stand side by side under `joint`, and as far apart as they were written under `separated`."""
    step = model.settings.stride if model.settings.policy == "separated" else 1
    return [slot * step for slot in range(model.settings.slots)], model.settings.slots * step


def _read_prompt(model, z, query):
    """Prompt of one query, without padding: embeddings and positions."""
    places, behind = _slot_places(model)
    parts = [model.slots(z[None])[0], model.backbone.embed(torch.tensor(query)), model.markers[EVIDENCE][None]]
    return torch.cat(parts), places + list(range(behind, behind + len(query) + 1))


def _write_prompt(model, z):
    """Under `separated` the text stands beside its slots, under `joint` behind them."""
    places, behind = _slot_places(model)
    start = 0 if model.settings.policy == "separated" else behind
    return torch.cat([model.slots(z[None])[0], model.markers[WRITE][None]]), [*places, start]


def _logits(model, embeds, places):
    return model.lm(inputs_embeds=embeds[None], position_ids=torch.tensor([places])).logits[0, -1]


def _plain_log_p(model, prompt, target, inputs=None):
    """Log P of each target token by running the LM on one unpadded sequence, token by token."""
    embeds, places = prompt
    total = []
    for token, shown in zip(target, inputs or target, strict=True):
        total.append(_logits(model, embeds, places).log_softmax(-1)[token])
        embeds, places = torch.cat([embeds, model.backbone.embed(torch.tensor([shown]))]), [*places, places[-1] + 1]
    return torch.stack(total)


def _greedy(model, prompt, limit):
    embeds, places = prompt
    ids = []
    for _ in range(limit):
        token = int(_logits(model, embeds, places).argmax())
        if token == model.backbone.eos_id:
            break
        ids.append(token)
        embeds, places = torch.cat([embeds, model.backbone.embed(torch.tensor([token]))]), [*places, places[-1] + 1]
    return model.backbone.decode(ids)


@torch.no_grad()
def test_read_loss_is_the_mean_negative_log_likelihood(either):
    _, queries = _queries(either)
    targets = [[*either.backbone.encode(text), either.backbone.eos_id] for text in ("In Tessamor.", "Deep.", "남쪽")]
    rows = torch.tensor([0, 2, 3])
    expected = torch.cat(
        [
            _plain_log_p(either, _read_prompt(either, either.z[row], query), target)
            for row, query, target in zip(rows, queries, targets, strict=True)
        ]
    )
    assert either.read_loss(either.z[rows], queries, targets).item() == pytest.approx(-expected.mean().item(), abs=1e-4)


@torch.no_grad()
def test_write_loss_predicts_each_token_from_the_ones_before(either):
    texts = ["Lake Munar is deep.", "서린도는 섬이다. Orla Venn keeps bees."]
    targets = [[*either.backbone.encode(text), either.backbone.eos_id] for text in texts]
    masked = [[either.backbone.mask_id if n % 3 else token for n, token in enumerate(target)] for target in targets]
    rows = torch.tensor([2, 3])
    expected = torch.cat(
        [
            _plain_log_p(either, _write_prompt(either, either.z[row]), target, shown)
            for row, target, shown in zip(rows, targets, masked, strict=True)
        ]
    )
    loss = either.write_loss(either.z[rows], masked, targets).item()
    assert loss == pytest.approx(-expected.mean().item(), abs=1e-4)


@torch.no_grad()
def test_prompts_are_padded_between_slots_and_query(either):
    _, queries = _queries(either)
    embeds, mask, places = either.prompt(either.z[:3], queries)
    assert embeds.shape[:2] == mask.shape == places.shape
    for row, query in enumerate(queries):
        real = mask[row].bool()
        expected, own = _read_prompt(either, either.z[row], query)
        assert torch.allclose(embeds[row][real], expected, atol=1e-6)
        assert places[row][real].tolist() == own
        assert real[: either.settings.slots].all()
        assert real[-len(query) - 1 :].all()
        assert real.sum() == either.settings.slots + len(query) + 1


@torch.no_grad()
def test_padding_and_company_do_not_change_routing(either):
    if either.settings.policy == "joint":
        torch.nn.init.normal_(either.router.context.weight)  # zero at the start
    texts, queries = _queries(either)
    together = either.routing_scores(texts, queries)
    assert together.shape == (3, 5 if either.settings.policy == "joint" else 6)
    for i, (text, query) in enumerate(zip(texts, queries, strict=True)):
        alone = either.routing_scores([text], [query])
        assert torch.allclose(alone[0], together[i], atol=1e-3)


@torch.no_grad()
def test_each_query_of_a_batch_gets_its_own_documents(either, documents):
    if either.settings.policy == "separated":
        either.router.log_scale[:2] = 3.0  # words decide, as after training
    texts = [document.title for document in documents]
    routed = route(either, texts, [either.backbone.encode(text) for text in texts], 3)
    assert routed.rows.shape == (5, 3)
    assert routed.rows[:, 0].tolist() == list(range(len(documents)))
    assert (routed.log_p[:, 0] >= routed.log_p[:, 1]).all()
    scores = either.routing_scores(texts, [either.backbone.encode(text) for text in texts]).softmax(-1)
    assert torch.allclose(routed.log_p.exp(), scores[:, :5].gather(1, routed.rows), atol=1e-5)
    null = scores[:, 5] if either.settings.policy == "separated" else torch.zeros(5)
    assert torch.allclose(routed.null_p, null, atol=1e-6)
    assert route(either, texts[:1], [either.backbone.encode(texts[0])], 99).rows.shape == (1, 5)


@torch.no_grad()
def test_shared_prefix_scores_equal_plain_scores(either):
    queries = [either.backbone.encode(text) for text in ("Where was Orla Venn born? In Tessamor?", "Who?")]
    candidates = [
        [either.backbone.encode(text) for text in ("Orla Venn was born in Tessamor.", "Bees.")],
        [either.backbone.encode("He owns two parrots.")],
    ]
    rows, eos = torch.tensor([0, 1]), either.backbone.eos_id
    answers, scores = read_sentences(either, either.z[rows], queries, candidates)
    for row, query, sentences, found, answer in zip(rows, queries, candidates, scores, answers, strict=True):
        prompt = _read_prompt(either, either.z[row], query)
        for sentence, value in zip(sentences, found, strict=True):
            expected = _plain_log_p(either, prompt, [*sentence, eos]).mean().item()
            assert value == pytest.approx(expected, abs=1e-4)
        empty = _plain_log_p(either, prompt, [eos]).exp()
        assert answer.item() == pytest.approx(torch.log(1 - empty).item(), abs=1e-4)


@torch.no_grad()
def test_batched_generation_equals_greedy_decoding_one_by_one(either):
    _, queries = _queries(either)
    rows = torch.tensor([0, 2, 3])
    batched = generate(either, either.z[rows], queries, 8)
    assert batched == [
        _greedy(either, _read_prompt(either, either.z[row], query), 8) for row, query in zip(rows, queries, strict=True)
    ]
    rebuilt = reconstruct(either, either.z[rows], 8)
    assert rebuilt == [_greedy(either, _write_prompt(either, either.z[row]), 8) for row in rows]


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


def test_alpha_zero_hides_z(either):
    assert not torch.equal(*either.slots(either.z[:2]))
    either.alpha = 0.0
    assert torch.equal(*either.slots(either.z[:2]))


@torch.no_grad()
def test_slots_are_read_by_direction_and_not_by_length(either):
    assert torch.allclose(either.slots(either.z), either.slots(7 * either.z), atol=1e-5)


@torch.no_grad()
def test_remembering_another_corpus_replaces_the_memory_as_a_whole(remembering, documents):
    texts = ["Where was Orla Venn born?"]
    queries = [remembering.backbone.encode(texts[0])]
    before = remembering.routing_scores(texts, queries)
    z, theta = remembering.z.clone(), {n: v.clone() for n, v in remembering.head_state().items()}
    new = Document("n", "New Place", "New Place lies by a river.")
    remembering.remember([*documents, new], torch.cat([z, z[:1]]))
    assert remembering.routing_scores(texts, queries).shape == (1, 7)
    remembering.remember(documents, z)
    assert torch.equal(remembering.routing_scores(texts, queries), before)
    assert all(torch.equal(theta[name], value) for name, value in remembering.head_state().items())
    remembering.remember(documents[::-1], z.flip(0))
    assert torch.allclose(remembering.routing_scores(texts, queries)[0, :5].flip(0), before[0, :5], atol=1e-4)


def test_the_state_of_the_heads_holds_nothing_of_a_document(either):
    heads = set(either.head_state())
    memory = {name for name, _ in either.named_memory()}
    assert memory == ({"z"} if either.settings.policy == "joint" else {"z", "lexical", "frequency"})
    everything = {name for name in either.state_dict() if not name.startswith("lm.")}
    assert heads | {"z", "lexical", "frequency"} == everything
    assert not heads & {"z", "lexical", "frequency"}


def test_a_new_separated_model_reads_back_along_the_directions_it_writes(writer):
    assert torch.nn.functional.cosine_similarity(
        writer.projection.weight.flatten(), writer.encoder.down.weight.T.flatten(), dim=0
    ).item() == pytest.approx(1.0, abs=1e-5)
    trained = {id(p) for p in [*writer.backbone.trainable(), *writer.head_parameters()]}
    assert trained == {id(p) for name, p in writer.named_parameters() if name != "z"}


def test_both_policies_of_one_backbone(backbone, settings, skill_settings):
    joint = MemoryModel(backbone, settings.memory, 3)
    separated = MemoryModel(backbone, skill_settings.memory, 3)
    assert joint.encoder is None
    assert separated.encoder is not None
    assert joint.z.shape == (3, 2, 64)
    assert separated.z.shape == (3, 4, 24)
