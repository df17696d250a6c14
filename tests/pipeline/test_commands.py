"""`zrag ask` and `zrag documents` as people call them: text, JSON, standard input, and which memory answers."""

import io
import json
import os
import shutil
import subprocess
import sys
import unicodedata

import pytest
from rich.cells import cell_len, set_cell_size

from zrag_core.corpus.types import Document
from zrag_core.errors import AnsweringError
from zrag_core.memory import REFUSALS, Memory
from zrag_core.replies import Reply, Source
from zrag_core.settings import DecodingSettings
from zrag_core.text import evidence_tokens
from zrag_pipeline.cli import main
from zrag_pipeline.commands.reply_text import reply_text
from zrag_pipeline.commands.terminal import clip, wrap
from zrag_pipeline.platform.champion_file import Champion, write_champion

BORN = "Where was Orla Venn born?"
KOREAN = "한소라는 어디에서 태어났나?"
NOT_THERE = "Which opera did Wilma Astor compose in Paris?"
HEAVY = ("mlflow", "peft", "dagster", "pandas", "sklearn", "datasets", "openai", "duckdb", "bitsandbytes", "matplotlib")


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "자료 1"
    monkeypatch.setenv("ZRAG_DATA_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "90")
    return folder


@pytest.fixture
def champion(data, written_memory):
    """The memory as the champion of the data folder; its decoding reads one document in one step."""
    folder = data / "checkpoints" / written_memory.name
    shutil.copytree(written_memory, folder)
    decoding = {"routed_documents": 1, "steps": 1}
    made = Champion(folder.name, folder, "c0ffee", "towns", decoding, "cpu", "2026-01-31T12:00:00+00:00", "first")
    write_champion(made)
    return made


@pytest.fixture
def zrag(capsys):
    def call(*arguments):
        code = main(arguments)
        return (code, *capsys.readouterr())

    return call


def command(*arguments, given="", **environment):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zrag_pipeline.cli", *arguments],
        input=given.encode() if isinstance(given, str) else given,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
    )


# --- ask ------------------------------------------------------------------------------------------


def test_before_any_champion_one_line_says_what_to_do(zrag, data):
    for arguments in (["ask", "Who?"], ["documents"]):
        code, out, err = zrag(*arguments)
        assert (code, out) == (1, "")
        assert err == (
            "zrag: there is no memory to ask yet -> `zrag ingest FOLDER` makes one of your documents, `make demo` one "
            "of built-in ones\n"
        )
    assert not data.exists(), "asking creates nothing"


def test_text_tells_evidence_source_confidence_and_routing(zrag, champion):
    code, out, err = zrag("ask", BORN)
    assert (code, err) == (0, "")
    assert "Answer" not in out, "nobody answers"
    assert "\nEvidence   Orla Venn was born in Tessamor.\n             Orla Venn [d0, 0-31]\n" in out
    assert "\nMemory     memory-0123, 10 documents, " in out
    (reply,) = Memory.open(champion.folder, decoding=DecodingSettings(**champion.decoding)).ask([BORN])
    assert f"confidence {reply.confidence:.0%}" in out
    (routed,) = (line for line in out.splitlines() if line.startswith("Routed to"))
    assert routed.split()[2:] == [f"{reply.routing[0].score:.3f}", "Orla", "Venn", "d0"]


def test_a_question_needs_no_quotes(zrag, champion):
    shown = [zrag("ask", *arguments)[1] for arguments in ([BORN], BORN.split())]
    quoted, unquoted = (out.rpartition("documents, ")[0] for out in shown)
    assert quoted == unquoted != "", "all but the time it took"


def test_a_refusal_is_plain(zrag, champion):
    code, out, _ = zrag("ask", NOT_THERE)
    assert code == 0
    assert "\nRefused    The memory does not hold this. (confidence " in out
    assert "\nNearest    " in out
    assert "Evidence" not in out
    assert "Evidence" in zrag("ask", "--least-confidence", "0", NOT_THERE)[1]


def test_json_is_the_reply_of_the_python_interface(zrag, champion):
    reply = json.loads(zrag("ask", "--json", "--budget", "12", KOREAN)[1])
    memory = Memory.open(champion.folder, decoding=DecodingSettings(**champion.decoding))
    (expected,) = memory.ask([KOREAN], budget=12)
    told = json.loads(json.dumps(expected.to_dict()))
    assert reply.pop("checkpoint_id") == "memory-0123"
    assert set(reply) == set(told)
    assert {s["document_id"] for s in reply["sources"]} == {"문서-8"}, "the champion reads one document"
    assert reply["confidence"] == pytest.approx(told["confidence"], abs=1e-4)
    for name in ("answer", "evidence", "answerable", "reader", "question"):
        assert reply[name] == told[name]


