"""What the tests of MemoRAG share: small corpora, and the loopback server of the answering tests."""

import sys
from pathlib import Path

import pytest

from zrag_core.corpus.types import Document

# Test folders are no packages; the faulty server lives beside the tests of the client.
sys.path.append(str(Path(__file__).parents[1] / "answering"))


@pytest.fixture(scope="session")
def harbour():
    """Twelve passages; which prize somebody won and where the prize is given stand in different ones."""
    texts = [
        ("Orla Venn", "Orla Venn is a painter. In 1931 she won the Halden Prize."),
        ("Halden Prize", "The Halden Prize is awarded every May in Tessamor."),
        ("Tessamor", "Tessamor lies on the river Quarn. Its harbour was built in 1804."),
        ("Bram Kilto", "Bram Kilto works as a glazier in Brindle."),
        ("Lake Munar", "Lake Munar is ninety metres deep. Herons nest on its shore."),
        ("Quill Works", "Quill Works makes steel pens. It was founded in 1907."),
        ("Cass Numa", "Cass Numa keeps bees near Pell."),
        ("Pell", "Pell is a village of weavers."),
        ("서린도", "서린도는 남쪽 바다에 있는 섬이다. 섬에는 등대가 하나 있다."),
        ("해림상", "해림상은 해마다 서린도에서 주는 문학상이다."),
        ("한소율", "한소율은 시인이다. 그는 해림상을 받았다."),
        ("Brindle", "Brindle is known for its glass."),
    ]
    return tuple(Document(f"d{n}", title, text) for n, (title, text) in enumerate(texts))
