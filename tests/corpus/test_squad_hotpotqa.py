import gzip
import json

import pytest

from zrag_core.corpus.read import read_corpus
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.settings import CorpusSettings


def read(path, data=None, **settings):
    if data is not None:
        raw = json.dumps(data, ensure_ascii=False).encode()
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return read_corpus(CorpusSettings(location=str(path), **({"format": "auto"} | settings)))


def qa(question_id, question, context, answer, start=None, **more):
    start = context.index(answer) if start is None else start
    return {"id": question_id, "question": question, "answers": [{"text": answer, "answer_start": start}], **more}


LAKE = "Lake Brenn is 12.5 km long. It was dammed in 1904, e.g. for mills. The dam was rebuilt in 1904 stones."
KOREAN = "별빛시는 강원도에 있다. 시장은 이도윤으로, 2011년에 뽑혔다."


def squad_file():
    return {
        "version": "1.1",
        "data": [
            {
                "title": "Lake_Brenn",
                "paragraphs": [
                    {"context": LAKE, "qas": [qa("1", "When was it dammed?", LAKE, "1904")]},
                    {"context": "  Second paragraph.\r\nIt ends here. ", "qas": []},
                ],
            },
            {
                "title": "별빛시",
                "paragraphs": [{"context": KOREAN, "qas": [qa("6-0", "별빛시의 시장은?", KOREAN, "이도윤")]}],
            },
        ],
    }


@pytest.mark.parametrize("name", ["dev.json", "dev.json.gz"])
def test_squad_paragraphs_questions_and_evidence(tmp_path, name):
    corpus = read(tmp_path / name, squad_file())
    assert corpus.name == "dev"
    assert [(d.id, d.title) for d in corpus.documents] == [
        ("Lake_Brenn-000", "Lake Brenn"),
        ("Lake_Brenn-001", "Lake Brenn"),
        ("별빛시-000", "별빛시"),
    ]
    assert corpus.documents[1].text == "Second paragraph.\nIt ends here."
    dammed, mayor = corpus.questions
    assert dammed.evidence == "It was dammed in 1904, e.g. for mills."
    assert (dammed.document_ids, dammed.language) == (("Lake_Brenn-000",), "en")
    assert mayor.evidence == "시장은 이도윤으로, 2011년에 뽑혔다."
    assert (mayor.document_ids, mayor.language) == (("별빛시-000",), "ko")


def test_the_offset_decides_which_occurrence_is_the_evidence(tmp_path):
    data = squad_file()
    data["data"][0]["paragraphs"][0]["qas"] = [
        qa("1", "Of what year are the stones?", LAKE, "1904", LAKE.rindex("1904"))
    ]
    assert read(tmp_path / "a.json", data).questions[0].evidence == "The dam was rebuilt in 1904 stones."


def test_offsets_count_before_normalisation(tmp_path):
    context = (
        "cafe\u0301 " * 40 + "opened. The bar opened in Torv. The bar closed in Torv."
    )  # NFC is 40 characters shorter
    data = {"data": [{"title": "Bar", "paragraphs": [{"context": context, "qas": []}]}]}
    data["data"][0]["paragraphs"][0]["qas"] = [qa("1", "Where did it close?", context, "Torv", context.rindex("Torv"))]
    question = read(tmp_path / "a.json", data).questions[0]
    assert question.evidence == "The bar closed in Torv."


def test_an_offset_that_is_wrong_is_mended_and_an_absent_answer_is_noted(tmp_path):
    data = squad_file()
    data["data"][0]["paragraphs"][0]["qas"] = [
        qa("1", "Which year?", LAKE, "1904", LAKE.rindex("1904") + 3),
        qa("2", "Which king?", LAKE, "Olaf", 5),
    ]
    corpus = read(tmp_path / "a.json", data)
    assert corpus.questions[0].evidence == "The dam was rebuilt in 1904 stones."
    assert corpus.questions[1].evidence is None
    assert any(note.startswith("1 answers do not stand") for note in corpus.notes)


def test_an_answer_over_a_sentence_end_brings_both_sentences(tmp_path):
    data = squad_file()
    data["data"][0]["paragraphs"][0]["qas"] = [qa("1", "What?", LAKE, "km long. It was dammed")]
    expected = LAKE[: LAKE.index(" The dam was")]
    assert read(tmp_path / "a.json", data).questions[0].evidence == expected


