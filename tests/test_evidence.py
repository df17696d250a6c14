from hypothesis import given
from hypothesis import strategies as st

from zrag_core.evidence import Retrieved, Segment, fill_budget, without_repetition
from zrag_core.sentences import split_sentences
from zrag_core.text import evidence_tokens

DOCUMENT = "Alpha is first. Beta comes second. 감마는 세 번째다. Delta closes the list of four."


@st.composite
def retrieved(draw):
    segments = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(DOCUMENT) - 1))
        end = draw(st.integers(start + 1, len(DOCUMENT)))
        segments.append(Segment("d", start, end, DOCUMENT[start:end], draw(st.floats(-5, 0))))
    return Retrieved("q", ("d",), (0.0,), tuple(segments))


@given(retrieved(), st.integers(1, 60))
def test_evidence_fits_and_its_segments_are_verbatim(item, budget):
    evidence = fill_budget(item, budget)
    assert evidence.tokens == evidence_tokens(evidence.text) <= budget
    for segment in evidence.segments:
        assert DOCUMENT[segment.start : segment.end] == segment.text
    assert evidence.text == "\n".join(segment.text for segment in evidence.segments)


@given(retrieved(), st.integers(1, 30))
def test_a_larger_budget_only_adds(item, budget):
    assert fill_budget(item, budget + 10).text.startswith(fill_budget(item, budget).text.rstrip())


def test_best_segments_first_and_the_last_one_cut_at_a_word():
    item = Retrieved(
        "q", segments=(Segment("d", 16, 34, DOCUMENT[16:34], 2.0), Segment("d", 0, 15, DOCUMENT[:15], 1.0))
    )
    assert fill_budget(item, 100).text == "Beta comes second.\nAlpha is first."
    assert fill_budget(item, 7).text == "Beta comes second.\nAlpha is"


def test_free_text_is_cut_and_refusals_are_empty():
    assert fill_budget(Retrieved("q", text="one two three"), 2).text == "one two"
    assert fill_budget(Retrieved("q", text="one two three", answerable=False), 2).text == ""


def _segments(document_id, text):
    return [Segment(document_id, s.start, s.end, s.text, 0.0, s.explained) for s in split_sentences(text)]


def test_a_line_that_leads_into_what_is_found_is_not_found_beside_it():
    lead_in, *items = _segments("d", "Before you start you need:\n\n- a key\n- a card: blue or red\n")
    assert [own.shown for own in without_repetition([lead_in, items[1], items[0]])] == [
        "Before you start you need: a card: blue or red",
        "Before you start you need: a key",
    ]
    assert without_repetition([lead_in]) == (lead_in,), "alone it is all that there is"
    elsewhere = _segments("e", "Before you start you need:\n\n- a key\n")[1]
    assert without_repetition([lead_in, elsewhere]) == (lead_in, elsewhere)


def test_code_says_what_it_is_for_once():
    lead_in, code = _segments("d", "If it is too old:\n```\npip install it\n```\n")
    assert without_repetition([lead_in, code]) == (code,)


def test_what_stands_in_two_places_is_found_once_where_it_ranks_higher():
    better, other, worse = (
        Segment(name, 0, 4, text, 0.0) for name, text in (("a", "Same."), ("a", "Else."), ("b", "Same."))
    )
    assert without_repetition([better, other, worse]) == (better, other)
    assert without_repetition([worse, other, better]) == (worse, other)
