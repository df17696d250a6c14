"""What the pages tell people is so: links lead somewhere, commands and settings exist, examples work."""

import importlib.util
import re
import shlex
import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import yaml

from zrag_core.corpus.read import read_corpus
from zrag_core.evaluation.metrics import METRICS
from zrag_core.model.checks.catalog import MEMORY_CHECKS, UPDATE_CHECKS
from zrag_core.settings import CorpusSettings, Settings, load_settings
from zrag_core.systems import SYSTEMS
from zrag_pipeline.cli import main
from zrag_pipeline.definitions import defs
from zrag_pipeline.platform.paths import CONFIGS
from zrag_pipeline.platform.warehouse import Warehouse

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
READMES = sorted(CHECKOUT.glob("README*.md"))
PAGES = [*READMES, CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
# What this tells was so when it was written.
RECORDS = {"CHANGELOG.md"}
# What people put a name of their own for.
PLACEHOLDERS = {"JOB", "FILE.yaml", "my.yaml"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
current_pages = pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in RECORDS], ids=lambda path: str(path.relative_to(CHECKOUT))
)
readmes = pytest.mark.parametrize("page", READMES, ids=lambda path: path.name)


def blocks(page, language):
    return [text for name, text in _FENCE.findall(page.read_text("utf-8")) if name == language]


def prose(page):
    return _FENCE.sub("", page.read_text("utf-8"))


def quoted(page):
    """What stands between single backticks."""
    return re.findall(r"`([^`]+)`", prose(page))


@cache
def anchors(page):
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.M)
    kept = ("".join(c for c in h.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM") for h in headings)
    return {heading.replace(" ", "-") for heading in kept}


def command_lines(page):
    """Commands of the bash blocks, without comments; the lines of one that goes on are joined."""
    typed = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    return [words for line in typed.splitlines() if (words := shlex.split(line, comments=True))]


@cache
def help_of(command, capture):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0, command
    return capture.readouterr().out


# --- links -------------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(page):
    wrong = []
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            wrong.append(link)
    assert not wrong


def test_the_index_names_every_page():
    named = {link.partition("#")[0] for link in _LINK.findall((DOCS / "README.md").read_text("utf-8"))}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= named


@current_pages
def test_paths_that_are_named_exist(page):
    folders = ("zrag_core", "zrag_pipeline", "tests", "docs", "dagster_home")
    named = [text for text in quoted(page) if re.fullmatch(rf"({'|'.join(folders)})/[\w./-]*", text)]
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


# --- commands ----------------------------------------------------------------------------------------


@pages
def test_commands_exist(page, capsys):
    targets = set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), flags=re.M))
    jobs = {job.name for job in defs.jobs} | PLACEHOLDERS
    for words in command_lines(page):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        match words:
            case ["make", target]:
                assert target in targets
            case ["zrag", command, *arguments]:
                shown = help_of(command, capsys)
                assert [word for word in arguments if word.startswith("--") and word not in shown] == []
            case ["dagster", "job", "execute", "-m", "zrag_pipeline.definitions", "-j", job, "-c", file]:
                assert job in jobs
                assert Path(file).name in PLACEHOLDERS or (CHECKOUT / file).is_file(), file
            case ["python", script, *_]:
                assert (CHECKOUT / script).is_file()
            case ["source", ".venv/bin/activate"] | ["export", *_] | ["mlflow", "models", "serve", *_]:
                pass
            case _:
                pytest.fail(f"unknown command: {' '.join(words)}")


@pages
def test_commands_that_are_named_in_passing_exist(page, capsys):
    for text in quoted(page):
        if found := re.match(r"zrag ([a-z-]+)(.*)", text, flags=re.S):
            shown = help_of(found[1], capsys)
            assert [option for option in re.findall(r"--[a-z-]+", found[2]) if option not in shown] == [], text


@current_pages
def test_configurations_that_are_named_exist(page):
    named = {text for text in quoted(page) if re.fullmatch(r"\w+\.yaml", text)}
    assert {name for name in named - PLACEHOLDERS - {"dagster.yaml"} if not (CONFIGS / name).is_file()} == set()


def test_every_configuration_job_and_command_is_on_its_page(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, flags=re.M))
    assert {"ask", "leaderboard"} <= commands
    assert commands <= set(re.findall(r"`zrag ([a-z]+)", (DOCS / "operations.md").read_text("utf-8")))
    assert {path.name for path in CONFIGS.glob("*.yaml")} <= set(quoted(DOCS / "own-corpus.md"))
    assert {job.name for job in defs.jobs} <= set(quoted(DOCS / "operations.md"))


def test_every_system_metric_check_and_table_is_on_its_page(tmp_path):
    assert {*SYSTEMS, *METRICS} <= set(quoted(DOCS / "systems-and-measures.md"))
    checks = [figure.name for check in (*MEMORY_CHECKS.values(), *UPDATE_CHECKS.values()) for figure in check.figures]
    assert "z_shuffle_coverage" in checks
    assert {*checks} <= {*quoted(DOCS / "systems-and-measures.md"), *quoted(DOCS / "updating.md")}
    tables = Warehouse(tmp_path / "warehouse.duckdb").query("SELECT table_name FROM information_schema.tables")
    assert {"evidence", "leaderboard"} <= set(tables["table_name"]) - {"schema_migrations"}
    assert set(tables["table_name"]) - {"schema_migrations"} <= set(quoted(DOCS / "operations.md"))


