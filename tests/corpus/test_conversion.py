"""Files as people have them, turned into text with headings."""

import io
from email.message import EmailMessage

import pytest

from zrag_core.corpus.conversion.kinds import CONVERTERS
from zrag_core.corpus.conversion.text_page import CannotConvert
from zrag_core.sentences import split_sentences


def convert(content, suffix):
    return CONVERTERS[suffix](content if isinstance(content, bytes) else content.encode(), f"file{suffix}")


def sections(page):
    """(headings, text) of the sections that hold text."""
    found = [(section.path, page.text[section.start : section.end].strip()) for section in page.sections]
    return [(path, text) for path, text in found if text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\nUse ```x``` so.\n\n## B\n\nMore.", [(("A",), "Use ```x``` so."), (("A", "B"), "More.")]),
        (
            "# A\n\n- ```sh\n  # not a heading\n  ```\n\n## B\n\nMore.",
            [(("A",), "- ```sh\n  # not a heading\n  ```"), (("A", "B"), "More.")],
        ),
        ("```\n```python\n# no\n```\n\n# A\n\nText.", [((), "```\n```python\n# no\n```"), (("A",), "Text.")]),
        ("# A { #anchor }\n\nText.\n\n## B {.lead}\n\nMore.", [(("A",), "Text."), (("A", "B"), "More.")]),
        ("<!--\n# hidden\n\nsecret\n-->\n# A\n\nText <!-- aside -->here.", [(("A",), "Text here.")]),
        ("# A\n\n```html\n<!-- kept -->\n```", [(("A",), "```html\n<!-- kept -->\n```")]),
        ("Title\n=====\n\nText.\n\nPart\n----\n\nMore.", [(("Title",), "Text."), (("Title", "Part"), "More.")]),
        ("# The *old* `mill` [here](x.md)\n\nText.", [(("The old mill here",), "Text.")]),
    ],
)
def test_markdown(text, expected):
    assert sections(convert(text, ".md")) == expected


def test_front_matter_gives_the_title_and_is_no_text():
    page = convert("---\ntitle: Opening hours\n# a comment\ntags: [a]\n---\n\nWe open at nine.\n", ".md")
    assert page.title == "Opening hours"
    assert sections(page) == [((), "We open at nine.")]


def test_lines_of_dashes_around_text_are_no_front_matter():
    assert "Just text" in convert("---\nJust text: here: there\n---\n\nMore.\n", ".md").text


def test_html_keeps_headings_lists_and_tables_and_leaves_out_what_is_no_text():
    page = convert(
        "<html><head><title>Shop &amp; more</title><style>p{}</style></head><body><nav>Home</nav><h1>Delivery</h1>"
        "<p>We ship <b>daily</b>.</p><table><tr><th>Zone</th><th>Price</th></tr><tr><td>Islands</td><td>8.90</td></tr>"
        "</table><script>var x;</script><h2>Returns</h2><ul><li>Within 45 days.</li></ul></body></html>",
        ".html",
    )
    assert page.title == "Shop & more"
    assert [path for path, _ in sections(page)] == [("Delivery",), ("Delivery", "Returns")]
    assert "var x" not in page.text
    assert "Home" not in page.text
    assert "Zone: Islands, Price: 8.90" in [s.reading for s in split_sentences(sections(page)[0][1])]


def test_an_html_page_in_another_encoding_is_read_as_it_says():
    page = convert(
        '<html><head><meta charset="euc-kr"></head><body><p>관리비 안내</p></body></html>'.encode("euc-kr"), ".html"
    )
    assert page.text == "관리비 안내"


def test_word_documents_keep_headings_and_tables():
    from docx import Document

    made = Document()
    made.add_heading("Rules", 1)
    made.add_paragraph("Close the gate.")
    made.add_heading("Fees", 2)
    table = made.add_table(rows=2, cols=2)
    for cell, text in zip(
        [c for row in table.rows for c in row.cells], ["Plot", "Fee", "Small", "40 euros"], strict=True
    ):
        cell.text = text
    file = io.BytesIO()
    made.save(file)
    page = convert(file.getvalue(), ".docx")
    assert [path for path, _ in sections(page)] == [("Rules",), ("Rules", "Fees")]
    assert "40 euros" in sections(page)[1][1]


def make_pdf(*pages, password=None):
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    canvas = Canvas(file, encrypt=password)
    canvas.setTitle("Boiler manual")
    for lines in pages:
        text = canvas.beginText(72, 700)
        for line in lines:
            text.textLine(line)
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def test_a_pdf_is_read_page_by_page():
    page = convert(make_pdf(["Bleed the radia-", "tors in autumn."], ["Call 0123 at night."]), ".pdf")
    assert page.title == "Boiler manual"
    assert sections(page) == [(("", "p. 1"), "Bleed the radiators in autumn."), (("", "p. 2"), "Call 0123 at night.")]


def test_pages_without_text_are_counted():
    assert convert(make_pdf(["Text."], []), ".pdf").notes == ("1 of 2 pages have no text",)


def test_an_e_mail_has_its_headers_and_names_its_attachments():
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Mira <mira@farm.example>", "all@farm.example", "Seed order"
    message.set_content("We order on Friday.\n")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="list.pdf")
    page = convert(message.as_bytes(), ".eml")
    assert page.title == "Seed order"
    assert page.text == "From: Mira <mira@farm.example>\nTo: all@farm.example\n\nWe order on Friday."
    assert page.notes == ("attachments not read: list.pdf",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_row_of_a_table_says_what_its_columns_are(delimiter):
    text = "\n".join(delimiter.join(row) for row in [("part", "price"), ("Fuse", "0.40"), ("", ""), ("Lamp", "")])
    assert convert(text, ".csv").text == "part: Fuse, price: 0.40\n\npart: Lamp"


def test_json_lines_are_texts_under_their_titles_or_fields():
    page = convert('{"title": "Kettle", "text": "Holds\u20281.7 litres."}\n\n{"name": "Axe", "price": 40}\n', ".jsonl")
    assert sections(page) == [(("Kettle",), "Holds\u20281.7 litres."), (("Axe",), "price: 40")]


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        (b"%PDF-1.4 no", ".pdf", "not a PDF"),
        (b"no", ".docx", "not a Word document"),
        (b"a\x00b", ".txt", "null bytes"),
        (b"<html><script>x</script></html>", ".html", "no text"),
        (b"[1]\n", ".jsonl", "line 1 is not an object"),
        (b"no headers at all", ".eml", "not an e-mail"),
    ],
)
def test_what_cannot_be_read_says_why(content, suffix, reason):
    with pytest.raises(CannotConvert, match=reason):
        convert(content, suffix)


def test_scanned_and_locked_pdfs_say_so():
    with pytest.raises(CannotConvert, match="OCR"):
        convert(make_pdf([]), ".pdf")
    with pytest.raises(CannotConvert, match="password"):
        convert(make_pdf(["Text."], password="secret"), ".pdf")
