"""The command as a whole: version, help, completion, progress, and that looking makes nothing."""

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from zrag_core import __version__
from zrag_pipeline.cli import _COMMANDS, main
from zrag_pipeline.commands.progress import ProgressLine
from zrag_pipeline.platform.champion_file import Champion, write_champion

NAMES = [command.__name__.rpartition(".")[2].replace("_", "-") for command in _COMMANDS]


def shown(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert shown(capsys, "--version") == f"zrag {__version__}\n"


def test_without_a_command_it_explains_itself(capsys):
    assert main([]) == 0
    assert "`zrag COMMAND --help` explains a command" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("columns", [60, 80, 300])
@pytest.mark.parametrize("name", [None, *NAMES])
def test_help_is_as_wide_as_the_terminal(name, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = shown(capsys, *([name] if name else []), "--help").partition("examples:")[0]
    assert max(map(len, text.splitlines())) <= min(columns, 110)
    if columns == 80 and name:
        paragraph = text.split("\n\n")[1].splitlines()
        assert all(len(line) > 50 for line in paragraph[:-1]), "lines are filled"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in NAMES)
    assert "least-confidence" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script, "utf-8")
        checked = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes(capsys, tmp_path):
    main(["completion", "bash"])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, "utf-8")
    function = re.search(r"complete .*-F (\w+) zrag", script.read_text("utf-8"))[1]
    asked = f"source {script}; COMP_WORDS=(zrag che); COMP_CWORD=1; {function} zrag che; echo ${{COMPREPLY[@]}}"
    completed = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
    assert completed.stdout.split() == ["checkpoints"]


# --- progress ----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(stream, *, quiet=False):
    """What a minute of work says."""
    now = [0.0]
    with ProgressLine(quiet=quiet, stream=stream, clock=lambda: now[0]) as progress:
        for done in range(121):
            progress("writing", 10 * done, 1200)
            now[0] += 0.5
    return stream.getvalue()


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal():
    lines = written(io.StringIO()).splitlines()
    assert len(lines) == 6
    assert lines[0] == "writing 200 of 1,200 documents  50 s left"


def test_progress_is_one_line_on_a_terminal_and_cleared_at_the_end():
    text = written(Terminal())
    assert "\n" not in text
    assert "\r\x1b[Kwriting  ██████████░░░░░░░░░░  600 of 1,200 documents  30 s left" in text
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_progress_and_short_work_say_nothing(stream):
    assert written(stream(), quiet=True) == ""
    now = iter(range(100))
    own = stream()
    with ProgressLine(stream=own, clock=lambda: next(now) / 100) as progress:
        for done in range(5):
            progress("writing", done, 5)
    assert own.getvalue() == ""


def test_quiet_may_stand_before_the_command_or_behind_it(monkeypatch):
    seen = []
    monkeypatch.setattr("zrag_pipeline.commands.where.run", lambda arguments: seen.append(arguments.quiet) or 0)
    for arguments in (["where"], ["--quiet", "where"], ["where", "-q"]):
        main(arguments)
    assert seen == [False, True, True]


# --- nothing is made by looking ------------------------------------------------------------------------

LOOKS = [
    ["ask", "Who?"],
    ["serve"],
    ["status"],
    ["documents"],
    ["checkpoints"],
    ["champion"],
    ["leaderboard"],
    ["where"],
    ["config"],
    ["config", "squad"],
    ["completion", "bash"],
    ["add", "--dry-run", "notes.md"],
]
FAILS = [
    ["add", "notes.md"],
    ["remove", "d1"],
    ["remove", "--purge", "--yes", "d1"],
    ["promote", "memory-0"],
    ["rollback"],
    ["use", "handbook"],
    ["ingest", "./nowhere"],
    ["ask", "--memory", "handbook", "Who?"],
    ["ask", "--checkpoint", "memory-0", "Who?"],
]


def everything(folder: Path):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("there", [False, True], ids=["no data folder", "an empty one"])
@pytest.mark.parametrize("arguments", LOOKS + FAILS, ids=" ".join)
def test_looking_and_failing_make_nothing(arguments, there, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.md").write_text("# A note\n\nIt lies by the sea.\n", "utf-8")
    if there:
        (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    before = everything(tmp_path)
    code = main(arguments)
    out, err = capsys.readouterr()
    assert everything(tmp_path) == before
    assert err.count("\n") == (code != 0), "an error is one line"
    assert out if code == 0 else not out
    if arguments in FAILS:
        assert code == 1
        assert arguments[-1] in err or "there is no champion yet" in err or "handbook" in err or "memory-0" in err


@pytest.mark.parametrize("arguments", LOOKS[2:], ids=" ".join)
def test_looking_at_a_memory_makes_nothing(arguments, written_memory, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.md").write_text("# A note\n\nIt lies by the sea.\n", "utf-8")
    folder = tmp_path / "data" / "checkpoints" / written_memory.name
    shutil.copytree(written_memory, folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    write_champion(Champion(folder.name, folder, "c0ffee", "towns", {}, "cpu", "2026-01-31T12:00:00+00:00", "first"))
    before = everything(tmp_path)
    code = main(arguments)
    assert code == (arguments == ["leaderboard"])
    assert everything(tmp_path) == before


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("zrag_pipeline.commands.where.run", interrupt)
    assert main(["where"]) == 130
    assert capsys.readouterr().err == "zrag: interrupted\n"


# --- checkpoints ---------------------------------------------------------------------------------------


def test_checkpoints_are_listed_with_what_is_on_record(written_memory, tmp_path, monkeypatch, capsys):
    import json

    from zrag_pipeline.platform.warehouse import Warehouse

    data = tmp_path / "data"
    monkeypatch.setenv("ZRAG_DATA_DIR", str(data))
    for number, name in enumerate(("memory-a", "memory-b", "memory-c")):
        shutil.copytree(written_memory, data / "checkpoints" / name)
        os.utime(data / "checkpoints" / name / "config.json", (1e9 + number, 1e9 + number))
    for name in ("memory-a", "memory-b"):
        folder = data / "checkpoints" / name
        write_champion(Champion(name, folder, "c0ffee", "읍내", {}, "cpu", "2026-01-31T12:00:00+00:00", "first"))
    rows = [
        {"run_id": "r", "checkpoint_id": "memory-b", "check_name": name, "value": 1.0, "passed": passed}
        for name, passed in (("documents_found", True), ("answers_quoted", False), ("drift", None))
    ]
    Warehouse(data / "warehouse.duckdb").replace_rows("memory_checks", rows, {"run_id": "r"})
    assert main(["checkpoints"]) == 0
    head, *lines, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["checkpoint", "corpus", "written", "documents", "size", "checks"]
    assert [line.split()[0] for line in lines] == ["memory-c", "memory-b", "memory-a"], "the newest first"
    assert [line.split()[1] for line in lines] == ["unknown", "읍내", "읍내"]
    assert all(re.search(r"2001-09-09 \d\d:\d\d  10 +[\d.]+ MB", line) for line in lines)
    assert lines[0].endswith("  none")
    assert lines[1].endswith("  1 of 2  champion, asked")
    assert lines[2].endswith("was champion")
    assert total.startswith("3 checkpoints, ")
    assert main(["checkpoints", "--json"]) == 0
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["champion_of"] for entry in values] == [[], ["읍내"], []]
    assert values[1]["checks"]["answers_quoted"] == {"value": 1.0, "passed": False}
    assert values[1]["documents"] == 10
