import random
from dataclasses import asdict, replace

import pytest

from zrag_core.corpus.audit import audit_targets
from zrag_core.corpus.offsets import answer_sentence, holds_answer
from zrag_core.corpus.self_study import (
    distinct_sentences,
    held_out_sentences,
    self_study_queries,
    self_study_query,
    synthetic_questions,
)
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.settings import SplitSettings, TargetSettings
from zrag_core.text import detect_language, words

VALE = Document("vale", "Orrin Vale", "Orrin Vale was a painter. He was born in 1931 at Sorn. He died in Sorn.")
BRIDGE = Document("bridge", "Tarn Bridge", "Tarn Bridge spans the Ostel. It opened in 1955.")
VILLAGE = Document(
    "village", "하늘마을", "하늘마을은 강원도에 있다. 이장은 김보람으로, 사과를 기른다. 남북정상회담이 열렸다."
)
QUIET = TargetSettings(self_study_per_sentence=0)


def corpus(*questions, documents=(VALE, BRIDGE, VILLAGE)):
    return Corpus("c", documents, questions)


def target(question, documents=(VALE, BRIDGE, VILLAGE)):
    targets = build_targets(corpus(question, documents=documents), QUIET, 0)
    assert len(targets) <= 1
    return targets[0] if targets else None


@pytest.mark.parametrize(
    ("text", "answer", "held"),
    [
        ("It cost $12 in 1931.", "$12", True),
        ("It was 1931.", "193", False),
        ("The Great  Fire, burned", "great fire", True),
        ("notably good", "no", False),
        ("No one came.", "no", False),
        ("시장은 이도윤으로 뽑혔다", "이도윤", True),
        ("시장은 이도윤으로 뽑혔다", "도윤", False),
        ("東京都に住む", "東京", True),
        ("anything", "...", False),
    ],
)
def test_holding_an_answer(text, answer, held):
    assert bool(holds_answer(text, [answer], detect_language(text))) is held


def test_the_first_sentence_with_the_best_answer_wins():
    assert answer_sentence(VALE.text, ["Sorn"], "en") == "He was born in 1931 at Sorn."
    assert answer_sentence(VALE.text, ["died in Sorn", "Sorn"], "en") == "He died in Sorn."
    assert answer_sentence(VILLAGE.text, ["정상회담"], "ko") == "남북정상회담이 열렸다."
    assert answer_sentence(VALE.text, ["yes"], "en") is None


def test_gold_evidence_is_the_target():
    question = Question("q", "Born?", ("1931",), ("vale",), "He was born, it says, in 1931.", split="dev")
    expected = EvidenceTarget("q", "Born?", ("vale",), "He was born, it says, in 1931.", "gold", "dev")
    assert target(question) == expected


def test_gold_evidence_without_documents_finds_its_only_document():
    question = Question("q", "Opened?", ("1955",), (), "It opened in 1955.", split="train")
    assert target(question).document_ids == ("bridge",)
    twice = (BRIDGE, replace(BRIDGE, id="copy"))
    assert target(question, twice).document_ids == ()


def test_the_answer_sentence_is_searched_in_the_gold_documents_only():
    question = Question("q", "Opened?", ("1955",), ("vale", "bridge"), split="train")
    found = target(question)
    assert (found.document_ids, found.evidence, found.method) == (
        ("bridge",),
        "It opened in 1955.",
        "answer_sentence",
    )
    assert target(replace(question, document_ids=("vale",))) is None


def test_without_gold_documents_only_a_unique_document_counts():
    mayor = Question("q", "이장은?", ("김보람",), split="test")
    assert target(mayor).evidence == "이장은 김보람으로, 사과를 기른다."
    assert target(Question("q", "Where?", ("Sorn",), split="test")).document_ids == ("vale",)
    both = (VALE, replace(BRIDGE, text="The bridge near Sorn opened."))
    assert target(Question("q", "Where?", ("Sorn",), split="test"), both) is None


