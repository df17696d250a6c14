"""The examples of docs/extending.md are run as they stand there: the file, the line that registers it, and its use."""

import re
import sys
import types
from pathlib import Path

import pytest
from small_llm import save_small_qwen3

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SECTIONS = {title: BLOCK.findall(text) for title, text in SECTION.findall(PAGE.read_text("utf-8"))}


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Runs the blocks of a section; what they register is gone afterwards."""
    from zrag_core.corpus_formats import FORMATS
    from zrag_core.evaluation.metrics import METRICS
    from zrag_core.model.checks.catalog import MEMORY_CHECKS
    from zrag_core.systems import SYSTEMS

    for registry in (SYSTEMS, METRICS, FORMATS, MEMORY_CHECKS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def run(title, prepare=lambda: {}):
        namespace = {}
        blocks = list(SECTIONS[title])
        if blocks[0].startswith("# zrag_"):
            define_module(monkeypatch, tmp_path, blocks.pop(0))
        for block in blocks:
            if block is blocks[-1]:
                namespace |= prepare()
            exec(compile(block, f"{PAGE.name}: {title}", "exec"), namespace)
        return namespace

    return run


def define_module(monkeypatch, folder, source):
    """Make the file of an example importable under the name that its first line gives."""
    name = source.splitlines()[0].removeprefix("# ").removesuffix(".py").replace("/", ".")
    module = types.ModuleType(name)
    path = folder / f"{name}.py"
    path.write_text(source, "utf-8")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, child = name.rpartition(".")
    monkeypatch.setattr(sys.modules.get(parent) or __import__(parent, fromlist=["_"]), child, module, raising=False)


def test_every_section_is_run():
    assert set(SECTIONS) == {
        "A baseline",
        "A metric",
        "A corpus format",
        "A memory check",
        "A backbone",
        "A job",
    }


def test_a_baseline(example, tmp_path):
    from zrag_core.answering.ledger import SpendingLedger
    from zrag_core.corpus.almanac import generate_almanac
    from zrag_core.settings import load_settings
    from zrag_core.system_factory import SystemInputs

    def prepare():
        corpus = generate_almanac(n_documents=30, language="en", seed=0)
        settings = load_settings({"evaluation": {"systems": ["tfidf"]}})
        inputs = SystemInputs(settings, corpus, [], {}, {}, tmp_path, tmp_path / "cache", SpendingLedger(0.0), {})
        return {"inputs": inputs}

    example("A baseline", prepare)


def test_a_metric(example, tmp_path):
    from zrag_core.corpus.types import Question
    from zrag_pipeline.platform.warehouse import Warehouse

    def prepare():
        return {"question": Question("q", "When?"), "warehouse": Warehouse(tmp_path / "warehouse.duckdb")}

    # A warehouse of before the metric gets its columns.
    assert "numbers_kept" not in Warehouse(tmp_path / "warehouse.duckdb").query("SELECT * FROM scores").columns
    example("A metric", prepare)


def test_a_corpus_format(example, tmp_path):
    example("A corpus format", lambda: {"folder": tmp_path})


def test_a_memory_check(example, written_memory):
    from zrag_core.model.store.checkpoint import load_checkpoint

    example("A memory check", lambda: {"checkpoint": load_checkpoint(written_memory)})


def test_a_backbone(example, tmp_path):
    save_small_qwen3(tmp_path, ["a harbour town was founded by sailors"] * 3)
    example("A backbone", lambda: {"llm_folder": tmp_path})


def test_a_job(example, tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    example("A job")
