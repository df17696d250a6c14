"""Sentences of texts as people write them, and what each says by itself."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.sentences import split_sentences

TEXT = st.text(st.sampled_from(list("ab Z.!? \n\t\"')1,한국어을é漢字。…-*#|:`가[<>]Q")), max_size=200)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. J. Smith met Mr. Lee at 3.5 km. He left.", ["Dr. J. Smith met Mr. Lee at 3.5 km.", "He left."]),
        (
            "Call the office (ext. 11). Take it to the max. Then rest.",
            ["Call the office (ext. 11).", "Take it to the max.", "Then rest."],
        ),
        ('"Yes!" he said. Then he left.', ['"Yes!" he said.', "Then he left."]),
        ("그는 서울에서 태어났다. 1990년에 상을 받았다.", ["그는 서울에서 태어났다.", "1990년에 상을 받았다."]),
        ("Title\n\nBody goes on", ["Title", "Body goes on"]),
        ("- one\n- two", ["- one", "- two"]),
        ("東京は都市です。人が多い。", ["東京は都市です。", "人が多い。"]),
        (
            "항구 도시이다.1204년에 세워졌다.소금 상인이 살았다.",
            ["항구 도시이다.", "1204년에 세워졌다.", "소금 상인이 살았다."],
        ),
        ("यह एक शहर है। वह बड़ा है।", ["यह एक शहर है।", "वह बड़ा है।"]),
        ("no end mark", ["no end mark"]),
        ("   ", []),
        # Numbers of lists and dates end nothing.
        ("1. Switch it off. Wait.\n2. Open it.", ["1. Switch it off.", "Wait.", "2. Open it."]),
        (
            "신청은 2025. 3. 15.(토)까지입니다. 문의는 관리사무소로.",
            ["신청은 2025. 3. 15.(토)까지입니다.", "문의는 관리사무소로."],
        ),
        ("It opened on 3. 5. 2019. It closed.", ["It opened on 3. 5. 2019.", "It closed."]),
        # Lines with a name and a colon, but not the lines of wrapped prose.
        ("일시: 3월 1일\n장소: 관리사무소", ["일시: 3월 1일", "장소: 관리사무소"]),
        (
            "What the committee decided last week, after a long talk, was\nthis: nothing changes.",
            ["What the committee decided last week, after a long talk, was\nthis: nothing changes."],
        ),
        # An index on a line of its own is no list.
        (
            "On Earth it is called dioxygen, O\n2. It is common.",
            ["On Earth it is called dioxygen, O\n2.", "It is common."],
        ),
        ("Steps\n1. Fill it\nto the line\n2. Wait", ["Steps", "1. Fill it\nto the line", "2. Wait"]),
        ("① 신분증\n② 사진", ["① 신분증", "② 사진"]),
    ],
)
def test_sentences(text, expected):
    assert [span.text for span in split_sentences(text)] == expected


@given(TEXT)
def test_sentences_are_verbatim_ordered_and_lose_nothing(text):
    spans = split_sentences(text)
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert "".join("".join(span.text.split()) for span in spans) == "".join(text.split())
    assert all(span.reading for span in spans)


def readings(text):
    return [span.reading for span in split_sentences(text)]


def test_a_row_of_a_table_is_read_with_its_header():
    text = "Tariffs:\n\n| port | fee |\n|---|---:|\n| Orvel | 110 |\n| Brack \\| North | 147 |\n\nAll in marks."
    spans = split_sentences(text)
    assert [span.text for span in spans[1:3]] == [
        "| port | fee |\n|---|---:|\n| Orvel | 110 |",
        "| Brack \\| North | 147 |",
    ]
    assert [span.reading for span in spans] == [
        "Tariffs:",
        "Tariffs: port: Orvel, fee: 110",
        "Tariffs: port: Brack | North, fee: 147",
        "All in marks.",
    ]


def test_an_item_is_read_with_the_line_that_leads_into_its_list():
    text = (
        "Bring these:\n\n- a **passport**\n- photos:\n  - two in colour. Not older than a year.\n"
        "- a [form](f.pdf)\n\nCome early."
    )
    assert readings(text) == [
        "Bring these:",
        "Bring these: a passport",
        "Bring these: photos:",
        "photos: two in colour.",
        "photos: Not older than a year.",
        "Bring these: a form",
        "Come early.",
    ]


def test_an_answer_is_read_with_its_question():
    text = "Q: Can I bring a dog?\nA: Yes, on a lead.\n\nQ. 주차할 수 있나요?\nA. 두 대까지 됩니다."
    assert readings(text) == [
        "Can I bring a dog?",
        "Can I bring a dog? Yes, on a lead.",
        "주차할 수 있나요?",
        "주차할 수 있나요? 두 대까지 됩니다.",
    ]


def test_a_title_in_brackets_is_read_with_what_stands_below_it():
    assert readings("[사물함]\n비워 주십시오.\n남은 것은 버립니다.\n[환불]\n2주 안에 입금합니다.") == [
        "사물함",
        "사물함: 비워 주십시오.",
        "사물함: 남은 것은 버립니다.",
        "환불",
        "환불: 2주 안에 입금합니다.",
    ]


def test_code_is_read_in_pieces_of_a_few_lines_without_its_fence():
    lines = [f"step {n}" for n in range(8)]
    text = "\n".join(["Then run:", "", "```bash", *lines, "", "# done. Really", "```", "", "That is all."])
    spans = split_sentences(text)
    assert [span.reading for span in spans] == [
        "Then run:",
        "Then run: " + "\n".join(lines[:6]),
        "Then run: " + "\n".join(lines[6:]),
        "Then run: # done. Really",
        "That is all.",
    ]
    assert spans[1].text.startswith("```bash")
    assert spans[3].text.endswith("```")


def test_a_fence_that_is_never_closed_is_text():
    assert readings("Use ```x``` here. Then stop.") == ["Use x here.", "Then stop."]
    assert readings("```\nOne. Two.") == ["One.", "Two."]


def test_marks_without_a_word_belong_to_what_follows():
    assert [span.text for span in split_sentences("---\n\nOne.\n\n***\n\nTwo.\n\n---")] == [
        "---\n\nOne.",
        "***\n\nTwo.\n\n---",
    ]


def test_a_line_break_in_html_is_read_as_a_space():
    (row,) = split_sentences(
        "| Setting | Meaning |\n|---|---|\n| `port`<br>(optional) | where it listens<br/>on loopback |"
    )
    assert row.reading == "Setting: port (optional), Meaning: where it listens on loopback"
