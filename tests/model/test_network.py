import pytest
import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture import backbone as backbone_module
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import UNUSED, plan_spans
from zrag_core.model.architecture.joint_memory import JointMemory
from zrag_core.model.architecture.network import EVIDENCE, ROUTE, WRITE
from zrag_core.model.architecture.separated_memory import ORIGIN, SeparatedMemory
from zrag_core.model.architecture.spans import sentence_ids, span_slots, whole_document
from zrag_core.model.architecture.token_codec import quantise
from zrag_core.model.inference import decoder as reading
from zrag_core.model.inference.decoder import generate, reconstruct, sentence_likelihoods
from zrag_core.model.inference.routing import route
from zrag_core.model.inference.sentence_store import SentenceStore
from zrag_core.model.inference.separated_system import span_probabilities
from zrag_core.model.training.joint_training import routing_nll

TEXTS = ["Where was Orla Venn born?", "How deep is it?", "서린도는 어디에 있나? 그리고 등대는 몇 개인가?"]
# Spans of different sizes: what is read is padded.
SPANS = [[0, 0, 0, 1], [0, 1, 1, 2], [0, 0, UNUSED, UNUSED]]
WANTED = [0, 2, 0]


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
    return TEXTS, [model.backbone.encode(text) for text in TEXTS]


def _targets(model, *texts):
    return [[*model.backbone.encode(text), model.backbone.eos_id] for text in texts]


def _slots_to_read(model):
    """What three queries read, as (z, used), and the slots of each of them without padding."""
    z = torch.randn(3, model.settings.slots, model.settings.width, generator=torch.Generator().manual_seed(3))
    if model.policy == "joint":
        return whole_document(z), list(z)
    spans = torch.tensor(SPANS)
    chosen, used = span_slots(z, spans, WANTED)
    own = [z[row, spans[row] == span] for row, span in enumerate(WANTED)]
    # Padding must not matter, whatever it holds.
    return (chosen.masked_fill(~used[..., None], 7.0), used), own


def _some(prefix, rows):
    z, used = prefix
    return z[rows], used[rows]


def _slot_places(model, n, distance=None):
    """Slots stand side by side under `joint`; under `separated`, as far apart as they were written, from ORIGIN on."""
    if model.policy == "joint":
        return list(range(n))
    return [ORIGIN + slot * (distance or model.settings.stride) for slot in range(n)]


def _places_behind(model, n, length):
    """Of `length` tokens after n slots: under `separated` they end before ORIGIN, where the evidence starts."""
    start = n if model.policy == "joint" else ORIGIN - length
    return list(range(start, start + length))


def _read_prompt(model, own, query, distance=None):
    """Prompt of one query, without padding: embeddings and positions."""
    parts = [model.slots(own[None])[0], model.backbone.embed(torch.tensor(query)), model.markers[EVIDENCE][None]]
    n = len(own)
    return torch.cat(parts), _slot_places(model, n, distance) + _places_behind(model, n, len(query) + 1)


def _write_prompt(model, own, distance=None):
    n = len(own)
    embeds = torch.cat([model.slots(own[None])[0], model.markers[WRITE][None]])
    return embeds, _slot_places(model, n, distance) + _places_behind(model, n, 1)


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
def test_prompts_are_padded_between_slots_and_query(either):
    _, queries = _queries(either)
    prefix, own = _slots_to_read(either)
    embeds, mask, places = either.prompt(*prefix, queries)
    assert embeds.shape[:2] == mask.shape == places.shape
    for row, query in enumerate(queries):
        real = mask[row].bool()
        expected, positions = _read_prompt(either, own[row], query)
        assert torch.allclose(embeds[row][real], expected, atol=1e-6)
        assert places[row][real].tolist() == positions
        assert real[: len(own[row])].all()
        assert real[-len(query) - 1 :].all()


@torch.no_grad()
def test_writing_prompts_hold_the_slots_and_a_marker(either):
    prefix, own = _slots_to_read(either)
    embeds, mask, places = either.write_prompt(*prefix)
    assert embeds.shape[:2] == mask.shape == places.shape
    for row, slots in enumerate(own):
        real = mask[row].bool()
        expected, positions = _write_prompt(either, slots)
        assert torch.allclose(embeds[row][real], expected, atol=1e-6)
        assert places[row][real].tolist() == positions