def test_unanswerable_questions_have_no_target():
    assert target(Question("q", "Who taught 1931?", ("1931",), split="unanswerable")) is None


@pytest.mark.parametrize("document", [VALE, VILLAGE, replace(VALE, title=""), replace(VILLAGE, title="")])
def test_self_study_queries_hold_title_and_part_of_the_sentence(document):
    rng = random.Random(1)
    allowed = set(words(document.contents))
    for sentence in distinct_sentences(document):
        drawn = {self_study_query(document, sentence, rng) for _ in range(200)}
        assert all(query and set(words(query)) <= allowed for query in drawn)
        assert len(drawn) > 2
        used = set().union(*(words(query) for query in drawn))
        outside = set(words(document.contents)) - set(words(sentence)) - set(words(document.title))
        if document.title:
            assert not used & outside


def test_query_length_title_and_order_vary():
    names = "alder birch cedar douglas elm fir gum hazel ilex juniper".split()
    document = Document("d", "Forest Register Two", f"It lists the {' and '.join(names)}.")
    rng = random.Random(0)
    queries = [words(self_study_query(document, document.text, rng)) for _ in range(500)]
    shares = [len([word for word in query if word in [*names, "lists"]]) / 11 for query in queries]
    assert 0.25 <= min(shares) < 0.35 < 0.65 < max(shares) <= 0.75
    titles = [sum(word in ("forest", "register", "two") for word in query) for query in queries]
    assert titles.count(3) / 500 == pytest.approx(0.6, abs=0.1)
    assert titles.count(0) / 500 == pytest.approx(0.15, abs=0.07)
    orders = {tuple(word for word in query if word in ("alder", "birch", "cedar")) for query in queries}
    assert {("alder", "birch", "cedar"), ("cedar", "birch", "alder")} <= orders
    assert not {"it", "the", "and"} & set().union(*queries)


def test_self_study_targets_lead_to_their_sentence():
    made = self_study_queries(VALE, 2, random.Random(0), skip={"He died in Sorn."})
    assert {t.evidence for t in made} == {"Orrin Vale was a painter.", "He was born in 1931 at Sorn."}
    assert {(t.method, t.split, t.document_ids) for t in made} == {("self_study", "train", ("vale",))}
    assert len({t.id for t in made}) == len(made) == len({(t.query, t.evidence) for t in made})
    with pytest.raises(ValueError, match="no word"):
        self_study_query(VALE, "***", random.Random(0))
    assert distinct_sentences(Document("d", "", "*** Fine. Fine. ***")) == ["*** Fine.", "Fine."]


def test_self_study_of_a_document_does_not_depend_on_the_others():
    def of_vale(documents, seed):
        targets = build_targets(corpus(documents=documents), TargetSettings(), seed)
        return [t for t in targets if t.document_ids == ("vale",)]

    assert of_vale((VALE, BRIDGE), 0) == of_vale((VILLAGE, VALE), 0) != of_vale((VALE, BRIDGE), 1)


SUBJECTS = "harbour orchard quarry brewery lighthouse monastery windmill tannery shipyard observatory".split()
TRADES = "candles barrels lenses ropes cheeses sails bricks clocks violins kettles".split()


def village_corpus(count=40):
    documents = []
    for n in range(count):
        facts = [
            f"The {SUBJECTS[(n + k) % 10]} of Village{n} sold {TRADES[(n * 3 + k) % 10]} number{n}x{k} to merchants."
            for k in range(5)
        ]
        documents.append(Document(f"v{n}", f"Village{n}", " ".join([*facts, "Everyone there liked quiet evenings."])))
    return corpus(documents=tuple(documents))