# --- settings ----------------------------------------------------------------------------------------


def test_the_reference_of_the_settings_is_up_to_date():
    script, text = _script("settings_reference")
    assert text == script.page(text), "run: python docs/settings_reference.py"
    assert "| `max_cost_usd` | `5.0` | number >= 0 | hard spending limit" in text
    assert "### answers.judge" not in text.partition(script.MARKER)[0]


def test_the_page_of_costs_is_up_to_date():
    script, text = _script("costs")
    assert text == script.page(text), "run: python docs/costs.py"
    own = script.TINY
    assert f"| {script.size(own.whole * 10**6)} |" in text
    assert [script.size(n) for n in (950, 4_870_000, 8.46e11)] == ["950 bytes", "4.9 MB", "850 GB"]
    assert [script.duration(s) for s in (0.0073, 90, 175, 2 * 86_400)] == ["7.3 ms", "90 s", "2.9 min", "2 days"]


def _script(name):
    """A script of the documentation, and the page that it writes."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[name] = script  # where dataclasses look their module up
    spec.loader.exec_module(script)
    return script, script.PAGE.read_text("utf-8")


@current_pages
def test_settings_that_are_named_exist(page):
    wrong = []
    for text in quoted(page):
        first, *rest = text.partition(":")[0].split(".")
        if first not in Settings.model_fields or not rest or not re.fullmatch(r"[\w.]+(: \S+)?", text):
            continue
        if rest[-1] in ("md", "py", "jsonl", "json", "safetensors", "yaml"):
            continue
        value = getattr(Settings(), first)
        for name in rest:
            if name not in type(value).model_fields:
                wrong.append(text)
                break
            value = getattr(value, name)
    assert not wrong


@current_pages
def test_snippets_of_settings_are_settings(page, monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    for snippet in re.findall(r"`(\w+: \{[^`]*\})`", prose(page)):
        assert load_settings(yaml.safe_load(snippet))
    for block in blocks(page, "yaml"):
        assert load_settings(yaml.safe_load(block)["resources"]["settings"]["config"])


# --- examples ----------------------------------------------------------------------------------------


def test_the_examples_of_rows_are_a_corpus(tmp_path):
    document, question = blocks(DOCS / "own-corpus.md", "jsonl")
    (tmp_path / "corpus.jsonl").write_text(document, "utf-8")
    (tmp_path / "questions.jsonl").write_text(question, "utf-8")
    corpus = read_corpus(CorpusSettings(format="auto", location=str(tmp_path)))
    assert len(corpus.documents) == len(corpus.questions) == 1
    assert corpus.questions[0].evidence in corpus.documents[0].text


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda path: path.name)
def test_the_examples_in_python_can_be_run_as_far_as_their_imports(page):
    """Those of extending.md are run whole by `test_extending`."""
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        exec("\n".join(line for line in block.splitlines() if line.startswith(("import ", "from "))), {})


# --- the front page ----------------------------------------------------------------------------------


@readmes
def test_the_front_page_is_short_and_has_the_commands(page):
    text = page.read_text("utf-8")
    assert len(text.split()) <= 1200
    assert "make demo" in text
    assert "make test" in text
    assert "dagster job execute" in text


def _pretrained(results, name):
    """recall@1, coverage at 64 and at 256 of a system, as the results of the pretrained LLM have them."""
    own = results.partition("## A pretrained LLM on real text")[2].partition("\n## ")[0]
    retrieval, coverage = re.findall(rf"^\| `{name}` \|(.+)\|$", own, flags=re.M)[:2]
    recall, at_64, _, at_256, *_ = (cell.split()[0] for cell in [retrieval.split("|")[0], *coverage.split("|")])
    return [recall, at_64, at_256]


@readmes
def test_the_figures_of_the_front_page_are_those_of_the_results(page):
    results = (DOCS / "results.md").read_text("utf-8")
    demo = results.partition("\ntest, 203 questions (percent")[2].partition("\n\n")[0]
    squad = results.partition("## Every system on 300 documents and 200 questions of SQuAD")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)`[^|]*\|(.+)\|$", page.read_text("utf-8"), flags=re.M)
    rows = [(name, [cell.strip(" *") for cell in cells.split("|")]) for name, cells in found]
    assert {"zrag", "zrag_free", "bm25", "bm25_sentence", "dense", "memorag"} <= {name for name, _ in rows}
    for name, shown in rows:
        if len(shown) == 3:  # with a pretrained LLM
            assert shown == _pretrained(results, name)
            continue
        printed = re.search(rf"^{name} +(.+)$", demo, flags=re.M)
        recall, _, _, _, at_64, _, at_256, *_ = printed[1].split() if printed else ["–"] * 8
        assert shown[:3] == [recall, at_64, at_256], name
        listed = re.search(rf"^\| `{name}` \|(.+)\|$", squad, flags=re.M)[1].split("|")
        recall, _, at_64, _, at_256, *_ = (cell.split()[0] for cell in listed)
        assert [float(cell) for cell in shown[3:]] == [float(recall), float(at_64), float(at_256)], name