@torch.no_grad()
def test_evidence_stands_beside_the_slots_that_keep_it(remembering):
    """Slot j keeps tokens j * stride to (j + 1) * stride of its span, and stands at the first of them."""
    _, queries = _queries(remembering)
    prefix, own = _slots_to_read(remembering)
    for _, _, places in (remembering.prompt(*prefix, queries), remembering.write_prompt(*prefix)):
        first = places[:, -1] + 1  # what is written goes on behind the prompt
        for row, slots in enumerate(own):
            assert (places[row, : len(slots)] - first[row]).tolist() == [4 * slot for slot in range(len(slots))]
    # In training slots may hold fewer tokens.
    _, _, places = remembering.prompt(*prefix, queries, 3)
    assert places[0, :3].tolist() == [ORIGIN, ORIGIN + 3, ORIGIN + 6]


@torch.no_grad()
@pytest.mark.parametrize("rows", [[0, 1, 2], [2], [1, 0]])
def test_read_nll_is_that_of_each_query_read_by_itself(either, rows):
    _, queries = _queries(either)
    targets = _targets(either, "In Tessamor.", "", "남쪽 바다에 있는 섬")
    prefix, own = _slots_to_read(either)
    asked, wanted = [queries[row] for row in rows], [targets[row] for row in rows]
    nll, owner = either.read_nll(*_some(prefix, rows), asked, wanted)
    expected = [_plain_log_p(either, _read_prompt(either, own[row], queries[row]), targets[row]) for row in rows]
    assert torch.allclose(nll, -torch.cat(expected), atol=1e-4)
    assert owner.tolist() == [number for number, target in enumerate(wanted) for _ in target]


@torch.no_grad()
@pytest.mark.parametrize("rows", [[0, 1, 2], [2], [1, 0]])
def test_write_nll_predicts_each_token_from_the_ones_before(either, rows):
    targets = _targets(either, "Lake Munar is deep.", "서린도는 섬이다. Orla Venn keeps bees.", "Bees.")
    masked = [[either.backbone.mask_id if n % 3 else token for n, token in enumerate(target)] for target in targets]
    prefix, own = _slots_to_read(either)
    shown, wanted = [masked[row] for row in rows], [targets[row] for row in rows]
    nll, owner = either.write_nll(*_some(prefix, rows), shown, wanted)
    expected = [_plain_log_p(either, _write_prompt(either, own[row]), targets[row], masked[row]) for row in rows]
    assert torch.allclose(nll, -torch.cat(expected), atol=1e-4)
    assert owner.tolist() == [number for number, target in enumerate(wanted) for _ in target]


@torch.no_grad()
@pytest.mark.parametrize("either", ["separated"], indirect=True)
def test_slots_may_stand_closer_in_training(either):
    _, queries = _queries(either)
    targets = _targets(either, "In Tessamor.", "Deep.", "남쪽")
    prefix, own = _slots_to_read(either)
    for distance in (None, 1, 3):
        read, _ = either.read_nll(*prefix, queries, targets, distance)
        written, _ = either.write_nll(*prefix, targets, targets, distance)
        asked = [_read_prompt(either, slots, query, distance) for slots, query in zip(own, queries, strict=True)]
        told = [_write_prompt(either, slots, distance) for slots in own]
        for nll, prompts in ((read, asked), (written, told)):
            expected = [_plain_log_p(either, *pair) for pair in zip(prompts, targets, strict=True)]
            assert torch.allclose(nll, -torch.cat(expected), atol=1e-4)
    own_distance, _ = either.read_nll(*prefix, queries, targets)
    assert not torch.allclose(read, own_distance, atol=1e-3), "else a distance that is ignored would pass"


@torch.no_grad()
def test_logits_are_made_a_few_positions_at_a_time(either, monkeypatch):
    _, queries = _queries(either)
    targets = _targets(either, "In Tessamor.", "Deep.", "남쪽")
    prefix, _ = _slots_to_read(either)
    whole, _ = either.read_nll(*prefix, queries, targets)
    monkeypatch.setattr(backbone_module, "_POSITIONS", 3)
    assert torch.allclose(either.read_nll(*prefix, queries, targets)[0], whole, atol=1e-5)


