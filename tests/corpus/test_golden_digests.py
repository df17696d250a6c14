"""What is generated from a seed stays the same byte by byte: checkpoints, figures and the shipped skill rest on it."""

import hashlib
import json
import random
from dataclasses import replace

import pytest

from zrag_core.corpus.almanac import generate_almanac, skill_batch, two_hop_questions, vague_questions
from zrag_core.corpus.read import read_corpus
from zrag_core.corpus.targets import build_targets
from zrag_core.settings import CorpusSettings, TargetSettings

ALMANACS = {
    ("en", 0, 1): "323d44939826083d",
    ("en", 0, 64): "03e81026a25a285e",
    ("en", 311, 40): "59c7830557ff3fab",
    ("ko", 0, 64): "6c910d892517f069",
    ("ko", 7, 17): "c016999c3c8b5e54",
}
SKILL_ALMANACS = {"en": "d0090af8539e7754", "ko": "942a95745635b2f3"}
SKILL_BATCHES = {
    ("en", "train"): "0005f3f512653e9e",
    ("en", "held_out"): "4bb0c4399def038e",
    ("ko", "train"): "57d89205ca2c56ca",
    ("ko", "held_out"): "c701033c58b53ae4",
}
PASSAGES_AND_STUDY = {"en": ["1ee5520d56739ab1", "5d51b4b61a9e81d6"], "ko": ["2ee5a7a05364498f", "ef67908181e10afa"]}


def digest(value):
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]


def corpus_digest(corpus):
    documents = [(d.id, d.title, d.text, d.source_id, d.source_start) for d in corpus.documents]
    questions = [
        (
            *(q.id, q.question, q.golden_answers, q.document_ids, q.evidence, q.split, q.question_type, q.language),
            *(q.fact_id, q.metadata),
        )
        for q in corpus.questions
    ]
    return digest([corpus.name, documents, questions, corpus.notes])


@pytest.mark.parametrize(("language", "seed", "n"), ALMANACS)
def test_almanacs_stay_the_same(language, seed, n):
    assert corpus_digest(generate_almanac(n, language, seed)) == ALMANACS[language, seed, n]


@pytest.mark.parametrize("language", SKILL_ALMANACS)
def test_almanacs_of_the_skill_pool_stay_the_same(language):
    assert corpus_digest(generate_almanac(48, language, 3, "skill")) == SKILL_ALMANACS[language]


@pytest.mark.parametrize(("language", "phrasing"), SKILL_BATCHES)
def test_skill_batches_and_their_questions_stay_the_same(language, phrasing):
    rng = random.Random(5)
    world = skill_batch(rng, 40, language)
    drawn = [
        [(made.document.id, made.document.title, made.document.text, made.region, made.missing) for made in world],
        [[(s.text, s.attribute, s.answers, s.target, s.shared) for s in made.sentences] for made in world],
        [
            (hop.question, hop.link.text, hop.target.document.id, hop.final.text, hop.final.answers[0])
            for hop in two_hop_questions(rng, world, phrasing=phrasing)
        ],
        [
            (shared.question, [(made.document.id, sentence.text) for made, sentence in shared.members])
            for shared in vague_questions(rng, world, phrasing=phrasing)
        ],
        [made.ask(rng, rng.randrange(len(made.sentences)), phrasing=phrasing).question for made in world],
        [made.ask(rng, 2, phrasing=phrasing).question for made in world],
        [made.ask_missing(rng, phrasing=phrasing) for made in world],
        rng.random(),
    ]
    assert digest(drawn) == SKILL_BATCHES[language, phrasing]


@pytest.mark.parametrize("language", PASSAGES_AND_STUDY)
def test_passages_splits_and_self_study_stay_the_same(language, tmp_path):
    rows = [{"id": d.id, "title": d.title, "text": d.text} for d in generate_almanac(24, language).documents]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = CorpusSettings(format="native", location=str(tmp_path), name="study", passage_tokens=90, seed=2)
    corpus = replace(read_corpus(settings), notes=())  # they name the folder
    targets = build_targets(corpus, TargetSettings(self_study_per_sentence=3), 4)
    stored = [(t.id, t.query, t.document_ids, t.evidence, t.method, t.split) for t in targets]
    assert corpus.questions
    assert [corpus_digest(corpus), digest(stored)] == PASSAGES_AND_STUDY[language]
