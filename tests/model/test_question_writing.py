"""Questions that an LLM writes: kept line by line, and a run that was stopped goes on behind them."""

import json

from zrag_core.corpus.prose.asked import AskedSentence
from zrag_core.corpus.types import Document
from zrag_core.model.training import question_writing

DOCUMENTS = [
    Document(f"d{n}", f"Isle {n}", f"The isle number {n} was settled by sailors from the far north.") for n in range(90)
]


def fake_ask(monkeypatch, calls):
    def ask(_backbone, items, seed):
        calls.append(seed)
        return [AskedSentence(f"Who settled {document.id}?", document.id, sentence) for document, sentence in items]

    monkeypatch.setattr(question_writing, "_ask", ask)


def test_a_stopped_run_goes_on_and_a_cut_line_is_written_again(tmp_path, monkeypatch):
    file, calls = tmp_path / "deep" / "questions.jsonl", []
    fake_ask(monkeypatch, calls)
    whole = question_writing.write_questions(None, DOCUMENTS, 90, file, log=lambda line: None)
    assert len(whole) == 90
    assert len({item.document_id for item in whole}) == 90
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join(lines[:1]) + "\n" + lines[1][:40], "utf-8")  # killed while it wrote
    calls.clear()
    assert question_writing.write_questions(None, DOCUMENTS, 90, file, log=lambda line: None) == whole
    assert calls == [1, 2]
    assert [json.loads(line)["batch"] for line in file.read_text("utf-8").splitlines()] == [0, 1, 2]
    calls.clear()
    assert question_writing.write_questions(None, DOCUMENTS, 10, file, log=lambda line: None) == whole[:10]
    assert calls == []
    # Documents that are others now, and sentences that are no longer there, are asked about anew.
    changed = [Document("x", "Other", DOCUMENTS[0].text), *DOCUMENTS[1:]]
    again = question_writing.write_questions(None, changed, 90, file, log=lambda line: None)
    assert again == [item for item in whole if item.document_id != "d0"]
