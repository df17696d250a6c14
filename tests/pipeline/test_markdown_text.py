"""Texts of a corpus inside Markdown are text."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from zrag_pipeline.platform.asset_helpers import preview
from zrag_pipeline.platform.markdown_text import markdown_text, plain_text

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "![beacon](http://127.0.0.1/x.png)",
    "[click](javascript:alert(1))",
    "a | b `c` **d** _e_ ~~f~~ # g",
    "&lt;b&gt; &amp; \\ $x$",
    "see http://127.0.0.1/x and www.example.org <http://a.b>",
]


def shown(markdown):
    """The text that a reader sees, and the kinds of what stands in it."""
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    (inline,) = [token for token in parser.parse(markdown) if token.type == "inline"]
    return "".join(child.content for child in inline.children), {child.type for child in inline.children}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(text):
    assert shown(f"Found: {markdown_text(text)}") == (f"Found: {' '.join(text.split())}", {"text"} | _escapes(text))


@given(st.text("ab<>[]()!`*_|~&#\\:/ \n", min_size=1, max_size=30))
def test_any_text_is_shown_as_it_is(text):
    told, kinds = shown(f"Found: .{markdown_text(text)}.")
    assert told == f"Found: .{' '.join(text.split())}."
    assert kinds <= {"text", "text_special"}


@given(st.one_of(st.sampled_from(HOSTILE), st.text("ab<>[]()!`*_|~&#:;.+=-/\\ www\n", max_size=30)))
def test_the_terminal_gets_the_text_back(text):
    assert plain_text(markdown_text(text)) == " ".join(text.split())


def test_a_preview_keeps_its_table():
    lines = preview(pd.DataFrame({"title": HOSTILE, "n": range(len(HOSTILE))})).value.splitlines()
    assert len(lines) == len(HOSTILE) + 2
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    assert [token.type for token in tokens].count("td_open") == 2 * len(HOSTILE)
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special"}


def _escapes(text):
    return set() if markdown_text(text) == text else {"text_special"} & shown(markdown_text(text))[1]
