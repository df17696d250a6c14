"""Clues are found in whatever list a model writes, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.memorag.clue_parser import LONGEST_CLUE, MOST_CLUES, parse_clues, strip_thinking
from zrag_core.text import evidence_tokens, words

QUESTION = "Where is the prize of Orla Venn awarded?"
CLUES = ("Which prize did Orla Venn win?", "The Halden Prize is awarded in", "Where is the Halden Prize awarded?")

STYLES = [
    "{0}\n{1}\n{2}",
    "1. {0}\n2. {1}\n3. {2}",
    "1) {0}\n\n2) {1}\n\n\n3) {2}\n",
    "(1) {0}\n(2) {1}\n(3) {2}",
    "- {0}\n- {1}\n- {2}",
    "• {0}\n  • {1}\n • {2}",
    "① {0}\n② {1}\n③ {2}",
    '1. "{0}"\n2. “{1}”\n3. 「{2}」',
    "**{0}**\n* **{1}**\n* **{2}**",
    "Here are the clues:\n\n1. {0}\n2. {1}\n3. {2}",
    "```\n{0}\n{1}\n{2}\n```",
    "**Clue 1:** {0}\n**Clue 2:** {1}\n**Clue 3:** {2}",
    "Clue 1 (surrogate question): {0}\nClue 2 (text span): {1}\nClue 3 (surrogate question): {2}",
    "Surrogate question: {0}\nText span: {1}\nSurrogate question 2: {2}",
    "- 단서 1: {0}\n- 단서 2: {1}\n- 단서 3: {2}",
    "<think>\nWhich prize? Hmm.\n- Perhaps the Halden.\n</think>\n\n{0}\n{1}\n{2}",
    "{0}\n{0}\n1. {1}\n{2}\n" + QUESTION,
    "{0}\r\n{1}\r\n{2}",
]


@pytest.mark.parametrize("style", STYLES)
def test_every_usual_list_gives_the_same_clues(style):
    assert parse_clues(style.format(*CLUES), QUESTION, "a draft") == CLUES


@pytest.mark.parametrize("style", STYLES)
def test_korean_clues_in_the_same_lists(style):
    clues = ("한소율이 받은 상은 무엇인가?", "해림상은 해마다", "해림상을 주는 곳은 어디인가?")
    assert parse_clues(style.format(*clues), "한소율은 어디에서 상을 받았나?", "초안") == clues


@pytest.mark.parametrize(
    "line",
    [
        "3.5 metres of snow fell",
        "1804 was the year of the harbour",
        "10:30 is when the ferry leaves",
        "Question time is a radio programme",
        "Spanish is spoken in Pell",
        "'tis the motto of the Quill Works",
        "-40 degrees were measured",
        "본문리는 바닷가 마을이다",
    ],
)
def test_numbers_and_words_that_only_look_like_marks_stay(line):
    assert parse_clues(line, QUESTION, "") == (line,)


def test_the_question_itself_is_no_clue_however_it_is_written():
    assert parse_clues("where is the prize of ORLA VENN awarded\nHalden Prize", QUESTION, "") == ("Halden Prize",)


def test_more_than_three_are_cut_in_their_order():
    assert parse_clues("a1\nb2\nc3\nd4\ne5", QUESTION, "") == ("a1", "b2", "c3")


def test_long_lines_are_cut_at_a_word():
    (clue,) = parse_clues("harbour " * 200, QUESTION, "")
    assert evidence_tokens(clue) <= LONGEST_CLUE
    assert set(clue.split()) == {"harbour"}
    (korean,) = parse_clues("등대" * 300, "섬?", "")
    assert evidence_tokens(korean) <= LONGEST_CLUE
    assert set(korean) == {"등", "대"}


@pytest.mark.parametrize(
    "text", ["", "\n \n", "Clues:", "1.\n2.\n3.", "---", "```\n```", QUESTION, "<think>unfinished"]
)
def test_without_a_clue_the_draft_is_the_clue(text):
    assert parse_clues(text, QUESTION, "She won the\nHalden Prize.") == ("She won the Halden Prize.",)
    assert parse_clues(text, QUESTION, "") == ()
    assert parse_clues(text, QUESTION, QUESTION) == ()


def test_thinking_is_no_part_of_a_draft():
    assert strip_thinking("<think>let me see</think>\n\nThe Halden Prize.") == "The Halden Prize."
    assert strip_thinking("<think>let me see") == ""


@given(text=st.text(), question=st.text(max_size=40), draft=st.text(max_size=60))
def test_whatever_the_model_writes(text, question, draft):
    clues = parse_clues(text, question, draft)
    assert len(clues) <= MOST_CLUES
    keys = [tuple(words(clue)) for clue in clues]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    assert tuple(words(question)) not in keys
    assert all("\n" not in clue and evidence_tokens(clue) <= LONGEST_CLUE for clue in clues)
