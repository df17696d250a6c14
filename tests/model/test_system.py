"""From questions to evidence: candidates and their features, two steps, and what free decoding is made of."""

import math
import random
from dataclasses import replace

import pytest
import torch
from memory_fixtures import kept_tokens, louder, nll_token_by_token, slots_of

from zrag_core.corpus.types import Document, Question
from zrag_core.model.architecture.sentence_features import SENTENCE_FEATURES, word_overlap
from zrag_core.model.architecture.slot_router import inverse_frequency
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.architecture.word_features import feature_ids
from zrag_core.model.inference import decoder as reading
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.decoder import generate, reconstruct
from zrag_core.model.inference.sentence_store import SentenceStore
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.sentences import split_sentences

ASKED = ("Where was Orla Venn born?", "How deep is Lake Munar, and what nests there?", "서린도는 어디에 있나?")
QUESTIONS = [Question(f"q{n}", text) for n, text in enumerate(ASKED)]


@pytest.fixture
def separated(writer, documents, skill_settings, tmp_path):
    """Untrained, but loud; with a document whose sentences share spans and one without any sentence."""
    shared = " ".join(f"Pell has {n} {what}." for n, what in enumerate("inns mills ponds gates wells barns".split()))
    documents = (*documents, Document("p", "Pell", shared), Document("e", "Empty", ""))
    louder(writer)
    with torch.no_grad():
        writer.router.query.weight.mul_(30)  # finding prefers some spans clearly
        writer.remember(documents, *writer.encode(_sentences(writer, documents)))
    return Checkpoint("s", tmp_path, writer, documents, skill_settings, {})


@pytest.fixture
def joint(model, documents, settings, tmp_path):
    return Checkpoint("j", tmp_path, louder(model), documents, settings, {})


def _sentences(model, documents):
    return [sentence_ids(model.backbone, document.text) for document in documents]


def _system(checkpoint, *, free=False, **decoding):
    settings = checkpoint.settings.decoding.model_copy(update={"routed_documents": 3, "max_new_tokens": 6, **decoding})
    return create_system("zrag", checkpoint, settings, free=free, threads=1)


# --- oracles: one document, one span, one token at a time -----------------------------------------


def _routed(checkpoint, text, k):
    """(row, log P, second step, query ids) of the k best documents in one step, and log P(something in memory)."""
    model, n = checkpoint.model, len(checkpoint.documents)
    ids = model.backbone.encode(text)
    scores = model.routing_scores([text], [ids])[0]
    log_p = scores[:n].log_softmax(0)
    rows = log_p.argsort(descending=True)[:k].tolist()
    known = math.log(torch.sigmoid(scores[:n].max() - scores[n])) if len(scores) > n else 0.0
    return [(row, log_p[row].item(), 0.0, ids) for row in rows], known


def _routed_again(checkpoint, text, evidence, k):
    """The same with a second step, whose query is question and first evidence."""
    model, n = checkpoint.model, len(checkpoint.documents)
    longer = f"{text} {evidence}"
    queries = [model.backbone.encode(text), model.backbone.encode(longer)]
    first = model.routing_scores([text], queries[:1])[0, :n].softmax(0)
    second = model.routing_scores([longer], queries[1:])[0, :n]
    second[int(first.argmax())] = -torch.inf
    named, led_to = 0.9 * first, 0.1 * second.softmax(0)
    rows = (named + led_to).argsort(descending=True)[:k].tolist()
    return [
        (
            row,
            (named + led_to)[row].log().item(),
            float(led_to[row] > named[row]),
            queries[int(led_to[row] > named[row])],
        )
        for row in rows
    ]


def _found(checkpoint, row, ids):
    """log P(the document says it), and log P(span | it does) of every span."""
    model = checkpoint.model
    if model.policy == "joint":
        return 0.0, [0.0]
    p = model.span_logits([ids], *model.document_slots([row]))[0].double().softmax(0)
    says = p[:-1].sum()
    return says.log().item(), (p[:-1] / says).log().tolist()


def _slots(model, row, span):
    """The slots of one span of a document, as a prefix."""
    return slots_of(*(own[0] for own in model.document_slots([row])), span)


def _idf(checkpoint):
    return inverse_frequency(checkpoint.model.held.frequency, len(checkpoint.documents)).numpy()


