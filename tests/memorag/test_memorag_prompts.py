"""The templates of both languages ask for the same things."""

import subprocess
import sys

import pytest

from zrag_core.errors import AnsweringError
from zrag_core.memorag.prompts import LANGUAGES, load_template
from zrag_core.text import detect_language

FIELDS = {
    "recall": {
        "memory": {"memory"},
        "documents": set(),
        "documents.end": set(),
        "draft": {"question"},
        "clues": {"question", "draft"},
    },
    "summary": {
        "passages.system": {"length"},
        "passages.user": {"text"},
        "summaries.system": {"length"},
        "summaries.user": {"text"},
    },
}
LENGTHS = {"words", "characters"}  # each language counts its own way


@pytest.mark.parametrize("purpose", FIELDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_sections_and_fields(purpose, language):
    sections = load_template(purpose, language)
    fields = {name: set(section.get_identifiers()) for name, section in sections.items()}
    assert {name: {"length" if field in LENGTHS else field for field in own} for name, own in fields.items()} == FIELDS[
        purpose
    ]
    assert all(section.is_valid() for section in sections.values())
    assert detect_language("".join(section.template for section in sections.values())) == language


def test_no_other_language():
    with pytest.raises(AnsweringError, match="no 'summary' prompt in language 'de'"):
        load_template("summary", "de")


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys, zrag_core.memorag.memorag_system, zrag_core.memorag.z_memory, zrag_core.memorag.summary_memory\n"
        "print([name for name in ('torch', 'transformers', 'openai', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
