"""The HTML report: which examples, what is marked in them, and a page that holds together."""

import base64
import functools
import hashlib
import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from page_reading import assert_sound, read_page

from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.evaluation.canvas import new_figure, png
from zrag_core.evaluation.html_report.marks import CONTEXT, mark, shorten
from zrag_core.evaluation.html_report.page import EXAMPLES, OTHER_EXAMPLES, Evaluation, Plot, report_html
from zrag_core.evaluation.html_report.question_examples import choose_examples, in_corpus
from zrag_core.evaluation.leaderboard import aggregate

SYSTEMS = ("zrag", "zrag_free", "bm25", "closed_book", "gold_evidence")
N = 60


def text_of(i):
    return f"Town {i} is old. It was founded in {1000 + i}. It lies on a river."


def made_corpus(**changes):
    documents = tuple(Document(f"d{i}", f"Town {i}", text_of(i)) for i in range(N))
    questions = [
        Question(f"q{i}", f"When was Town {i} founded?", (str(1000 + i),), (f"d{i}",), split="test") for i in range(N)
    ]
    questions += [Question(f"u{i}", f"Who owns Town {i}?", split="unanswerable") for i in range(5)]
    return Corpus(**{"name": "towns", "documents": documents, "questions": tuple(questions), **changes})


def question_rows(system="zrag", corpus=None, seed=0):
    """One row per question: the fact's sentence as evidence, or for every seventh question a refusal."""
    generator = random.Random(f"{system}{seed}")
    rows = []
    for position, question in enumerate((corpus or made_corpus()).questions):
        number = int(question.id[1:])
        text = text_of(number)
        start = text.index("It was")
        end = text.index(" It lies")
        refused = system == "zrag" and position % 7 == 0
        free = system == "zrag_free"
        known = in_corpus(question)
        rows.append(
            {
                "system": system,
                "question_id": question.id,
                "evidence": "" if refused else "The year was 1003." if free else text[start:end],
                "document_ids": [f"d{number}", f"d{(number + 1) % N}"],
                "scores": [-0.25, -1.5],
                "source_document_ids": [] if refused or free else [f"d{number}"],
                "source_start": [] if refused or free else [start],
                "source_end": [] if refused or free else [end],
                "answerable": not refused,
                "confidence": generator.random(),
                "answer_coverage": float(not refused) if known else None,
                "rouge_l": generator.random() if known else None,
                "reader": "offline",
                "answer": str(1000 + number),
                "error": None,
                "em": 1.0,
                "f1": round(generator.random(), 1),
                "verdict": None,
            }
        )
    return pd.DataFrame(rows)


@functools.cache
def leaderboard():
    generator = np.random.default_rng(0)
    measures = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_all_at_10", "reciprocal_rank", "rouge_l")
    measures += ("answer_coverage", "grounded")
    rows = [
        {
            "corpus_version": "c0ffee",
            "split": "test",
            "question_type": "two_hop" if i % 3 else "single",
            "system": system,
            "reader": "offline",
            "budget": budget,
            "question_id": f"q{i}",
            "cluster": f"d{i}",
            "evidence_tokens": budget,
            "latency_ms": 1.0,
            "cost_usd": 0.0,
            **{measure: float(generator.random() < 0.5) for measure in measures},
            **{measure: generator.random() if budget == 256 else None for measure in ("em", "f1")},
        }
        for system in SYSTEMS
        for budget in (64, 256)
        for i in range(12)
    ]
    return aggregate(pd.DataFrame(rows), samples=50)


def comparison_rows():
    common = {"run_id": "r", "corpus_version": "c0ffee", "split": "test", "budget": 256, "reader": "none"}
    common |= {"measure": "answer_coverage", "system": "zrag", "reference": "bm25", "difference": 0.041}
    common |= {"low": 0.02, "high": 0.062, "p_value": 0.0001, "p_adjusted": 0.0002, "mcnemar_p": None}
    common |= {"n_questions": 203, "n_documents": 64, "verdict": "zrag above bm25 by 4.1 points", "confidence": 0.95}
    at_64 = {"budget": 64, "difference": -0.01, "p_adjusted": 0.4, "verdict": "no difference shown"}
    single = {"question_type": "single", "low": None, "n_questions": 100}
    return pd.DataFrame([common | {"question_type": "all"}, common | {"question_type": "all"} | at_64, common | single])