def test_evidence_loss_reaches_the_slots_that_are_read_and_no_others(either):
    z, spans = either.document_slots()
    z = z.detach().clone().requires_grad_(True)
    rows, wanted = [0, 3], [1, 0]
    if either.policy == "joint":
        prefix, read = whole_document(z[rows]), torch.ones(2, z.shape[1], dtype=torch.bool)
    else:
        prefix = span_slots(z[rows], spans[rows], wanted)
        read = spans[rows] == torch.tensor(wanted)[:, None]
        assert 0 < read.sum() < read.numel()
    either.read_nll(*prefix, _queries(either)[1][:2], _targets(either, "Tessamor", "Bees."))[0].sum().backward()
    expected = torch.zeros(z.shape[:2], dtype=torch.bool)
    expected[rows] = read
    assert torch.equal(z.grad.abs().sum(-1) > 0, expected)


@torch.no_grad()
def test_sentence_scores_are_mean_log_probabilities_with_the_end(either, monkeypatch):
    _, queries = _queries(either)
    sentences = [either.backbone.encode(text) for text in ("Orla Venn was born in Tessamor.", "", "He owns parrots.")]
    prefix, own = _slots_to_read(either)
    # Sentences and slots in another order, so that what is sorted for a batch has to be put back.
    order = [0, 1, 2, 2, 0]
    asked = [queries[row] for row in order]
    told = [sentences[row] for row in (0, 2, 1, 0, 1)]
    expected = [
        _plain_log_p(either, _read_prompt(either, own[row], query), [*sentence, either.backbone.eos_id]).mean()
        for row, query, sentence in zip(order, asked, told, strict=True)
    ]
    for sequences in (256, 2):
        monkeypatch.setattr(reading, "_SEQUENCES", sequences)
        scores = sentence_likelihoods(either, *_some(prefix, order), asked, told)
        assert torch.allclose(scores, torch.stack(expected), atol=1e-4)
    assert sentence_likelihoods(either, *_some(prefix, []), [], []).shape == (0,)


@torch.no_grad()
def test_batched_generation_equals_greedy_decoding_one_by_one(either):
    _, queries = _queries(either)
    prefix, own = _slots_to_read(either)
    prompts = [_read_prompt(either, slots, query) for slots, query in zip(own, queries, strict=True)]
    assert generate(either, *prefix, queries, 8) == [_greedy(either, prompt, 8) for prompt in prompts]


@torch.no_grad()
def test_evidence_can_be_kept_from_being_empty(either, monkeypatch):
    _, queries = _queries(either)
    prefix, own = _slots_to_read(either)
    first, second = _logits(either, *_read_prompt(either, own[0], queries[0])).topk(2).indices.tolist()
    # What the model would say first ends the text from here on (and is no special token, so that it is shown).
    monkeypatch.setattr(Backbone, "eos_id", first)
    arguments = either, *_some(prefix, [0]), queries[:1]
    assert generate(*arguments, 8) == [either.backbone.decode([first])]
    (text,) = generate(*arguments, 1, min_new_tokens=1)
    assert text == either.backbone.decode([second])


@torch.no_grad()
def test_a_document_is_rebuilt_span_by_span(either):
    z, spans = (own[0] for own in either.document_slots([2]))
    numbers = spans.unique().tolist()
    assert numbers == ([0] if either.policy == "joint" else [0, 1])
    expected = " ".join(_greedy(either, _write_prompt(either, z[spans == number]), 8) for number in numbers)
    assert reconstruct(either, z, spans, 8) == expected


@torch.no_grad()
def test_nothing_is_rebuilt_of_a_document_without_text(writer):
    z, spans = writer.encode([[]])
    assert reconstruct(writer, z[0], spans[0], 8) == ""


