"""`zrag ingest`: from a folder to a memory that is asked, again after a change, and beside other memories."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from zrag_pipeline.cli import main
from zrag_pipeline.commands.status import _age
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import memory_names, read_champion

RULES = """# Orchard rules

## Opening hours

The gate opens at seven and closes at dusk. Dogs stay on a lead near the hives.

## Fees

| plot | fee |
|---|---|
| small | 40 marks a year |
| large | 75 marks a year |
"""
TOOLS = "Ladders are kept in the red shed behind the press. The key hangs in Bram Kilto's kitchen.\n"
CIDER = (
    "# Cider day\n\nThe press runs on the last Saturday of September. Bring clean bottles and twenty kilos of apples.\n"
)


@pytest.fixture
def zrag(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "자료 1"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    shutil.copy(paths.SHIPPED_HOME / "dagster.yaml", tmp_path / "home")

    def call(*arguments):
        code = main(arguments)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def orchard(tmp_path):
    folder = tmp_path / "orchard"
    (folder / "more").mkdir(parents=True)
    (folder / "rules.md").write_text(RULES)
    (folder / "more" / "tools.txt").write_text(TOOLS)
    (folder / "plan.xlsx").write_bytes(b"PK")
    return folder


def ingest(zrag, *arguments):
    return zrag("ingest", *map(str, arguments), "--backbone", "zrag-tiny")


def test_a_folder_becomes_a_memory_that_follows_it(zrag, orchard):
    code, out, err = ingest(zrag, orchard)
    assert code == 0, out + err
    assert "2 files (1 .md, 1 .txt) read as 3 passages" in out
    assert "left out: 1 file of a kind that is not read (.xlsx)" in out
    assert re.search(r"written +3 of 3 passages", out)
    assert "ask it now:" in out
    first = read_champion()
    assert (first.corpus, first.source) == ("orchard", str(orchard))
    code, out, _ = zrag("ask", "--json", "--least-confidence", "0", "Where are the ladders kept?")
    reply = json.loads(out)
    assert code == 0
    assert "red shed" in reply["evidence"]
    assert reply["nearest"] == []
    refused = json.loads(zrag("ask", "--json", "--least-confidence", "1", "Where are the ladders kept?")[1])
    assert (refused["answerable"], refused["evidence"], refused["sources"]) == (False, "", [])
    assert any("red shed" in piece["text"] for piece in refused["nearest"])
    assert reply["checkpoint_id"] == first.checkpoint_id

    # A change of one file writes that file's passages and nothing else.
    (orchard / "cider.md").write_text(CIDER)
    (orchard / "more" / "tools.txt").unlink()
    code, out, err = ingest(zrag, orchard)
    assert code == 0, out + err
    assert re.search(r"written +1 of 3 passages", out)
    again = read_champion()
    assert again.checkpoint_id != first.checkpoint_id
    _, out, _ = zrag("documents")
    assert "cider.md#0" in out
    assert "tools.txt" not in out

    # A file of the folder that is added by itself is the same document, and what the folder has later is newer.
    (orchard / "cider.md").write_text(CIDER.replace("September", "October"))
    code, out, _ = zrag("add", str(orchard / "cider.md"))
    assert code == 0
    assert "0 added, 1 changed, 0 removed, 2 unchanged" in out
    (orchard / "cider.md").write_text(CIDER.replace("September", "November"))
    assert ingest(zrag, orchard)[0] == 0
    _, out, _ = zrag("ask", "--json", "--least-confidence", "0", "When does the press run?")
    assert "November" in json.loads(out)["evidence"]
    again = read_champion()

    # And nothing where nothing has changed.
    code, out, _ = ingest(zrag, orchard)
    assert code == 0
    assert re.search(r"written +0 of 3 passages", out)
    assert read_champion().checkpoint_id == again.checkpoint_id


def test_memories_stand_beside_each_other(zrag, orchard, tmp_path):
    assert ingest(zrag, orchard)[0] == 0
    other = tmp_path / "cider.md"
    other.write_text(CIDER)
    assert ingest(zrag, other)[0] == 0
    assert memory_names() == ["cider", "orchard"]
    ask = ("ask", "--json", "--least-confidence", "0")
    assert "September" in json.loads(zrag(*ask, "When does the press run?")[1])["evidence"]
    assert "red shed" in json.loads(zrag(*ask, "--memory", "orchard", "Where are the ladders kept?")[1])["evidence"]
    code, out, _ = zrag("status")
    assert code == 0
    assert out.index("cider  (asked where none is named)") < out.index("orchard\n")
    assert "documents found" in out
    assert zrag("use", "orchard")[0] == 0
    assert "red shed" in json.loads(zrag(*ask, "Where are the ladders kept?")[1])["evidence"]
    listed = json.loads(zrag("status", "--json")[1])["memories"]
    assert [(item["memory"], item["asked"], item["documents"]) for item in listed] == [
        ("orchard", True, 3),
        ("cider", False, 1),
    ]

    # A name belongs to one place.
    clash = tmp_path / "elsewhere" / "orchard"
    clash.mkdir(parents=True)
    (clash / "a.md").write_text(TOOLS)
    code, _, err = ingest(zrag, clash)
    assert code == 1
    assert f"the memory 'orchard' holds the documents of {orchard} -> give this one another name" in err
    assert ingest(zrag, clash, "--memory", "tools")[0] == 0
    assert read_champion().corpus == "tools"


def test_what_cannot_be_ingested_is_one_line_and_changes_nothing(zrag, tmp_path):
    code, _, err = zrag("ingest", str(tmp_path / "nowhere"))
    assert (code, err) == (1, f"zrag: {tmp_path / 'nowhere'}: no such file or folder -> check the path\n")
    (tmp_path / "empty").mkdir()
    code, _, err = ingest(zrag, tmp_path / "empty")
    assert code == 1
    assert "the folder is empty" in err
    assert memory_names() == []
    assert "no memory yet" in zrag("status")[1]


def test_an_unknown_memory_names_the_known_ones(zrag, orchard):
    assert ingest(zrag, orchard)[0] == 0
    for command in (("ask", "--memory", "x", "Who?"), ("use", "x"), ("rollback", "--memory", "x")):
        code, _, err = zrag(*command)
        assert code == 1
        assert err == "zrag: there is no memory 'x' -> known: orchard\n"


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1, seconds=5), "1 minute ago"),
        (timedelta(hours=5), "5 hours ago"),
        (timedelta(days=2), "2 days ago"),
    ],
)
def test_ages(ago, said):
    assert _age((datetime.now(UTC) - ago).isoformat(timespec="seconds")) == said


def test_quiet_says_only_how_it_ended(zrag, orchard):
    code, out, err = ingest(zrag, orchard, "--quiet")
    assert code == 0
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["memory", "done"]