def _candidates(checkpoint, text, routed):
    """(place, sentence, span, features) of every sentence of the routed documents."""
    model, encode = checkpoint.model, checkpoint.model.backbone.encode
    joint = model.policy == "joint"
    candidates = []
    for place, (row, log_p, second, ids) in enumerate(routed):
        document = checkpoint.documents[row]
        texts = [span.text for span in split_sentences(document.text)]
        answers, find = _found(checkpoint, row, ids)
        for number, sentence in enumerate(texts):
            span = 0 if joint else number // math.ceil(len(texts) / model.settings.slots)
            prefix = _slots(model, row, span)
            target = [*encode(sentence), model.backbone.eos_id]

            def likelihood(query, prefix=prefix, target=target):
                return -nll_token_by_token(model, model.prompt(*prefix, [query]), target) / len(target)

            prior = likelihood(encode(document.title)) if joint else 0.0
            words = [0.0] * 3 if joint else _word_features(text, document.title, sentence, _idf(checkpoint))
            logs = [max(value, -20.0) for value in (log_p, answers, find[span])]
            likely = likelihood(ids) if joint else 0.0
            features = [logs[0], second, logs[1], logs[2], likely, prior, *words, 0.0]
            candidates.append((place, sentence, span, features))
    return candidates


def _word_features(text, title, sentence, idf):
    """Overlap with the sentence, with what only the title has, and the sentence's length."""
    asked, own = feature_ids(text), feature_ids(sentence)
    only_in_title = {word for word in asked if word in feature_ids(title) and word not in own}
    rare = sum(float(idf[word]) for word in only_in_title) / 10
    return [word_overlap(asked, own, idf), rare, math.log(1 + len(own))]


def _best(checkpoint, candidates):
    """Order of the candidates by the model's own weights."""
    weights = _system(checkpoint).ranking_weights()
    scores = torch.tensor([features for *_, features in candidates]) @ weights
    return scores.argsort(descending=True).tolist()


def _units(candidates):
    """(place, span) of what may be written, by log P(document) + log P(says it) + log P(span)."""
    scores = {(place, span): features[0] + features[2] + features[3] for place, _, span, features in candidates}
    return sorted(scores, key=lambda unit: -scores[unit])


def _greedy(model, prompt, n):
    embeds, mask, places = prompt
    ids = []
    while len(ids) < n:
        logits = model.lm(inputs_embeds=embeds, attention_mask=mask, position_ids=places).logits[0, -1]
        if (token := int(logits.argmax())) == model.backbone.eos_id:
            break
        ids.append(token)
        embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([[token]]))], 1)
        mask, places = torch.cat([mask, mask[:, -1:]], 1), torch.cat([places, places[:, -1:] + 1], 1)
    return model.backbone.decode(ids)


def _check_judged(checkpoint, judged, text, routed):
    segments, features = judged
    expected = _candidates(checkpoint, text, routed)
    ids = [checkpoint.documents[routed[place][0]].id for place, *_ in expected]
    assert [(s.document_id, s.text) for s in segments] == [(i, c[1]) for i, c in zip(ids, expected, strict=True)]
    assert torch.allclose(features, torch.tensor([own for *_, own in expected]), atol=5e-3)
    return expected


# --- candidates -----------------------------------------------------------------------------------

TELLING = {
    "separated": {"route", "answers", "find", "words", "title", "length"},
    "joint": {"route", "likelihood", "prior"},
}


@torch.no_grad()
@pytest.mark.parametrize("policy", TELLING)
def test_features_of_a_sentence_are_those_of_reading_it_alone(policy, request, monkeypatch):
    monkeypatch.setattr(reading, "_SEQUENCES", 5)  # several batches
    checkpoint = request.getfixturevalue(policy)
    differing = set()
    for text, judged in zip(ASKED, _system(checkpoint, steps=1).candidates(ASKED), strict=True):
        routed, known = _routed(checkpoint, text, 3)
        _check_judged(checkpoint, judged[:2], text, routed)
        assert judged[2].item() == pytest.approx(known, abs=1e-3)
        spread = judged[1].amax(0) - judged[1].amin(0)
        differing |= {name for name, value in zip(SENTENCE_FEATURES, spread.tolist(), strict=True) if value > 0.01}
    assert differing == TELLING[policy], "the others are constant in one step"


@torch.no_grad()
def test_the_second_step_asks_with_the_first_evidence_and_reads_with_it(separated):
    text = ASKED[0]
    separated.model.router.log_scale.add_(1.0)  # the first step is sure of one document, the second leads elsewhere
    routed, _ = _routed(separated, text, 1)
    first = _candidates(separated, text, routed)
    evidence = first[_best(separated, first)[0]][1]
    again = _routed_again(separated, text, evidence, 7)
    assert {second for _, _, second, _ in again} == {0.0, 1.0}
    ((segments, features, _),) = _system(separated, steps=2, routed_documents=7).candidates([text])
    _check_judged(separated, (segments, features), text, again)