@torch.no_grad()
@pytest.mark.parametrize("either", ["separated"], indirect=True)
def test_spans_are_found_with_the_states_of_the_question_behind_its_marker(either):
    _, queries = _queries(either)
    memory = either.document_slots([0, 2, 3])
    together = either.span_logits(queries, *memory)
    assert together.shape == (3, memory[0].shape[1] + 1)
    for i, query in enumerate(queries):
        embeds = torch.cat([either.markers[ROUTE][None], either.backbone.embed(torch.tensor(query))])
        states = either.lm.base_model(inputs_embeds=embeds[None]).last_hidden_state[:, 1:]
        document = memory[0][i : i + 1], memory[1][i : i + 1]
        expected = either.router.span_logits(states, torch.ones(1, len(query)), *document)
        assert torch.allclose(together[i : i + 1], expected, atol=1e-4)
        assert torch.allclose(either.span_logits([query], *document), expected, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("null_span", [-25.0, 0.5, 25.0])
def test_what_is_found_is_which_span_and_whether_any(remembering, null_span):
    _, queries = _queries(remembering)
    remembering.router.null_span.fill_(null_span)
    memory = remembering.document_slots(range(3))
    found = span_probabilities(remembering, queries, *memory)
    logits = remembering.span_logits(queries, *memory).double()
    assert torch.allclose(found.log_p.exp().sum(1), torch.ones(3))
    assert torch.allclose(found.log_p[:, :2].double(), logits[:, :2].log_softmax(1), atol=1e-5)
    # Nearly certain answers keep their small doubt (and the other way round): relative, not absolute.
    assert torch.allclose(found.answers.double(), torch.log1p(-logits.softmax(1)[:, -1]), rtol=1e-3, atol=0)


@torch.no_grad()
def test_nothing_is_found_in_a_document_without_text(remembering):
    z, spans = remembering.encode([[]])
    assert span_probabilities(remembering, [remembering.backbone.encode("Who?")], z, spans).answers.item() < -100


@torch.no_grad()
def test_joint_models_read_the_whole_document(model):
    assert model.best_spans(_queries(model)[1], *model.document_slots(range(3))).tolist() == [[0]] * 3
    assert model.sentences_per_span(7) == 7
    assert model.text_units("One is red. Two is blue.") == [model.backbone.encode("One is red. Two is blue.")]


@torch.no_grad()
def test_the_best_span_is_the_most_probable_one_that_is_there(remembering):
    queries = _queries(remembering)[1]
    memory = remembering.document_slots(range(3))
    best = remembering.best_spans(queries, *memory)
    found = span_probabilities(remembering, queries, *memory)
    assert best.tolist() == found.log_p.argmax(1, keepdim=True).tolist()


@torch.no_grad()
def test_what_keys_do_not_see_changes_neither_finding_nor_routing(remembering, documents):
    texts, queries = _queries(remembering)
    z, spans = remembering.document_slots()
    change = torch.randn(z.shape, generator=torch.Generator().manual_seed(4))

    def measured(moved):
        remembering.remember(documents, moved, spans)
        kept = remembering.document_slots(range(3))
        return kept[0], remembering.span_logits(queries, *kept), remembering.routing_scores(texts, queries)

    (kept, *before), (unseen, *after), (_, *other) = (
        measured(z + part) for part in (0 * z, change @ remembering.router.unseen_directions(), change)
    )
    assert (unseen - kept).abs().max() > 0.5
    for own, same, moved in zip(before, after, other, strict=True):
        # Up to what rounding slots to bytes changes.
        assert (own - same).abs().max() < 0.02 * (own - moved).abs().max()


def test_sentences_know_the_span_that_keeps_them(either, documents):
    many = Document("m", "Many", "One is red. Two is blue. Three is green. Four is grey. Five is black. Six is white.")
    store = SentenceStore.build(either, [*documents, many, Document("e", "Empty", "")])
    assert store.spans[-1] == []
    for ids, spans in zip(store.ids, store.spans, strict=True):
        if either.policy == "joint":
            assert spans == [0] * len(ids)
            continue
        # The tokens of a span's sentences are as many as its slots keep.
        plan = plan_spans(list(map(len, ids)), either.settings.slots, either.settings.stride)
        assert set(spans) == {span for span, _ in plan}
        for number in set(spans):
            tokens = sum(len(sentence) for sentence, span in zip(ids, spans, strict=True) if span == number)
            assert tokens == sum(length for span, length in plan if span == number)
    assert store.ids[-2] == sentence_ids(either.backbone, many.text)
    assert [segment.text for segment in store.segments[-2]][1:3] == ["Two is blue.", "Three is green."]


@torch.no_grad()
def test_padding_and_company_do_not_change_routing(either):
    if either.policy == "joint":
        torch.nn.init.normal_(either.router.context.weight)  # zero at the start
    texts, queries = _queries(either)
    together = either.routing_scores(texts, queries)
    assert together.shape == (3, 5 if either.policy == "joint" else 6)
    for i, (text, query) in enumerate(zip(texts, queries, strict=True)):
        alone = either.routing_scores([text], [query])
        assert torch.allclose(alone[0], together[i], atol=1e-3)


@torch.no_grad()
def test_each_query_of_a_batch_gets_its_own_documents(either, documents):
    if either.policy == "separated":
        either.router.log_scale[:2] = 3.0  # words decide, as after training
    texts = [document.title for document in documents]
    routed = route(either, texts, [either.backbone.encode(text) for text in texts], 3)
    assert routed.rows.shape == (5, 3)
    assert routed.rows[:, 0].tolist() == list(range(len(documents)))
    assert (routed.log_p[:, 0] >= routed.log_p[:, 1]).all()
    scores = either.routing_scores(texts, [either.backbone.encode(text) for text in texts]).softmax(-1)
    assert torch.allclose(routed.log_p.exp(), scores[:, :5].gather(1, routed.rows), atol=1e-5)
    null = scores[:, 5] if either.policy == "separated" else torch.zeros(5)
    assert torch.allclose(routed.null_p, null, atol=1e-6)
    assert route(either, texts[:1], [either.backbone.encode(texts[0])], 99).rows.shape == (1, 5)


def test_routing_nll_closed_form():
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    total = sum(torch.exp(torch.tensor([2.0, 1.0, 0.0])))
    first = -torch.log((torch.exp(torch.tensor(2.0)) + torch.exp(torch.tensor(0.0))) / total)
    second = torch.log(torch.tensor(3.0))
    assert torch.allclose(routing_nll(scores, [(0, 2), (1,)]), torch.stack([first, second]), atol=1e-6)


def test_alpha_zero_hides_z(either):
    z, _ = either.document_slots([0, 1])
    assert not torch.equal(*either.slots(z))
    either.alpha = 0.0
    assert torch.equal(*either.slots(z))


@torch.no_grad()
def test_slots_are_read_by_direction_and_not_by_length(either):
    z, _ = either.document_slots()
    assert torch.allclose(either.slots(z), either.slots(7 * z), atol=1e-5)


@torch.no_grad()
def test_slots_beyond_the_models_own_number_share_the_last_place(either):
    m = either.settings.slots
    made = either.slots(torch.ones(1, m + 2, either.settings.width))[0]
    assert torch.equal(made[m:], made[m - 1].expand(2, -1))
    assert not torch.allclose(made[m - 1], made[m - 2])


@torch.no_grad()
def test_remembering_another_corpus_replaces_the_memory_as_a_whole(remembering, documents):
    texts = ["Where was Orla Venn born?"]
    queries = [remembering.backbone.encode(texts[0])]
    before = remembering.routing_scores(texts, queries)
    z, spans = remembering.document_slots()
    theta = {name: value.clone() for name, value in remembering.head_state().items()}
    new = Document("n", "New Place", "New Place lies by a river.")
    remembering.remember([*documents, new], torch.cat([z, z[:1]]), torch.cat([spans, spans[:1]]))
    assert remembering.routing_scores(texts, queries).shape == (1, 7)
    remembering.remember(documents, z, spans)
    assert torch.equal(remembering.routing_scores(texts, queries), before)
    assert all(torch.equal(theta[name], value) for name, value in remembering.head_state().items())
    remembering.remember(documents[::-1], z.flip(0), spans.flip(0))
    assert torch.allclose(remembering.routing_scores(texts, queries)[0, :5].flip(0), before[0, :5], atol=1e-4)


def test_the_state_of_the_heads_holds_nothing_of_a_document(either):
    heads = set(either.head_state())
    memory = set(either.memory_names)
    assert memory == ({"z"} if either.policy == "joint" else set())
    everything = {name for name in either.state_dict() if not name.startswith("lm.")}
    assert heads | memory == everything
    assert not heads & memory


def test_a_new_separated_model_reads_back_along_the_directions_it_writes(writer):
    assert torch.nn.functional.cosine_similarity(
        writer.projection.weight.flatten(), writer.encoder.down.weight.T.flatten(), dim=0
    ).item() == pytest.approx(1.0, abs=1e-5)
    trained = {id(p) for p in [*writer.backbone.trainable(), *writer.head_parameters()]}
    assert trained == {id(p) for p in writer.parameters()}


def test_both_policies_of_one_backbone(backbone, settings, skill_settings):
    joint = JointMemory(backbone, settings.joint, 3)
    separated = SeparatedMemory(backbone, skill_settings.separated)
    assert joint.shape == joint.z.shape == (3, 2, 64)
    assert not joint.document_slots()[1].any(), "a document is one span of all its slots"
    assert (separated.n_documents, separated.shape[2]) == (0, 24)
    assert separated.document_slots()[0].shape[::2] == (0, 24)


@torch.no_grad()
@pytest.mark.parametrize("rows", [None, [3, 0], [1, 1], []])
def test_slots_come_back_on_their_grid_and_empty_ones_as_nothing(writer, documents, rows):
    documents = [*documents, Document("e", "Empty", "")]
    z, spans = writer.encode([sentence_ids(writer.backbone, document.text) for document in documents])
    writer.remember(documents, z.masked_fill((spans == UNUSED)[..., None], 7.0), spans)
    assert writer.n_documents == 6
    assert writer.shape == (6, int((spans != UNUSED).sum(1).max()), 24)
    found, numbers = writer.document_slots(rows)
    chosen = list(range(6)) if rows is None else rows
    assert len(found) == len(numbers) == len(chosen)
    for own, places, row in zip(found, numbers, chosen, strict=True):
        n = int((spans[row] != UNUSED).sum())
        assert places.tolist() == spans[row, :n].tolist() + [UNUSED] * (len(places) - n)
        assert torch.equal(own[:n], quantise(z[row, :n]))
        assert ((own[:n] - z[row, :n]).abs() <= 0.01 * z[row, :n].abs().amax(-1, keepdim=True)).all()
        assert not own[n:].any()


def test_a_query_that_is_asked_several_times_is_computed_once(remembering, monkeypatch):
    first, second = (remembering.backbone.encode(text) for text in ("Where was Orla Venn born?", "What is made?"))
    expected, mask = remembering.query_states([first, second])
    batches, hidden = [], remembering.backbone.hidden
    monkeypatch.setattr(
        remembering.backbone, "hidden", lambda embeds, *a: batches.append(len(embeds)) or hidden(embeds, *a)
    )
    states, own = remembering.query_states([first, second, tuple(first), first, second])
    assert batches == [2]
    assert torch.equal(states, expected[[0, 1, 0, 0, 1]])
    assert torch.equal(own, mask[[0, 1, 0, 0, 1]])


@torch.no_grad()
def test_what_a_block_has_computed_of_queries_is_kept_in_it_and_no_longer(remembering, monkeypatch):
    texts = ("Where was Orla Venn born?", "What?", "What does Bram Kilto do for a living in Kell?", "")
    queries = [remembering.backbone.encode(text) for text in texts]
    alone = [remembering.query_states([query]) for query in queries]
    batches, hidden = [], remembering.backbone.hidden
    monkeypatch.setattr(
        remembering.backbone, "hidden", lambda embeds, *a: batches.append(len(embeds)) or hidden(embeds, *a)
    )
    with remembering.each_query_once():
        remembering.query_states(queries[:2])
        states, mask = remembering.query_states([queries[i] for i in (3, 1, 2, 1, 0)])
        remembering.query_states(queries)
    assert batches == [2, 2]
    for i, own, there in zip((3, 1, 2, 1, 0), states, mask, strict=True):
        expected, own_mask = (part[0] for part in alone[i])
        assert there.tolist() == own_mask.tolist() + [0] * (len(there) - len(own_mask))
        assert torch.allclose(own[there.bool()], expected[own_mask.bool()], atol=1e-5)
    remembering.query_states(queries)
    assert batches == [2, 2, 4]