def test_synthetic_questions_are_held_out_from_self_study():
    plain = village_corpus()
    questions = synthetic_questions(plain, 3, SplitSettings(dev=0.1, test=0.3))
    asked = replace(plain, questions=tuple(questions))
    counts = {split: sum(q.split == split for q in questions) for split in ("train", "dev", "test")}
    assert counts["train"] == 0
    assert counts["test"] / 200 == pytest.approx(0.3, abs=0.08)
    assert counts["dev"] / 200 == pytest.approx(0.1, abs=0.06)
    texts = {document.id: document.text for document in plain.documents}
    for question in questions:
        (document_id,) = question.document_ids
        assert question.evidence in texts[document_id]
        assert question.evidence != "Everyone there liked quiet evenings."  # stands in every document
        assert holds_answer(question.evidence, question.golden_answers, "en")
        assert not holds_answer(question.question, question.golden_answers, "en")
    held = {(q.document_ids[0], q.evidence) for q in questions}
    targets = build_targets(asked, TargetSettings(), 0)
    trained = {(t.document_ids[0], t.evidence) for t in targets if t.split == "train"}
    assert not held & trained
    assert len(held | trained) == 240
    assert sum(map(len, held_out_sentences(questions).values())) == len(held)
    assert {t.method for t in targets} == {"self_study"}
    assert audit_targets(asked, targets).leaks == 0
    first = questions[0].document_ids
    everything = self_study_queries(next(d for d in plain.documents if d.id in first), 1, random.Random(0))
    leaked = audit_targets(asked, [*targets, *everything]).leaked_evidence
    assert leaked.count == sum(q.document_ids == first for q in questions)


def test_synthetic_questions_do_not_depend_on_document_order():
    plain = village_corpus(10)
    turned = replace(plain, documents=plain.documents[::-1])
    assert {q.id: q for q in synthetic_questions(plain, 0)} == {q.id: q for q in synthetic_questions(turned, 0)}
    assert synthetic_questions(plain, 0) != synthetic_questions(plain, 1)


def test_lines_of_one_shape_are_asked_about_once():
    text = "\n".join(f"- Raise pump pressure valve to {n}.{n % 7}." for n in range(1, 40))
    plain = corpus(documents=(Document("log", "Changes", text),))
    asked = replace(plain, questions=tuple(synthetic_questions(plain, 0)))
    wordings = [tuple(words(question.question)) for question in asked.questions]
    assert len(wordings) == len(set(wordings)) > 2
    assert audit_targets(asked, build_targets(asked, TargetSettings(), 0)).leaks == 0


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_few_sentences_are_measured_all_the_same(lines):
    text = "\n".join(f"- Raise pump pressure valve to {n}." for n in range(lines))
    plain = corpus(documents=(Document("log", "Changes", text),))
    for seed in range(8):
        assert "test" in {question.split for question in synthetic_questions(plain, seed)}


def test_a_held_out_sentence_is_not_studied_in_another_spelling():
    held = "The mill at Sorn was built in 1877."
    text = f"{held} The mill at Sorn was built in 1877!"
    question = Question("s", "mill 1877", ("Sorn",), ("m",), held, "test", metadata={"self_study": True})
    asked = corpus(question, documents=(Document("m", "Mill", text),))
    assert audit_targets(asked, build_targets(asked, TargetSettings(), 0)).leaks == 0


def test_korean_documents_without_titles_get_synthetic_questions():
    text = " ".join(f"제{n}마을 우체국은 {1900 + n}년에 붉은 벽돌로 지어졌다." for n in range(20))
    questions = synthetic_questions(corpus(documents=(Document("ko", "", text),)), 0)
    assert {q.split for q in questions} == {"dev", "test"}
    assert {q.language for q in questions} == {"ko"}