def test_impossible_questions_are_unanswerable(tmp_path):
    data = squad_file()
    data["data"][0]["paragraphs"][0]["qas"].append(
        {"id": "9", "question": "Who drowned?", "answers": [], "is_impossible": True, "plausible_answers": []}
    )
    question = read(tmp_path / "a.json", data).questions[1]
    assert (question.split, question.golden_answers, question.document_ids) == ("unanswerable", (), ())


@pytest.mark.parametrize("name", ["guid", "question_id", "_id"])
def test_question_ids_of_related_datasets(tmp_path, name):
    data = squad_file()
    asked = data["data"][0]["paragraphs"][0]["qas"][0]
    asked[name] = asked.pop("id")
    asked["answers"] = asked["answers"][0]  # a single answer needs no list there
    (question,) = [q for q in read(tmp_path / "a.json", data).questions if q.id == asked[name]]
    assert question.evidence


@pytest.mark.parametrize("wrapped", [True, False])
def test_rows_as_the_hub_keeps_them(tmp_path, wrapped):
    context = "The mill at Sorn grinds rye. It was built in 1877."
    row = {"id": "1", "title": "Sorn_mill", "context": context, "question": "When was it built?"}
    rows = [
        row | {"answers": {"text": ["1877"], "answer_start": [context.index("1877")]}},
        row | {"id": "2", "question": "Who built it?", "answers": {"text": [], "answer_start": []}},
        row | {"id": "3", "context": "Kell lies inland.", "answers": {"text": ["inland"], "answer_start": [10]}},
    ]
    corpus = read(tmp_path / "a.json", {"data": rows} if wrapped else rows)
    assert [(d.id, d.title) for d in corpus.documents] == [
        ("Sorn_mill-000", "Sorn mill"),
        ("Sorn_mill-001", "Sorn mill"),
    ]
    assert [q.evidence for q in corpus.questions] == ["It was built in 1877.", None, "Kell lies inland."]
    assert corpus.questions[1].split == "unanswerable"
    with pytest.raises(ProblemList, match=r"a\.json: \[1\]: context must be a string, not null"):
        read(tmp_path / "a.json", [*rows[:1], {"id": "4", "question": "Lost?"}])


def test_titles_that_repeat_keep_counting(tmp_path):
    data = squad_file()
    data["data"].append(data["data"][0] | {"title": "Lake Brenn", "paragraphs": [{"context": "More.", "qas": []}]})
    assert read(tmp_path / "a.json", data).documents[-1].id == "Lake_Brenn-002"


def test_squad_problems_are_told_together(tmp_path):
    data = squad_file()
    paragraphs = data["data"][0]["paragraphs"]
    paragraphs[0]["qas"] += [{"id": "x", "question": "No answers?"}, {"question": "No id?", "answers": []}]
    paragraphs[1] = {"qas": []}
    data["data"].append({"title": "t"})
    with pytest.raises(ProblemList) as raised:
        read(tmp_path / "a.json", data)
    source = tmp_path / "a.json"
    assert raised.value.problems == [
        f"{source}: data[0].paragraphs[0].qas[1]: answers must be a list, not null",
        f"{source}: data[0].paragraphs[0].qas[2]: no id (the row has question, answers); give each row its own, "
        "as 'id'",
        f"{source}: data[0].paragraphs[1]: context must be a string, not null",
        f"{source}: data[2]: paragraphs must be a list, not null",
    ]


def test_repeated_question_ids_are_told(tmp_path):
    data = squad_file()
    data["data"][0]["paragraphs"][0]["qas"] *= 2
    with pytest.raises(ProblemList, match="question '1': the id is used more than once"):
        read(tmp_path / "a.json", data)


def test_broken_json_names_the_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"data": [\n{"title": "x",\n oops}]}')
    with pytest.raises(CorpusError, match=r"a\.json:3: broken JSON"):
        read(path)


def test_other_json_is_not_guessed_at(tmp_path):
    with pytest.raises(CorpusError, match=r"not a kind of file that is known -> .* a HotpotQA \.json"):
        read(tmp_path / "a.json", [{"question": "x"}])


VALE = ["Orrin Vale was a painter.", " He was born in 1931."]
BRIDGE = ["Tarn Bridge spans the Ostel.", " Orrin Vale painted it."]