def test_joint_memories_are_read_in_one_step(joint):
    one, two = (_system(joint, steps=steps).candidates(ASKED) for steps in (1, 2))
    for (_, features, _), (_, again, _) in zip(one, two, strict=True):
        assert torch.equal(features, again)


@torch.no_grad()
@pytest.mark.parametrize("policy", ["separated", "joint"])
def test_sentences_are_ranked_by_the_models_weights_and_documents_by_their_best(policy, request):
    checkpoint = request.getfixturevalue(policy)
    if policy == "separated":
        checkpoint.model.ranking.copy_(torch.tensor([0.3, 0.0, 0.5, 2.0, 1.0, 0.0, -1.0, 0.5, 0.2, 0.0]))
    n, by_id = len(checkpoint.documents), {document.id: document for document in checkpoint.documents}
    for text, found in zip(ASKED, _system(checkpoint, steps=1).retrieve(QUESTIONS), strict=True):
        routed, _ = _routed(checkpoint, text, 3)
        candidates = _candidates(checkpoint, text, routed)
        order = _best(checkpoint, candidates)
        assert [segment.text for segment in found.segments] == [candidates[i][1] for i in order]
        assert all(by_id[s.document_id].text[s.start : s.end] == s.text for s in found.segments)
        everything = [row for row, *_ in _routed(checkpoint, text, n)[0]]
        best = [] if policy == "joint" else [routed[candidates[i][0]][0] for i in order]
        rows = list(dict.fromkeys([*best, *everything]))
        assert found.document_ids == tuple(checkpoint.documents[row].id for row in rows)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_questions_do_not_disturb_each_other(separated, free, steps):
    single, together = (
        _system(separated, free=free, steps=steps, batch_size=size).retrieve(QUESTIONS) for size in (1, 3)
    )
    for one, other in zip(single, together, strict=True):
        assert one.document_ids == other.document_ids
        assert one.text == other.text
        assert [s.text for s in one.segments] == [s.text for s in other.segments]
        assert [s.score for s in one.segments] == pytest.approx([s.score for s in other.segments], abs=5e-3)


def test_sentences_are_looked_for_in_the_span_that_keeps_them(separated):
    model = separated.model
    store = SentenceStore.build(model, separated.documents)
    kept = kept_tokens(_sentences(model, separated.documents), model.settings.slots, model.settings.stride)
    found = {}
    for row, (ids, spans) in enumerate(zip(store.ids, store.spans, strict=True)):
        for sentence, span in zip(ids, spans, strict=True):
            found.setdefault((row, span), []).extend(sentence)
    assert found == kept
    assert [len(set(spans)) for spans in store.spans] == [2] * 5 + [3, 0]


# --- free decoding --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("free_spans", [1, 3, 8])
def test_free_evidence_is_written_from_the_most_probable_spans_one_by_one(separated, free_spans):
    model = separated.model
    found = _system(separated, free=True, steps=1, free_spans=free_spans).retrieve(QUESTIONS)
    for text, item in zip(ASKED, found, strict=True):
        routed, _ = _routed(separated, text, 3)
        units = _units(_candidates(separated, text, routed))
        lines = []
        for place, span in units[:free_spans]:
            row, _, _, ids = routed[place]
            lines.append(_greedy(model, model.prompt(*_slots(model, row, span), [ids]), 6))
        assert item.text == "\n".join(line for line in dict.fromkeys(lines) if line)
        assert item.segments == ()
        rows = [routed[place][0] for place, _ in units]
        rows += [row for row, *_ in _routed(separated, text, 7)[0]]
        assert item.document_ids == tuple(separated.documents[row].id for row in dict.fromkeys(rows))


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2])
def test_no_text_of_the_documents_has_a_part_in_free_evidence(separated, steps):
    """Other words in as many sentences, and other weights for sentences, change nothing that is written."""
    expected = _system(separated, free=True, steps=steps).retrieve(QUESTIONS)
    assert all(item.text for item in expected)
    told = _system(separated, steps=steps).retrieve(QUESTIONS)
    rng = random.Random(0)

    def reworded(document):
        words = document.text.split()
        other = [f"{rng.choice('QXZ')}{rng.randrange(99)}" + ("." if word.endswith(".") else "") for word in words]
        return replace(document, title="Nothing", text=" ".join(other))

    documents = tuple(reworded(document) for document in separated.documents)
    changed = replace(separated, documents=documents)
    separated.model.ranking.copy_(torch.tensor([-1.0, 2.0, -3.0, 1.0, -2.0, 4.0, -9.0, 3.0, -5.0, 0.0]))
    found = _system(changed, free=True, steps=steps).retrieve(QUESTIONS)
    assert [item.text for item in found] == [item.text for item in expected]
    assert [item.document_ids for item in found] == [item.document_ids for item in expected]
    others = _system(changed, steps=steps).retrieve(QUESTIONS)
    assert all(one.segments[0] != other.segments[0] for one, other in zip(told, others, strict=True))


