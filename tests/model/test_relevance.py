"""The probe that says whether a sentence answers, and heads that were stored before it."""

import torch

from zrag_core.corpus.prose.asked import AskedSentence
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.relevance import RelevanceProbe, relevance_features
from zrag_core.model.store.skill_folder import load_heads
from zrag_core.model.training.relevance_training import _pairs


def _questions(n, generator):
    """Three sentences a question; the right one of all but every fifth has more of direction 0; the others vary."""
    owner = torch.arange(n).repeat_interleave(3)
    features = torch.randn(3 * n, 8, generator=generator) * torch.tensor([1.0, 50.0, 0.01, 1, 1, 1, 1, 1])
    right = torch.zeros(3 * n, dtype=torch.bool)
    right[::3] = torch.arange(n) % 5 > 0
    features[right, 0] += 4.0
    return features, right, owner


def test_the_probe_learns_which_sentence_answers_and_that_none_does():
    generator = torch.Generator().manual_seed(0)
    probe = RelevanceProbe(8)
    probe.fit(*_questions(300, generator))
    features, right, _ = _questions(200, generator)
    with torch.no_grad():
        odds = probe(features).view(-1, 3)
    answered = right.view(-1, 3).any(1)
    assert (odds[answered].argmax(1) == 0).float().mean() > 0.9
    best = odds.amax(1)
    assert (best[answered][:, None] > best[~answered][None]).float().mean() > 0.9


def test_a_fit_is_repeatable_and_leaves_no_dropout_behind():
    given = _questions(60, torch.Generator().manual_seed(1))
    probes = [RelevanceProbe(8), RelevanceProbe(8)]
    for probe in probes:
        torch.rand(probes.index(probe) + 1)  # whatever was drawn before
        probe.fit(*given)
    with torch.no_grad():
        first, again, other = (probe(given[0]) for probe in (probes[0], probes[0], probes[1]))
    assert torch.equal(first, again)
    assert torch.equal(first, other)


def test_features_are_those_of_the_last_token_and_the_mean_whatever_the_padding():
    states = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    found = relevance_features(states, mask)
    assert torch.equal(found[0], torch.cat([states[0, 1], states[0, :2].mean(0)]))
    assert torch.equal(found[1], torch.cat([states[1, 3], states[1].mean(0)]))


def test_a_question_stands_against_its_own_text_and_one_without_an_answer_has_wrong_ones_alone():
    texts = ("The mill has two wheels. The mill was built in 1804. It rains.", "The mill of Ostel burned. A lake.")
    documents = {f"d{n}": Document(f"d{n}", "Mill", text) for n, text in enumerate(texts)}
    asked = [
        AskedSentence("When was the mill built?", "d0", "The mill was built in 1804."),
        AskedSentence("Who?", "d1", ""),
    ]
    pairs = _pairs(asked, documents)
    assert [(p.sentence, p.right) for p in pairs if p.question == 0][:2] == [
        ("The mill was built in 1804.", True),
        ("The mill has two wheels.", False),
    ]
    assert {p.right for p in pairs if p.question == 1} == {False}
    assert all(p.sentence != "The mill was built in 1804." or p.right for p in pairs if p.question == 0)


def test_heads_of_an_older_version_judge_as_they_did(writer):
    """What came later counts for nothing: weights and bias keep their places."""
    model = writer
    heads = {name: value.clone() for name, value in model.head_state().items()}
    older = {**heads, "ranking": heads["ranking"][..., :-3], "confidence": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    load_heads(model, older)
    assert torch.equal(model.ranking, torch.cat([older["ranking"], torch.zeros(3)]))
    assert model.confidence.tolist() == [1.0, 2.0, 3.0, *[0.0] * (len(heads["confidence"]) - 4), 4.0]