@functools.cache
def picture():
    return png(new_figure(2, 1)[0])


def evaluation(**changes):
    made = Evaluation(
        corpus=made_corpus(),
        corpus_version="c0ffee",
        created="2026-01-02 03:04 UTC",
        seeds="almanac 0",
        facts={"commit": "abc", "metric version": "1"},
        settings={"corpus": {"format": "almanac", "none": None}, "budgets": [64, 256]},
        stand_ins=["the answers come from the offline extractive reader"],
        links={"MLflow run": "http://127.0.0.1:5000/#/experiments/1/runs/a?b=1&c=2"},
        systems=SYSTEMS,
        budget=256,
        confidence=0.95,
        leaderboard=leaderboard(),
        questions=pd.concat([question_rows(system) for system in SYSTEMS]),
        plots=[Plot("Coverage", "Coverage by budget", picture())],
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def page():
    return read_page(report_html(evaluation()))


# --- marking --------------------------------------------------------------------------------------


@st.composite
def texts_with_ranges(draw):
    text = draw(st.text(max_size=60))
    pairs = st.lists(st.tuples(*[st.integers(0, len(text))] * 2).map(lambda pair: tuple(sorted(pair))), max_size=5)
    return text, draw(pairs), draw(pairs)


@given(texts_with_ranges())
def test_pieces_are_the_text_and_mark_exactly_the_given_characters(drawn):
    text, evidence, answers = drawn
    pieces = mark(text, dict(enumerate(evidence, 1)), answers)
    assert "".join(piece.text for piece in pieces) == text
    marked = [(piece.evidence, piece.answer) for piece in pieces for _ in piece.text]
    for position, (number, answer) in enumerate(marked):
        covering = [n for n, (start, end) in enumerate(evidence, 1) if start <= position < end]
        assert number == min(covering, default=0)
        assert answer == any(start <= position < end for start, end in answers)
    # A number is told once, where its piece begins.
    beginnings = [piece.evidence for piece in pieces if piece.starts]
    assert len(set(beginnings)) == len(beginnings)


@pytest.mark.parametrize("pair", [(-1, 2), (2, 9), (3, 2)])
def test_offsets_outside_the_text_are_an_error(pair):
    with pytest.raises(ValueError, match="are not in a text of 5 characters"):
        mark("abcde", {1: pair})
    with pytest.raises(ValueError, match="are not in a text of 5 characters"):
        mark("abcde", answers=[pair])


def test_long_documents_lose_unmarked_middles_only_and_say_how_much():
    text = "a" * 2000 + "EVIDENCE" * 300 + "b" * 2000
    short = shorten(mark(text, {1: (2000, 4400)}))
    assert "".join(piece.text for piece in short if piece.evidence) == "EVIDENCE" * 300
    assert sum(len(piece.text) + piece.left_out for piece in short) == len(text)
    assert [piece.left_out for piece in short if piece.left_out] == [2000 - 2 * CONTEXT] * 2
    assert shorten(mark(text[:700])) == mark(text[:700])


# --- choice ---------------------------------------------------------------------------------------


def ids(examples):
    return [[example.question.id for example in kind] for kind in (examples.best, examples.worst, examples.refused)]


def test_best_worst_and_refused_are_what_they_are_called():
    rows = question_rows()
    rows.loc[rows["question_id"] == "u3", "confidence"] = 2.0  # the surest refusal is a right one
    chosen = choose_examples("zrag", rows, made_corpus(), limit=8)
    best, worst, refused = ids(chosen)
    assert len(best) == len(worst) == len(refused) == 8
    assert not set(best) & set(worst)
    by_id = rows.set_index("question_id")
    assert not by_id.loc[refused, "answerable"].any()
    assert by_id.loc[[*best, *worst], "answerable"].all()
    assert chosen.n_refused == (~rows["answerable"]).sum()
    scores = {}
    for row in rows[rows["answerable"]].to_dict("records"):
        coverage = 0.0 if row["question_id"][0] == "u" else row["answer_coverage"]
        scores[row["question_id"]] = ((coverage + row["f1"]) / 2, row["rouge_l"] if row["question_id"][0] == "q" else 0)
    ranked = sorted(scores, key=scores.get, reverse=True)
    assert best == ranked[:8]
    assert worst == ranked[: -8 - 1 : -1]
    # Wrong refusals come first, the most confident ones first.
    expected = sorted(by_id[~by_id["answerable"]].index, key=lambda i: (i[0] == "u", -by_id.loc[i, "confidence"]))
    assert refused == expected[:8]


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_does_not_depend_on_the_order_of_rows(seed):
    rows = question_rows().assign(rouge_l=0.5, f1=1.0, confidence=0.5)  # ties everywhere
    shuffled = rows.sample(frac=1, random_state=seed)
    first, second = (choose_examples("zrag", frame, made_corpus(), limit=20) for frame in (rows, shuffled))
    assert first == second
    best = ids(first)[0]
    assert best != sorted(best), "equal scores must not favour the first ids"


def test_few_questions_are_shared_between_best_and_worst():
    answerable = question_rows()[lambda frame: frame["answerable"]]
    for n in range(4):
        best, worst, refused = ids(choose_examples("zrag", answerable.head(n), made_corpus(), limit=20))
        assert (len(best), len(worst), refused) == ((n + 1) // 2, n // 2, [])


def test_questions_without_any_measure_are_not_called_good_or_bad():
    rows = question_rows("bm25").head(3).assign(answer_coverage=None, rouge_l=None, f1=None)
    chosen = choose_examples("bm25", rows, made_corpus(), limit=20)
    assert (ids(chosen), chosen.n_questions) == ([[], [], []], 3)


def test_only_verbatim_evidence_is_marked_in_documents_and_own_words_are_told_apart():
    (verbatim,) = choose_examples("bm25", question_rows("bm25").iloc[[3]], made_corpus(), 1).best
    (document,) = verbatim.documents
    assert [piece.text for pieces in verbatim.evidence for piece in pieces] == ["It was founded in ", "1003", "."]
    assert "".join(piece.text for piece in document.pieces if piece.evidence) == "It was founded in 1003."
    assert [piece.text for piece in document.pieces if piece.answer] == ["1003"]
    assert (document.rank, document.used, document.gold, verbatim.own_words) == (1, True, True, False)
    (free,) = choose_examples("zrag_free", question_rows("zrag_free").iloc[[3]], made_corpus(), 1).best
    assert free.own_words
    assert not any(piece.evidence for document in free.documents for piece in document.pieces)
    assert [document.document_id for document in free.documents] == ["d3"]


def test_evidence_that_is_more_than_its_pieces_stays_whole():
    rows = question_rows("bm25").iloc[[3]].assign(evidence="Town 3: It was founded in 1003.")
    (example,) = choose_examples("bm25", rows, made_corpus(), 1).best
    assert ["".join(piece.text for piece in pieces) for pieces in example.evidence] == [
        "Town 3: It was founded in 1003."
    ]


def test_where_nothing_was_refused_the_least_confident_stand_in_their_place():
    rows = question_rows("bm25")
    chosen = choose_examples("bm25", rows, made_corpus(), limit=8)
    assert chosen.refused == ()
    expected = rows.sort_values("confidence")["question_id"].head(8).tolist()
    assert [example.question.id for example in chosen.unsure] == expected
    assert choose_examples("bm25", rows.assign(confidence=None), made_corpus(), limit=8).unsure == ()
    assert choose_examples("zrag", question_rows(), made_corpus(), limit=8).unsure == ()


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_valid_accessible_and_self_contained(page):
    assert_sound(page)


def test_nothing_but_its_own_script_may_run(page):
    (policy,) = (node.attributes["content"] for node in page.all("meta") if "http-equiv" in node.attributes)
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_the_page_tells_what_was_run(page):
    (header,) = page.all("header")
    told = re.sub(r"\s+", " ", header.text)
    for text in (
        "towns",
        "corpus versionc0ffee",
        "2026-01-02 03:04 UTC",
        "Stand-in: the answers come from the offline extractive reader",
        "test 60 (60 asked), unanswerable 5 (5 asked)",
        "almanac 0",
        "corpus.formatalmanac",
        "corpus.none-",
        "budgets64, 256",
    ):
        assert text in told
    assert page.all("a", href="http://127.0.0.1:5000/#/experiments/1/runs/a?b=1&c=2")


def test_tables_hold_every_system_and_sort_by_the_shown_figures(page):
    tables = [table for table in page.all("table") if table.has(class_="sortable")]
    assert len(tables) == 3 * 3  # all, single, two_hop
    for table in tables:
        rows = [row.all() for row in table.all("tbody")[0].all("tr")]
        assert [row[0].text for row in rows] == list(SYSTEMS)
        for cell in (cell for row in rows for cell in row if cell.has(class_="number") and "best" not in cell.text):
            shown = float(cell.children[0].replace(",", ""))
            value = float(cell.attributes["data-value"])
            assert min(abs(value * scale - shown) for scale in (1, 100)) < 0.051
        for row in rows[3:]:
            assert not any(cell.has(class_="best") for cell in row), "references are not rivals"
    best = [cell for cell in tables[0].all("td") if cell.has(class_="best")]
    assert len(best) >= 4


def test_every_section_lists_what_belongs_there_and_nothing_else(page):
    blocks = page.all("details", class_="system")
    assert [block.all("h3")[0].text for block in blocks] == ["zrag", "zrag_free", "bm25"]
    refusals = {f"q{i}" for i in range(0, N, 7)} | {"u3"}
    assert [node.text for node in blocks[0].all("h4")] == [
        f"Best ({EXAMPLES})",
        f"Worst ({EXAMPLES})",
        f"Refused ({len(refusals)} of {len(refusals)})",
    ]
    assert len(blocks[2].all("details", class_="example")) == 3 * OTHER_EXAMPLES
    position = [child for child in blocks[0].children if not isinstance(child, str)]
    start = next(i for i, node in enumerate(position) if node.text.startswith("Refused ("))
    asked = {question.question: question.id for question in made_corpus().questions}
    shown = {asked[node.all("span", class_="question")[0].text] for node in position[start + 1 :]}
    assert shown == refusals
    assert all("refused" in node.all("span", class_="chips")[0].text for node in position[start + 1 :])
    assert not any(node.all("mark", class_="evidence") for node in position[start + 1 :])


def test_marks_on_the_page_are_the_evidence_of_the_row(page):
    rows = question_rows().set_index("question_id")
    asked = {question.question: question.id for question in made_corpus().questions}
    for node in page.all("details", class_="system")[0].all("details", class_="example"):
        row = rows.loc[asked[node.all("span", class_="question")[0].text]]
        marked = [mark.text for block in node.all(class_="document") for mark in block.all("mark", class_="evidence")]
        assert "".join(marked) == row["evidence"]
        answers = {mark.text for mark in node.all("mark", class_="answer")}
        gold = str(1000 + int(row.name[1:]))
        assert answers == ({gold} if row.name[0] == "q" else set())


def test_comparisons_are_shown_where_there_are_any(page):
    assert not page.all("section", id="differences")
    html = report_html(evaluation(comparisons=comparison_rows()))
    with_some = read_page(html)
    assert_sound(with_some)
    (section,) = with_some.all("section", id="differences")
    groups = section.all("details")
    assert [group.all("h3")[0].text for group in groups] == [
        f"test{kind}" for kind in (", 203 questions", ", 203 questions, in words", *SINGLE_TITLES)
    ]
    assert ["open" in group.attributes for group in groups] == [True, False, False, False]
    at_a_glance, in_words, of_type, _ = (rows_of(body) for body in section.all("tbody"))
    assert at_a_glance == [["zrag", "-1.0 2.0 to 6.2", "+4.1 2.0 to 6.2"]]
    shown = [cell.text.split()[0] for cell in groups[0].all("td") if cell.has(class_="best")]
    assert shown == ["+4.1"], "what is not shown is not marked"
    assert in_words == [
        ["zrag", "coverage at 64", "no difference shown", "0.400", "-", "203", "64"],
        ["zrag", "coverage at 256", "zrag above bm25 by 4.1 points", "< 0.001", "-", "203", "64"],
    ]
    assert of_type == [["zrag", "+4.1"]]


SINGLE_TITLES = (", single, 100 questions", ", single, 100 questions, in words")


def rows_of(body):
    """Texts of the cells of a table's body."""
    return [[" ".join(cell.text.split()) for cell in row.all() if cell.tag in ("td", "th")] for row in body.all("tr")]


def test_answers_at_several_budgets_are_told_at_the_answered_one_and_as_f1_by_budget():
    frame = leaderboard()
    both = frame.assign(**dict.fromkeys(("em", "f1"), frame["answer_coverage"]))
    tables = {table.all("caption")[0].text: table for table in tables_of(both)}
    assert [row[2] for row in rows_of(tables["Answers"].all("tbody")[0])] == ["256"] * len(SYSTEMS)
    curve = tables["F1 by evidence budget, offline (extractive stand-in)"].all("tbody")[0]
    of_zrag = both.query("question_type == 'all' and system == 'zrag'").sort_values("budget")["f1"]
    assert [cell.split()[0] for cell in rows_of(curve)[0]] == ["zrag", *(f"{100 * value:.1f}" for value in of_zrag)]
    elsewhere = {table.all("caption")[0].text: table for table in tables_of(both, budget=128)}
    assert len(rows_of(elsewhere["Answers"].all("tbody")[0])) == 2 * len(SYSTEMS)


def tables_of(frame, **changes):
    """The tables of all questions of a page about this leaderboard."""
    return (
        read_page(report_html(evaluation(leaderboard=frame, **changes))).all("details", class_="group")[0].all("table")
    )


def test_a_judge_has_columns_of_its_own_where_one_was_asked():
    judged = leaderboard().assign(
        judged_correct=0.5, judged_correct_low=0.4, judged_correct_high=0.6, judge_cost_usd=0.01
    )
    (answers,) = (table for table in tables_of(judged) if table.all("caption")[0].text == "Answers")
    header = [cell.text for cell in answers.all("thead")[0].all("th")]
    assert header[4:] == ["EM", "F1", "judged correct", "evidence tokens", "cost, USD", "judge, USD"]
    assert rows_of(answers.all("tbody")[0])[0][6:] == ["50.0 40.0–60.0", "256", "0.0000", "0.0100"]
    assert "judge" not in " ".join(cell.text for table in tables_of(leaderboard()) for cell in table.all("th"))
    html = report_html(evaluation(questions=question_rows().assign(verdict="not_attempted")))
    assert ", judged not attempted</small>" in html


@pytest.mark.parametrize("what", ["nothing", "no answers", "no plots"])
def test_what_is_missing_is_left_out_or_said(what):
    changes = {
        "nothing": {
            "leaderboard": leaderboard().head(0),
            "questions": question_rows().head(0),
            "corpus": Corpus("", (), ()),
            "plots": (),
            "stand_ins": (),
        },
        "no answers": {"questions": question_rows().assign(reader=None, answer=None, em=None, f1=None)},
        "no plots": {"plots": ()},
    }[what]
    page = read_page(report_html(evaluation(**changes)))
    assert_sound(page)
    assert bool(page.all("section", id="plots")) == (what == "no answers")
    if what == "nothing":
        assert "No question was evaluated." in page.all("section", id="leaderboard")[0].text
        assert "No system that looks for evidence was evaluated." in page.text
    if what == "no answers":
        assert "Answer by" not in page.text


# --- escaping -------------------------------------------------------------------------------------


def page_with(text):
    """A page on which `text` stands in every place that texts of others come to."""
    document = Document(text, text, text)
    question = Question("q0", text, (text,), (text,), split="test", question_type=text)
    row = question_rows("bm25").head(1).to_dict("records")[0]
    row |= {"evidence": text, "document_ids": [text], "scores": [1.0], "source_document_ids": [text]}
    row |= {"source_start": [0], "source_end": [len(text)], "answer": text, "reader": text}
    return report_html(
        evaluation(
            corpus=Corpus(text, (document,), (question,), notes=(text,)),
            questions=pd.DataFrame([row, row | {"system": "zrag", "evidence": text + "!", "error": text}]),
            leaderboard=leaderboard().assign(reader=text),
            comparisons=comparison_rows().assign(verdict=text),
            facts={text: text},
            settings={text: {text: [text, text]}},
            stand_ins=[text],
            plots=[Plot(text, text, picture())],
        )
    )


def skeleton(page):
    """Tags and attribute names, without the marks of answers, which depend on the text."""
    return [(node.tag, tuple(node.attributes)) for node in page.all() if node.tag != "mark"]


@functools.cache
def harmless():
    return skeleton(read_page(page_with("plain words")))


@settings(max_examples=30, deadline=None)
@example("a</script><script>alert(1)</script>")
@example('a"><img src=x onerror=alert(1)>')
@example("a<!-- ]]> {{ 7 * 7 }} {% raw %}")
@example("a\x00\x0b\r\n\uffff &lt; &amp;amp; '")
@example("a\u202e한국어 <mark>가나다</mark>")
@given(st.text(max_size=40).map(lambda text: "a" + text))
def test_whatever_texts_hold_the_page_keeps_its_shape_and_shows_them(text):
    html = page_with(text)
    page = read_page(html)
    assert skeleton(page) == harmless()
    cleaned = re.sub("\r\n?", "\n", text)
    cleaned = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", cleaned)
    assert page.all("h1")[0].text == cleaned
    assert {node.text for node in page.all("span", class_="question")} == {cleaned}
    for block in page.all("div", class_="document"):
        assert block.all("p", class_="verbatim")[0].text == cleaned
    assert {node.text for node in page.all("blockquote")} == {cleaned, cleaned + "!"}
    assert cleaned in page.all("p", class_="standin")[0].text
    assert page.all("img")[0].attributes["alt"] == cleaned


def test_a_path_that_is_no_unicode_can_still_be_written():
    html = report_html(evaluation(settings={"location": "/data/\udcff.json"}, facts={"\udc80": "x"}))
    assert "/data/\ufffd.json" in html.encode("utf-8").decode("utf-8")


# --- the summary ----------------------------------------------------------------------------------


def told(page):
    return [item.text for item in page.all("section", id="summary")[0].all("li")]


def test_the_summary_tells_the_figures_of_the_memory_and_of_the_best_other_system(page):
    frame = leaderboard().query("question_type == 'all' and budget == 256").set_index("system")
    zrag, bm25 = frame.loc["zrag"], frame.loc["bm25"]
    counted, covered, ranked, answered, refused = told(page)
    assert counted == "12 questions of the split test were asked of 5 systems."
    interval = f"{100 * zrag['answer_coverage_low']:.1f} to {100 * zrag['answer_coverage_high']:.1f}"
    start = f"With 256 tokens of evidence, the answer stands in it for {100 * zrag['answer_coverage']:.1f}% "
    assert covered.startswith(f"{start}(95% interval {interval}) for zrag and {100 * bm25['answer_coverage']:.1f}%")
    assert covered.endswith("for bm25, the best of the other systems.")
    assert f"{100 * zrag['recall_at_1']:.1f}%" in ranked
    assert "offline (extractive stand-in)" in answered
    assert f"{100 * zrag['f1']:.1f} from zrag, {100 * bm25['f1']:.1f} from bm25, " in answered
    assert f"{100 * frame.loc['gold_evidence', 'f1']:.1f} from the gold evidence, the ceiling" in answered
    assert refused == "Refused, as not held: 9 by zrag, 0 by zrag_free, 0 by bm25."


def test_only_answers_at_the_told_budget_are_told(page):
    frame = leaderboard()
    smaller = frame[frame["budget"] == 256].assign(budget=64, f1=2.0)
    frame = pd.concat([smaller, frame[frame["f1"].notna()]])
    changed = told(read_page(report_html(evaluation(leaderboard=frame))))
    assert [line for line in changed if "F1" in line] == [line for line in told(page) if "F1" in line]


def test_refusals_are_told_by_split_and_always_where_they_are_wanted():
    rows = pd.concat([question_rows(name).assign(answerable=True) for name in ("zrag", "bm25")])
    frame = leaderboard().query("system in ['zrag', 'bm25']")
    frame = pd.concat([frame, frame.assign(split="unanswerable")])
    lines = told(read_page(report_html(evaluation(questions=rows, leaderboard=frame))))
    assert [line for line in lines if "Refused" in line] == ["Refused, as not held: 0 by zrag, 0 by bm25."]


def test_whether_memorag_is_ahead_on_vague_questions_is_told():
    rows = comparison_rows().assign(question_type="vague", system="memorag", n_questions=37)
    rows = pd.concat([rows, rows.assign(measure="f1"), rows.assign(question_type="all"), rows.assign(system="zrag")])
    rows.loc[rows["verdict"].str.startswith("zrag"), "verdict"] = "memorag above bm25 by 4.1 points"
    rows = rows.drop_duplicates(["system", "measure", "question_type", "budget"])
    lines = [line for line in told(read_page(report_html(evaluation(comparisons=rows)))) if "ague" in line]
    assert lines == [
        "Vague questions, MemoRAG's home ground (test, 37 questions), coverage at 256 tokens: "
        "memorag above bm25 by 4.1 points."
    ]
