from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zrag_core.corpus.offsets import evidence_offsets, unsupported_text
from zrag_core.corpus.passages import split_long_documents, split_text
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.sentences import split_sentences
from zrag_core.text import evidence_tokens

WORDS = st.sampled_from(
    ["mill", "Ostel", "사과나무는", "1904.", "Why?", "rye,", "\n\n", "!", "x" * 90, "가" * 40, "😀"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join).filter(str.strip)


@given(TEXTS, st.integers(min_value=1, max_value=40))
@example("a" * 200, 3)
def test_pieces_hold_every_visible_character_once_within_the_limit(text, limit):
    pieces = split_text(text, limit)
    assert all(text[p.start : p.end] == p.text for p in pieces)
    assert all(evidence_tokens(p.text) <= limit for p in pieces)
    assert all(a.end <= b.start for a, b in pairwise(pieces))
    assert "".join("".join(p.text.split()) for p in pieces) == "".join(text.split())


@given(TEXTS, st.integers(min_value=60, max_value=120))
def test_sentences_that_fit_are_never_cut(text, limit):
    pieces = split_text(text, limit)
    for sentence in split_sentences(text):
        if evidence_tokens(sentence.text) <= limit:
            assert any(p.start <= sentence.start and sentence.end <= p.end for p in pieces)


def test_a_sentence_that_is_too_long_is_cut_between_words():
    text = "lantern " * 50 + "lantern."
    for piece in split_text(text, 10):
        assert set(piece.text.split()) <= {"lantern", "lantern."}


def test_pieces_are_about_even():
    text = " ".join(f"This is sentence number {n:03d} here." for n in range(41))
    limit = (
        evidence_tokens(text) // 2 - 10
    )  # filling each piece to the brim would leave a last one of a sentence or two
    sizes = [evidence_tokens(piece.text) for piece in split_text(text, limit)]
    assert len(sizes) == 3
    assert min(sizes) > 0.7 * max(sizes)


LONG = "Anna keeps bees. The hive stands in Orm. Bees like clover. Winter was mild in 1990. Orm has a market."


def corpus(*questions, documents=None):
    return Corpus("c", documents or (Document("d", "T", LONG), Document("short", "S", "Short one.")), questions)


def test_passages_lead_back_to_their_document_and_short_documents_stay():
    result = split_long_documents(corpus(), 10)
    assert result.documents[-1] == Document("short", "S", "Short one.")
    passages = result.documents[:-1]
    assert [p.id for p in passages] == [f"d#{n}" for n in range(len(passages))]
    assert len(passages) > 2
    for passage in passages:
        assert passage.source_id == "d"
        assert LONG[passage.source_start : passage.source_start + len(passage.text)] == passage.text
    assert result.notes == (f"passage_tokens: 1 document longer than 10 tokens became {len(passages)} passages",)


def test_a_passage_of_a_passage_still_counts_in_the_source():
    documents = (Document("file#0", "T", LONG, source_id="file", source_start=100),)
    question = Question("q", "?", ("x",), ("file#0",), evidence="Anna keeps bees.")
    result = split_long_documents(corpus(question, documents=documents), 10)
    for passage in result.documents:
        assert passage.source_id == "file"
        assert LONG[passage.source_start - 100 :].startswith(passage.text)
    assert result.questions[0].document_ids == ("file#0#0",)


def gold(question, limit=10):
    result = split_long_documents(corpus(question), limit)
    texts = {d.id: d.text for d in result.documents}
    return [texts[document_id] for document_id in result.questions[0].document_ids]


def test_questions_follow_their_evidence():
    question = Question("q", "?", ("Orm",), ("short", "d"), evidence="Winter was mild  in 1990.")
    short, passage = gold(question)
    assert short == "Short one."
    assert "Winter was mild in 1990." in passage


def test_questions_follow_joined_evidence_into_several_passages():
    evidence = "The hive stands in Orm. Short one. Winter was mild in 1990."
    found = gold(Question("q", "?", ("x",), ("d",), evidence=evidence))
    assert len(found) == 2
    assert "hive" in found[0]
    assert "Winter" in found[1]


def test_without_evidence_they_follow_the_answer_else_all_passages():
    found = gold(Question("q", "?", ("Orm",), ("d",)))
    assert len(found) == 2
    assert all("Orm" in text for text in found)
    everything = gold(Question("q", "?", ("Zanzibar",), ("d",), evidence="Not in there."))
    assert "".join("".join(everything).split()) == "".join(LONG.split())


def test_an_id_that_a_passage_would_take_is_an_error():
    documents = (Document("d", "T", LONG), Document("d#1", "", "Mine."))
    with pytest.raises(CorpusError, match="d#1"):
        split_long_documents(corpus(documents=documents), 10)


def test_evidence_joined_over_a_hidden_sentence_end_is_found():
    one, two = "It will appear on the list\n", "Orm has a market. Bees like clover."
    joined = "It will appear on the list Orm has a market."
    assert evidence_offsets(two, joined) == [(0, 17)]
    assert unsupported_text(joined, [one, two]) == ""
    assert unsupported_text(joined + " Invented words stay.", [one, two]) == "Invented words stay."


def test_rows_of_a_table_cut_in_two_keep_its_header_in_the_title_and_stay_rows():
    rows = "\n".join(f"| Occasion {n} | {n} days of leave |" for n in range(12))
    document = Document("d", "Leave", f"| Occasion | Days |\n|---|---|\n{rows}")
    corpus = split_long_documents(Corpus("c", (document,), ()), 60)
    first, second, *_ = corpus.documents
    assert (first.title, second.title) == ("Leave", "Leave (Occasion, Days)")
    assert [s.text for part in corpus.documents for s in split_sentences(part.text)][1:] == rows.split("\n")[1:]
    assert split_sentences(second.text)[0].reading.startswith("Occasion ")
