import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from zrag_pipeline.platform.console import console_logger

TOY = """
import dagster as dg

from zrag_core.errors import ProblemList, SettingsError
from zrag_pipeline.platform.console import console_logger


@dg.asset
def corpus(context):
    context.log.debug("a detail")
    context.log.info("64 documents, 한국어 100%")
    context.log.warning("three rows left out")
    metadata = {
        "dagster/row_count": 64,
        "coverage_rate": 0.512345,
        "essay": "long " * 50,
        "page": dg.MetadataValue.url("http://127.0.0.1"),
        "table": dg.MetadataValue.md("| a |"),
        "name": "말뭉치",
        "whole": True,
        "fifth": 5,
    }
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(asset=corpus)
def has_documents():
    return dg.AssetCheckResult(passed=True, description="64 documents")


@dg.asset_check(asset=corpus)
def is_balanced():
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"share": 0.9})


@dg.asset_check(asset=corpus)
def is_whole():
    return dg.AssetCheckResult(passed=False, description="two rows lack text")


@dg.asset
def preflight() -> None:
    raise ProblemList("2 problems in the configuration", ["corpus.formt: unknown field", "memory.slots: too few"])


@dg.asset(deps=[preflight])
def model() -> None:
    pass


@dg.asset
def one_problem() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        raise SettingsError("is not set", where="corpus.location", remedy="export ZRAG_CORPUS") from error


@dg.asset
def refusal() -> None:
    raise dg.Failure("the server refused: no key")


@dg.asset
def bug() -> None:
    raise ValueError("an unforeseen state")


@dg.asset
def gated() -> None:
    pass


@dg.asset_check(asset=gated, blocking=True)
def gate():
    return dg.AssetCheckResult(passed=False, description="closed")


@dg.asset(deps=[gated])
def behind_the_gate() -> None:
    pass


class Closed(dg.ConfigurableIOManager):
    def handle_output(self, context, obj):
        pass

    def load_input(self, context):
        raise SettingsError("asset has not been materialised yet", remedy="materialise it first")


@dg.asset
def reader(corpus) -> None:
    pass


failing = [preflight, model, one_problem, refusal, bug, gated, behind_the_gate, reader]
both = dg.AssetSelection.assets(corpus, preflight)
defs = dg.Definitions(
    assets=[corpus, *failing],
    asset_checks=[has_documents, is_balanced, is_whole, gate],
    resources={"io_manager": Closed()},
    jobs=[
        dg.define_asset_job("fine", [corpus], executor_def=dg.in_process_executor),
        dg.define_asset_job("failing", dg.AssetSelection.assets(*failing), executor_def=dg.in_process_executor),
        dg.define_asset_job("spawned", both.without_checks(), executor_def=dg.multiprocess_executor),
    ],
    loggers={"console": console_logger},
)
"""
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.py").write_text(TOY, "utf-8")
    (folder / "run.yaml").write_text("loggers: {console: {}}")
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text((CHECKOUT / "dagster_home" / "dagster.yaml").read_text("utf-8"))
    return folder


def execute(toy, job):
    """Run a job on the command line; return its exit code and its lines, times and ids masked."""
    environment = os.environ | {
        "DAGSTER_HOME": str(toy / "home"),
        "PYTHONPATH": f"{toy}{os.pathsep}{CHECKOUT}",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "toy", "-j", job, "-c", str(toy / "run.yaml")]
    result = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=toy
    )
    text = re.sub(r"^\d\d:\d\d:\d\d  ", "", result.stdout, flags=re.M)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "RUN", text)
    text = re.sub(r"\d+(\.\d)? m?s$", "TIME", text, flags=re.M)
    return result.returncode, [re.sub(r"^(\S+) {2,}", r"\1 | ", line) for line in text.splitlines()]


def test_a_good_run_is_a_few_short_lines(toy):
    code, lines = execute(toy, "fine")
    assert code == 0
    checks = {line for line in lines if " | check " in line}
    assert [line for line in lines if line not in checks] == [
        "fine | run RUN started",
        "corpus | started",
        "corpus | 64 documents, 한국어 100%",
        "corpus | WARNING: three rows left out",
        "corpus | materialised: row count 64, coverage rate 0.5123, name 말뭉치, whole True",
        "corpus | done in TIME",
        "fine | run succeeded after TIME",
    ]
    assert checks == {
        "corpus | check has_documents passed: 64 documents",
        "corpus | check is_balanced warn: share 0.9",
        "corpus | check is_whole FAILED: two rows lack text",
    }