def test_free_evidence_is_labelled(zrag, champion):
    out = zrag("ask", "--free", BORN)[1]
    assert "(the model's own words)" in out
    assert json.loads(zrag("ask", "--free", "--json", BORN)[1])["sources"] == []


def test_other_checkpoints_by_id_and_by_folder(zrag, champion, written_memory, data):
    other = data / "checkpoints" / "memory-other"
    shutil.copytree(written_memory, other)
    for name in ("memory-other", str(other)):
        reply = json.loads(zrag("ask", "--json", "--checkpoint", name, BORN)[1])
        assert reply["sources"][0]["text"] == "Orla Venn was born in Tessamor."
        assert len({s["document_id"] for s in reply["sources"]}) > 1, "read with its own settings, four documents"
    code, _, err = zrag("ask", "--checkpoint", "memory-9", BORN)
    assert (code, err) == (1, "zrag: there is no checkpoint 'memory-9' -> known: memory-0123, memory-other\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", " "], "the question is empty"),
        (["ask", "--model", "gpt-4o", "Who?"], "--model needs --reader openai"),
        (["ask", "--reader", "openai", "Who?"], "reader 'openai' needs a key and OPENAI_API_KEY is not set"),
        (["ask", "\udcff?"], "the question is not valid UTF-8"),
    ],
)
def test_what_cannot_be_asked_is_one_line(zrag, champion, arguments, message):
    code, out, err = zrag(*arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "Who?", "--budget", "0"], "zrag ask: argument --budget: '0' is no whole number of at least 1"),
        (["ask", "Who?", "--budget", "x"], "zrag ask: argument --budget: 'x' is no whole number of at least 1"),
        (["ask", "Who?", "--least-confidence", "1.5"], "'1.5' is no number between 0 and 1"),
        (["ask", "Who?", "--jsn"], "zrag ask: there is no option '--jsn'; did you mean '--json'?"),
        (["ask", "Who?", "--reader", "opnai"], "'opnai' is none of none, local, openai; did you mean 'openai'?"),
        (["ask"], "zrag ask: the following arguments are required: question"),
        (["serve", "--port", "70000"], "'70000' is no port (0 to 65535)"),
        (["where", "here"], "zrag where: there is one argument too many: 'here'"),
        (["aks", "Who?"], "zrag: there is no command 'aks'; did you mean 'ask'?"),
        (["--quiet"], "zrag: the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_understood_is_one_line_about_what_was_typed(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert line.endswith("--help` explains")


def test_a_champion_that_was_damaged_is_one_line(zrag, champion):
    (champion.folder / "heads.safetensors").write_bytes(b"")
    code, _, err = zrag("ask", BORN)
    assert code == 1
    assert "the checkpoint is damaged" in err
    assert err.count("\n") == 1


class Offended:
    """A model that costs money and refuses everything."""

    name, model = "openai", "gpt-test"

    def answer(self, requests, progress=None):
        raise AnsweringError("the server does not know this key", remedy="check OPENAI_API_KEY")


def test_money_is_spent_only_where_it_is_asked_for(zrag, champion, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    chosen = []

    def choose(settings, environ, cache_path):
        chosen.append((settings.reader, settings.model, cache_path))
        return Offended()

    assert json.loads(zrag("ask", "--json", BORN)[1])["reader"] == ""
    monkeypatch.setattr("zrag_core.answering.choice.choose_reader", choose)
    code, out, err = zrag("ask", "--reader", "openai", "--model", "small", BORN)
    assert (code, out) == (1, "")
    assert err == "zrag: the server does not know this key -> check OPENAI_API_KEY\n"
    ((reader, model, cache),) = chosen
    assert (reader, model, cache.name) == ("openai", "small", "answer_cache.sqlite")


def test_questions_come_from_standard_input(champion):
    given = "\n".join([BORN, "", f"  {KOREAN}\r", NOT_THERE])  # no line end behind the last
    result = command("ask", "--json", "-", given=given)
    assert (result.returncode, result.stderr) == (0, b"")
    replies = [json.loads(line) for line in result.stdout.decode().splitlines()]
    assert [reply["question"] for reply in replies] == [BORN, KOREAN, NOT_THERE]
    assert [reply["answerable"] for reply in replies] == [True, True, False]
    assert replies[2]["answer"] == REFUSALS["en"]


def test_a_question_is_answered_before_the_next_one_is_there(champion):
    process = subprocess.Popen(
        [sys.executable, "-m", "zrag_pipeline.cli", "ask", "--json", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    with process:
        for text in (BORN, KOREAN):
            halves = text.encode()[:9], text.encode()[9:]  # within a character
            for part in (*halves, b"\n"):
                process.stdin.write(part)
                process.stdin.flush()
            assert json.loads(process.stdout.readline())["question"] == text
        process.stdin.close()
        assert process.wait(60) == 0


def test_other_bytes_and_nothing_on_standard_input(zrag, champion, monkeypatch):
    for given, expected in (
        (b"\xff\xfe\n", (1, "", "zrag: standard input: the questions are not valid UTF-8\n")),
        (BORN.encode() + b"\xed", (1, "", "zrag: standard input: the questions are not valid UTF-8\n")),
        (b"\n \r\n", (0, "", "")),
        (b"", (0, "", "")),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert zrag("ask", "-") == expected


def test_a_cold_start_imports_no_pipeline(champion):
    code = (
        "import sys; from zrag_pipeline.cli import main; code = main(['ask', sys.argv[1]]); "
        "print(code, [name for name in sys.argv[2:] if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, BORN, *HEAVY], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr
    assert result.stderr == ""


# --- documents ------------------------------------------------------------------------------------


def test_documents_are_listed_with_their_length(zrag, champion):
    code, out, err = zrag("documents")
    assert (code, err) == (0, "")
    head, *rows, last = out.splitlines()
    held = [
        Document(**json.loads(line)) for line in (champion.folder / "documents.jsonl").read_text("utf-8").splitlines()
    ]
    assert head.split() == ["id", "tokens", "title"]
    assert [row.split() for row in rows] == [[d.id, str(evidence_tokens(d.text)), *d.title.split()] for d in held]
    total = sum(evidence_tokens(document.text) for document in held)
    assert last == f"10 documents, {total:,} tokens, in memory-0123"
    ends = {cell_len(row[: row.index(document.title)]) for row, document in zip(rows, held, strict=True)}
    assert len(ends) == 1, "titles stand below each other, Korean ids or not"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("orla VENN", ["d0"]),
        ("문서-", ["문서-8", "문서-9"]),
        ("달맞이섬", ["문서-9"]),
        (unicodedata.normalize("NFD", "한소라"), ["문서-8"]),
        ("nowhere", []),
    ],
)
def test_search_looks_into_id_title_and_text(zrag, champion, text, ids):
    code, out, _ = zrag("documents", "--search", text, "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ids
    assert f"{len(ids)} of 10 documents" in zrag("documents", "--search", text)[1]


def test_documents_load_no_model(champion):
    code = (
        "import sys; from zrag_pipeline.cli import main; main(['documents', '--json']); "
        "print([m for m in ('torch', 'transformers', 'dagster', 'mlflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"


# --- help and text --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ask", "documents", "leaderboard", "where"])
def test_every_command_explains_itself(name, capsys):
    for arguments, expected in ((["--help"], f"    {name}"), ([name, "--help"], f"zrag {name}")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out = capsys.readouterr().out
        assert caught.value.code == 0
        assert expected in out
    assert "examples:" in out


def test_lines_of_a_page_are_not_lines_of_the_reply(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = Source("a.pdf", "Leave", 0, 40, "Days that are left over\nexpire at the\nend of March.", 1.0)
    code = Source("b.md", "Setup", 0, 20, "```\nmake\nrun\n```", 1.0, reading="make\nrun")
    reply = Reply("When?", True, 0.9, "", "", (page, code), True, (), (), "", "", None, 1.0)
    lines = reply_text(reply, "m", 2).splitlines()
    assert lines[1] == "Evidence   Days that are left over expire at the end of March."
    assert [line.strip() for line in lines[3:5]] == ["make", "run"]


def test_korean_takes_two_columns():
    assert list(map(cell_len, ("abc", "한글", unicodedata.normalize("NFD", "é"), "ｆ"))) == [3, 4, 1, 2]
    assert set_cell_size("한", 5) == "한   "
    assert clip("한국어 문서", 8) == "한국어…"
    assert clip("한국어", 6) == "한국어"
    assert clip("a\x1b[31mb\nc", 20) == "a[31mb c"
    assert wrap("가나 다라 마바사아자", 8, "  ") == ["  가나", "  다라", "  마바사", "  아자"]
    assert wrap("가나 다라", 11, "  ") == ["  가나 다라"]
    assert wrap("", 10) == []