def test_the_audit_counts_what_was_planted():
    questions = (
        Question("a", "When was Vale born?", ("1931",), ("vale",), split="train", fact_id="born"),
        Question("b", "when was VALE born", ("1931",), ("vale",), "He was born in 1931 at Sorn.", split="test"),
        Question("c", "Vale's year?", ("1931",), ("vale",), "Invented evidence.", split="dev", fact_id="born"),
        Question("d", "Lost?", ("Zanzibar",), ("vale",), split="test"),
        Question("e", "Is it open?", ("yes",), ("bridge",), "It opened in 1955.", split="train"),
        Question("f", "Nobody?", split="unanswerable"),
    )
    asked = corpus(*questions)
    audit = audit_targets(asked, build_targets(asked, TargetSettings(self_study_per_sentence=1), 0))
    assert audit.questions == {"dev": 1, "test": 2, "train": 2}
    assert audit.unanswerable == 1
    assert audit.coverage == {
        "dev": {"gold": 1.0, "any": 1.0},
        "test": {"gold": 0.5, "any": 0.5},
        "train": {"answer_sentence": 0.5, "gold": 0.5, "any": 1.0},
    }
    assert audit.self_study_targets == sum(len(distinct_sentences(document)) for document in asked.documents)
    found = {
        name: value["examples"]
        for name, value in asdict(audit).items()
        if isinstance(value, dict) and "examples" in value
    }
    assert found == {
        "without_target": ("d",),
        "duplicate_questions": ("b",),
        "duplicate_targets": ("b",),
        "leaked_questions": ("a", "b"),
        "leaked_evidence": ("a", "b"),
        "leaked_facts": ("a", "c"),
        "answer_not_in_evidence": ("c",),
        "evidence_not_in_documents": ("c",),
    }
    assert audit.leaks == 6
    assert audit.length_percentiles["p100"] == 7
    assert audit_targets(corpus(), []).length_percentiles == {}


def test_questions_written_by_an_llm_are_audited_as_training_questions():
    questions = (
        Question("a", "When was Vale born?", ("1931",), ("vale",), "He was born in 1931 at Sorn.", split="test"),
        Question("b", "What does Tarn Bridge span?", ("Ostel",), ("bridge",), split="train"),
        Question("n", "Who painted Tarn Bridge?", split="unanswerable"),
    )

    def written(name, query, evidence, document="vale"):
        return EvidenceTarget(f"llm-{name}", query, (document,), evidence, "llm", "train")

    asked = corpus(*questions)
    own = build_targets(asked, TargetSettings(self_study_per_sentence=1), 0)
    plain = audit_targets(asked, own)
    clean = audit_targets(asked, [*own, written("clean", "What was Vale?", "Orrin Vale was a painter.")])
    assert (clean.self_study_targets, clean.llm_targets, clean.leaks) == (plain.self_study_targets, 1, 0)
    assert clean.coverage == plain.coverage
    repeated = written("train", "What does Tarn Bridge span", "Tarn Bridge spans the Ostel.", "bridge")
    assert audit_targets(asked, [*own, repeated]).leaks == 0, "a question of train may be asked again"
    same_words = written("words", "when was VALE born", "Orrin Vale was a painter.")
    same_words_as_none = written("none", "Who painted Tarn Bridge", "It opened in 1955.", "bridge")
    same_evidence = written("evidence", "Vale's year of birth?", "He was born in  1931 at Sorn.")
    elsewhere = written("elsewhere", "Which year?", "He was born in 1931 at Sorn.", "bridge")
    audit = audit_targets(asked, [*own, same_words, same_words_as_none, same_evidence, elsewhere])
    assert audit.leaked_questions.examples == ("a", "n", "llm-words", "llm-none")
    assert audit.leaked_evidence.examples == ("a", "llm-evidence")


def test_llm_questions_about_held_out_sentences_of_a_corpus_without_questions_are_leaks():
    plain = village_corpus(10)
    questions = synthetic_questions(plain, 0)
    asked = replace(plain, questions=tuple(questions))
    held = questions[0]
    written = EvidenceTarget("llm-1", "What was sold?", held.document_ids, held.evidence, "llm", "train")
    leaked = audit_targets(asked, [*build_targets(asked, TargetSettings(), 0), written]).leaked_evidence
    assert set(leaked.examples) == {held.id, "llm-1"}