@torch.no_grad()
def test_free_evidence_comes_from_the_slots(separated):
    before = _system(separated, free=True).retrieve(QUESTIONS)
    model = separated.model
    # Keys stay as they are, so the same spans are found; what they say is another thing.
    z, spans = model.document_slots()
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)) @ model.router.unseen_directions()
    model.remember(separated.documents, z + 5 * noise, spans)
    after = _system(separated, free=True).retrieve(QUESTIONS)
    assert all(one.text != other.text for one, other in zip(before, after, strict=True))


@torch.no_grad()
def test_the_second_step_of_free_decoding_goes_on_from_its_own_words(separated, monkeypatch):
    first = _system(separated, free=True, steps=1, routed_documents=1, free_spans=1).retrieve(QUESTIONS)
    routed = []
    score = separated.model.routing_scores

    def record(texts, queries):
        routed.append(list(texts))
        return score(texts, queries)

    monkeypatch.setattr(separated.model, "routing_scores", record)
    _system(separated, free=True, steps=2).retrieve(QUESTIONS)
    assert routed == [list(ASKED), [f"{text} {item.text}" for text, item in zip(ASKED, first, strict=True)]]


@torch.no_grad()
def test_a_memory_without_a_sentence_has_no_evidence(separated):
    documents = (Document("e", "Empty", ""), Document("b", "Blank", " \n"))
    model = separated.model
    model.remember(documents, *model.encode(_sentences(model, documents)))
    model.confidence.fill_(1.0)
    for free in (False, True):
        for item in _system(replace(separated, documents=documents), free=free).retrieve(QUESTIONS):
            assert set(item.document_ids) == {"e", "b"}
            assert item.segments == ()
            assert not item.text
            assert item.confidence is None


# --- generation -----------------------------------------------------------------------------------


@torch.no_grad()
def test_generation_is_greedy_whatever_stands_beside_it(separated):
    """Oracle: argmax by a whole forward pass for each token, each prompt alone."""
    model = separated.model
    queries = [model.backbone.encode(text) for text in ("Where?", *ASKED)]
    prefixes = [_slots(model, row, span) for row, span in ((0, 0), (0, 1), (5, 2), (3, 1))]
    width = max(z.shape[1] for z, _ in prefixes)
    z, used = torch.zeros(4, width, model.shape[-1]), torch.zeros(4, width, dtype=torch.bool)
    for row, (slots, there) in enumerate(prefixes):
        z[row, : slots.shape[1]], used[row, : slots.shape[1]] = slots[0], there[0]
    assert used.all(1).tolist() != [True] * 4, "prefixes of several lengths"
    expected = [
        _greedy(model, model.prompt(*prefix, [query]), 8) for prefix, query in zip(prefixes, queries, strict=True)
    ]
    assert len(set(expected)) > 1
    assert generate(model, z, used, queries, 8) == expected


@torch.no_grad()
def test_documents_are_rebuilt_span_by_span(separated):
    model = separated.model
    for row, n in ((0, 2), (5, 3), (6, 0)):
        z, spans = (own[0] for own in model.document_slots([row]))
        parts = [_greedy(model, model.write_prompt(*slots_of(z, spans, span)), 8) for span in range(n)]
        assert reconstruct(model, z, spans, 8) == " ".join(parts)


@torch.no_grad()
def test_a_joint_document_is_rebuilt_at_once(joint):
    model = joint.model
    there = torch.ones(1, model.z.shape[1], dtype=torch.bool)
    for row in range(2):
        expected = _greedy(model, model.write_prompt(model.z[row : row + 1], there), 8)
        assert reconstruct(model, *(own[0] for own in model.document_slots([row])), 8) == expected
