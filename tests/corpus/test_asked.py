"""The documents and questions that came with the project: answered by a sentence of their text, or by none."""

from zrag_core.corpus.prose.asked import everyday_questions, written_questions
from zrag_core.corpus.types import Document
from zrag_core.sentences import split_sentences


def test_every_question_is_answered_by_a_sentence_of_its_document_or_by_none():
    written = written_questions([])
    assert len(written.documents) > 100
    sentences = {d.id: {span.text for span in split_sentences(d.text)} for d in written.documents}
    asked = (*written.trained, *written.calibrated)
    assert len({(item.document_id, item.question) for item in asked}) == len(asked)
    for item in asked:
        assert item.sentence == "" or item.sentence in sentences[item.document_id], item
    assert 0.2 < sum(not item.sentence for item in asked) / len(asked) < 0.5


def test_everyday_questions_are_about_sentences_of_their_documents_and_some_are_korean():
    documents, asked = everyday_questions()
    sentences = {d.id: {span.text for span in split_sentences(d.text)} for d in documents}
    assert all(item.sentence == "" or item.sentence in sentences[item.document_id] for item in asked)
    korean = [item for item in asked if item.document_id.startswith("written-ko")]
    assert len(korean) > 300
    assert 0.2 < sum(not item.sentence for item in korean) / len(korean) < 0.5


def test_no_text_is_both_trained_on_and_calibrated_with():
    written = written_questions([])
    trained, calibrated = ({item.document_id for item in part} for part in (written.trained, written.calibrated))
    assert not trained & calibrated
    assert 0.3 < len(trained) / len(written.documents) < 0.7


def test_korean_questions_are_halved_by_documents_and_calibrate_alone():
    written = written_questions([], korean=True)
    trained, calibrated = ({item.document_id for item in part} for part in (written.trained, written.calibrated))
    assert all(name.startswith("written-ko") for name in calibrated)
    korean = {document.id for document in written.documents if document.id.startswith("written-ko")}
    assert len(calibrated) == len(korean - trained) == len(korean) / 2
    assert {item.document_id for item in written_questions([]).trained} == trained - korean


def test_questions_about_other_prose_find_their_sentence_and_are_left_out_without_it(monkeypatch):
    from zrag_core.corpus.prose import asked

    rows = {
        "documents-": [],
        "further-": [],
        "questions": [
            {"title": "Isle", "sentence": "It was settled in 1603.", "question": "When did people come?"},
            {"title": "Isle", "sentence": "It has no wells.", "question": "Is there water?"},
        ],
    }
    monkeypatch.setattr(asked, "_rows", lambda folder, prefix: iter(rows[prefix]))
    prose = [Document("i0", "Isle", "An isle. It was settled in 1603."), Document("i1", "Else", "It has no wells.")]
    written = written_questions(prose)
    (item,) = (*written.trained, *written.calibrated)
    assert (item.question, item.document_id, item.sentence) == (
        "When did people come?",
        "i0",
        "It was settled in 1603.",
    )
