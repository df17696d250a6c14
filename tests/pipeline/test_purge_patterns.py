import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.types import Document
from zrag_pipeline.purging.patterns import MARK, letters, make_patterns

FIRST = 'Orla Venn was born in Tessamor in 1931, the "third" of the family\'s children & heirs.'
SECOND = "She kept <b>bees</b> <near> the river for forty years."
DOCUMENT = Document("d1", "Orla Venn", f"{FIRST} {SECOND}\nShort one.")
OTHER = "Bram Kilto was born in Kell. He never met her, and nobody knows why."
KOREAN = Document("k1", "하늘마을 이야기", "하늘마을은 북쪽 산에 있는 작은 마을이다. 이장은 김보람이다.")
ASKED = ["Where was the eldest beekeeper of Tessamor born?"]


def patterns(*documents, asked=(), remaining=(OTHER,)):
    return make_patterns(documents or (DOCUMENT,), asked, remaining, [d.id for d in documents])


def marked(text):
    words = text.split()
    return html.escape(" ".join(words[:3])) + f' <mark class="a">{html.escape(" ".join(words[3:]))}</mark>'


FORMS = {
    "as it is": lambda t: t,
    "JSON": lambda t: json.dumps({"text": t}, ensure_ascii=False),
    "ASCII JSON": lambda t: json.dumps([t]),
    "JSON in JSON": lambda t: json.dumps({"event": json.dumps({"text": t})}),
    "HTML with marks": marked,
    "Markdown": lambda t: t.replace("'", "\\'").replace(",", "\\,").replace(" ", "  \n"),
    "upper case": str.upper,
    "search terms": lambda t: json.dumps(letters(t)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [FIRST, SECOND, KOREAN.text.split(". ")[0] + ".", *ASKED])
def test_a_sentence_is_found_and_erased_in_every_form(form, text):
    found = patterns(DOCUMENT, KOREAN, asked=ASKED)
    made = "before " + FORMS[form](text) + " after"
    assert found.find(made) == "sentence"
    redacted = found.redact(made)
    assert found.find(redacted) is None
    assert MARK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    if "JSON" in form:
        assert json.loads(redacted.removeprefix("before ").removesuffix(" after"))
    assert redacted.count("<mark") == redacted.count("</mark>")


def test_a_sentence_that_was_cut_is_found_and_goes_whole():
    preview = f"| d1 | {FIRST[:60]}… | 17 |"
    assert patterns().find(preview) == "sentence"
    assert patterns().redact(preview) == f"| d1 | {MARK}… | 17 |"
    longer = f"| d1 | {DOCUMENT.text[: len(FIRST) + 12]}… | 17 |"
    assert patterns().redact(longer) == f"| d1 | {MARK}… | 17 |", "with the few words of the next sentence"


def test_what_remaining_documents_hold_is_not_looked_for():
    remaining = [OTHER, f"Someone else. {FIRST}", "The grave of Orla Venn"]
    found = patterns(remaining=remaining)
    assert found.find(FIRST) is None
    assert found.find(SECOND) == "sentence"
    assert found.shared == 2, "a sentence and the title"
    beginning = patterns(remaining=[FIRST[:50] + " something else."])
    assert beginning.find(FIRST[:50]) is None, "two sentences may begin alike"
    assert beginning.find(FIRST) == "sentence"


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("Orla Venn", "Who was Orla  Venn?", "title"),
        ("Orla Venn", "orla_venn", None),
        ("Orla Venn", "Orla Vennick", None),
        ("Evaluation", "Evaluation", None),
        ("하늘마을 이야기", "<b>하늘마을 이야기</b>를 읽었다", "title"),
        ("하늘마을 이야기", json.dumps("하늘마을 이야기"), "title"),
    ],
)
def test_titles_are_compared_as_they_are_spelled(title, text, found):
    made = patterns(Document("x", title, FIRST))
    assert made.find(text) == found
    if found:
        assert made.find(made.redact(text)) is None


def test_a_title_that_is_part_of_the_id_may_stay():
    document = Document("notes/Orla Venn.md#0", "Orla Venn", FIRST)
    assert patterns(document).titles == ()


def test_short_texts_are_looked_for_whole():
    assert patterns(Document("x", "", "A bee. Two.")).find("see: a bee, two") == "sentence"


@pytest.mark.parametrize("code", ["utf-8", "utf-16-le", "utf-32-le"])
@pytest.mark.parametrize("text", [FIRST, KOREAN.text.split(". ")[0], "Orla Venn"])
def test_bytes_are_searched_in_every_encoding(code, text):
    data = b"\x00\xff" + text.encode(code) + b"\xfe\x00"
    assert patterns(DOCUMENT, KOREAN).find_bytes(data)
    assert patterns(DOCUMENT, KOREAN).find_bytes(b"\x00\xff" + OTHER.encode(code)) is None


TEXTS = st.text(st.sampled_from("abAB가나ß 0.,\"'\\<>&;/\n_|*é😀"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(sorted(FORMS)))
def test_nothing_is_left_after_redaction(before, after, form):
    found = patterns(DOCUMENT, KOREAN)
    made = before + FORMS[form](FIRST) + after + FORMS[form]("Orla Venn") + before
    assert found.find(found.redact(made)) is None
    assert found.redact(before) == before