def hotpot_row(question_id, facts, context, answer="1931", **more):
    return {
        "_id": question_id,
        "question": f"Question {question_id}?",
        "answer": answer,
        "type": "bridge",
        "level": "hard",
        "supporting_facts": facts,
        "context": context,
        **more,
    }


FACTS = [["Tarn Bridge", 1], ["Orrin Vale", 1]]


def test_hotpotqa_paragraphs_are_shared_and_facts_become_evidence(tmp_path):
    rows = [
        hotpot_row("a", FACTS, [["Orrin Vale", VALE], ["Tarn Bridge", BRIDGE], ["Ostel", ["A river."]]]),
        hotpot_row("b", FACTS[::-1], [["Tarn Bridge", BRIDGE], ["Orrin Vale", VALE]], "yes"),
        hotpot_row("c", FACTS, [["Tarn Bridge", BRIDGE], ["Orrin Vale", [*VALE, " He died."]]]),
    ]
    corpus = read(tmp_path / "h.json", rows)
    assert [d.title for d in corpus.documents] == ["Orrin Vale", "Tarn Bridge", "Ostel", "Orrin Vale"]
    assert corpus.documents[0].text == "Orrin Vale was a painter. He was born in 1931."
    first, second, third = corpus.questions
    vale, bridge, _, longer = (document.id for document in corpus.documents)
    assert first.document_ids == (bridge, vale)
    assert first.evidence == "Orrin Vale painted it. He was born in 1931."
    assert first.question_type == "two_hop"
    assert first.metadata["supporting_facts"] == [[bridge, "Tarn Bridge", 1], [vale, "Orrin Vale", 1]]
    assert second.document_ids == (vale, bridge)
    assert third.document_ids == (bridge, longer)


def test_hotpotqa_questions_without_their_paragraphs_are_counted(tmp_path):
    rows = [
        hotpot_row("a", FACTS, [["Orrin Vale", VALE], ["Ostel", ["A river."]]]),
        hotpot_row("b", [*FACTS, ["Orrin Vale", 9]], [["Orrin Vale", VALE], ["Tarn Bridge", BRIDGE]]),
    ]
    corpus = read(tmp_path / "h.json", rows)
    assert [q.id for q in corpus.questions] == ["b"]
    assert "1 questions left out: a paragraph they need is not in their context" in corpus.notes
    assert "1 supporting facts ignored: their paragraph has no such sentence" in corpus.notes


def test_hotpotqa_paragraphs_may_share_a_title(tmp_path):
    album = ["Tarn Bridge is an album."]
    rows = [hotpot_row("a", FACTS, [["Tarn Bridge", album], ["Orrin Vale", VALE], ["Tarn Bridge", BRIDGE]])]
    corpus = read(tmp_path / "h.json", rows)
    assert [d.text for d in corpus.documents if d.title == "Tarn Bridge"] == [album[0], "".join(BRIDGE)]
    assert corpus.questions[0].evidence == "Orrin Vale painted it. He was born in 1931."


def test_hotpotqa_lists_as_the_hub_keeps_them(tmp_path):
    context = {"title": ["Orrin Vale", "Tarn Bridge"], "sentences": [VALE, BRIDGE]}
    row = hotpot_row("a", {"title": ["Tarn Bridge", "Orrin Vale"], "sent_id": [1, 1]}, context)
    row["id"] = row.pop("_id")
    (question,) = read(tmp_path / "h.json", [row]).questions
    assert (question.id, question.evidence) == ("a", "Orrin Vale painted it. He was born in 1931.")


def test_hotpotqa_problems_are_told_together(tmp_path):
    context = [["Orrin Vale", VALE], ["Tarn Bridge", BRIDGE]]
    rows = [
        hotpot_row("a", FACTS, context),
        hotpot_row("b", FACTS, context, answer=None),
        hotpot_row("c", FACTS, [["Orrin Vale", "no list"]]),
        hotpot_row("d", [["Orrin Vale"]], context),
    ]
    with pytest.raises(ProblemList) as raised:
        read(tmp_path / "h.json", rows)
    source = tmp_path / "h.json"
    assert raised.value.problems == [
        f"{source}: [1]: no answer",
        f"{source}: [2]: context[0] must be [title, [sentences]]",
        f"{source}: [3]: supporting_facts[0] must be [title, sentence number]",
    ]