def test_failures_say_what_is_wrong_and_only_bugs_show_a_traceback(toy):
    code, lines = execute(toy, "failing")
    assert code == 1
    assert "one_problem | FAILED: corpus.location: is not set -> export ZRAG_CORPUS" in lines
    assert "refusal | FAILED: the server refused: no key" in lines
    assert "reader | FAILED: asset has not been materialised yet -> materialise it first" in lines
    assert "gated | check gate FAILED: closed" in lines
    assert "gated_gate | FAILED: 1 blocking asset check failed with ERROR severity: gated: gate" in lines
    assert not any("behind_the_gate | started" in line or "model | started" in line for line in lines)
    start = lines.index("preflight | FAILED: 2 problems in the configuration")
    assert lines[start + 1 : start + 3] == ["  - corpus.formt: unknown field", "  - memory.slots: too few"]
    start = lines.index("bug | FAILED: ValueError: an unforeseen state")
    traceback = lines[start + 1 : lines.index('    raise ValueError("an unforeseen state")') + 1]
    assert any("in bug" in line for line in traceback)
    elsewhere = lines[:start] + lines[start + 1 + len(traceback) :]
    assert not any("Stack Trace" in line or "Traceback" in line or 'File "' in line for line in elsewhere)
    assert "failing | RUN FAILED after TIME" in lines


def test_steps_in_processes_of_their_own_speak_the_same_way(toy):
    code, lines = execute(toy, "spawned")
    assert code == 1
    assert sorted(lines[1:-1]) == sorted(
        [
            "corpus | started",
            "corpus | 64 documents, 한국어 100%",
            "corpus | WARNING: three rows left out",
            "corpus | materialised: row count 64, coverage rate 0.5123, name 말뭉치, whole True",
            "corpus | done in TIME",
            "preflight | started",
            "preflight | FAILED: 2 problems in the configuration",
            "  - corpus.formt: unknown field",
            "  - memory.slots: too few",
            "spawned | RUN FAILED after TIME",
        ]
    )
    assert lines[0] == "spawned | run RUN started"
    assert lines[-1] == "Error: Run RUN resulted in failure."


def logged(level: str, capfd) -> str:
    @dg.op
    def speak(context):
        context.log.debug("detail")
        context.log.info("news")
        try:
            raise RuntimeError("inner")
        except RuntimeError:
            context.log.exception("it went wrong")

    @dg.job(logger_defs={"console": console_logger})
    def job():
        speak()

    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, run_config={"loggers": {"console": {"config": {"log_level": level}}}})
    return capfd.readouterr().err


def test_level_applies_to_messages_and_exceptions_keep_their_traceback(capfd):
    everything = logged("debug", capfd)
    assert "detail" in everything
    errors = logged("ERROR", capfd)
    assert "news" not in errors
    assert "speak                 ERROR: it went wrong\nTraceback" in errors
    assert "RuntimeError: inner" in errors
    assert "run succeeded" in errors


@pytest.mark.parametrize(("name", "number"), [("INFO", logging.INFO), ("warning", logging.WARNING)])
def test_level_names_are_those_of_logging(name, number):
    context = dg.build_init_logger_context(logger_config={"log_level": name})
    (handler,) = console_logger(context).handlers
    hidden = logging.LogRecord("x", number - 1, "f", 1, "hidden", (), None)
    shown = logging.LogRecord("x", number, "f", 1, "shown", (), None)
    assert (handler.format(hidden), handler.format(shown)[-5:]) == ("", "shown")


def test_an_interrupt_is_one_word_not_a_traceback(capfd):
    @dg.op
    def train():
        signal.raise_signal(signal.SIGINT)

    @dg.job(logger_defs={"console": console_logger}, executor_def=dg.in_process_executor)
    def job():
        train()

    run_config = {"loggers": {"console": {}}}
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(DagsterExecutionInterruptedError):
        job.execute_in_process(instance=instance, run_config=run_config)
    text = capfd.readouterr().err
    assert "train                 FAILED: interrupted\n" in text
    assert re.search(r"job +RUN FAILED after [^:]*: interrupted\n", text)
    assert "Stack Trace" not in text
