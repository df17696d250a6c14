"""The daemon at work for some minutes while the corpus changes under it: `python tests/soak/daemon_soak.py`.

A corpus of almanac documents lies in a temporary folder, with a Dagster home and a data folder of its own. The daemon
watches it while documents are added, changed, deleted and brought back, one at a time and in bursts, with half-written
files in between; half way the daemon is killed and started again. When everything is quiet, the memory must hold the
corpus as it is, and no change may be lost, no run doubled, no two runs have overlapped. Needs no network; all
processes are ended. Exit code 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml
from reckoning import Change, Reckoning, Run, reckon

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.types import Document
from zrag_core.files import write_text_atomic
from zrag_core.settings import CorpusSettings

CHECKOUT = Path(__file__).parents[2]
SENSOR = "corpus_sensor"
SETTLE_S = 5
QUIET_S = 900.0
START_S = 180.0
POLL_S = 3.0
SETTINGS = {
    "targets": {"self_study_per_sentence": 1},
    "backbone": {"threads": 1},
    "writing": {"steps": 0},
    "decoding": {"routed_documents": 2, "max_new_tokens": 16},
    "evaluation": {"systems": ["zrag", "bm25"], "limit_questions": 10, "budgets": [256], "bootstrap_samples": 20},
    "answers": {"reader": "offline", "limit_questions": 10, "curve_budgets": []},
    "updates": {"settle_seconds": SETTLE_S, "retrain_share": 0.5, "old_sample": 10},
}


class Corpus:
    """The corpus on disk, and what was done to it."""

    def __init__(self, folder: Path, documents: int, seed: int):
        generated = generate_almanac(n_documents=3 * documents, language="en", seed=seed).documents
        self._file = folder / "corpus.jsonl"
        self._settings = CorpusSettings(format="native", location=str(folder), name="soak")
        self._random = random.Random(seed)
        self._spare = list(generated[documents:])
        self._states = [list(generated[:documents])]
        self.changes: list[Change] = []
        folder.mkdir()
        self._write(self._states[0])
        self.first = self.fingerprint()

    def fingerprint(self) -> str:
        """Of the content as it is."""
        from zrag_pipeline.defs.corpus.state import corpus_fingerprint

        return corpus_fingerprint(self._settings)

    @property
    def documents(self) -> list[Document]:
        return self._states[-1]

    def change(self) -> str:
        """Do something to the corpus; returns what."""
        kind = self._random.choice(["add", "add", "change", "change", "delete", "return", "burst", "half-written"])
        if kind == "burst":
            return "burst: " + ", ".join(self._step(kind) for kind in ("add", "change", "delete", "change"))
        if kind == "half-written":
            text = self._file.read_text(encoding="utf-8")
            self._file.write_text(text[: len(text) // 2], encoding="utf-8")
            time.sleep(1.0)
            return f"half-written, then {self._step('change')}"
        return self._step(kind)

    def _step(self, kind: str) -> str:
        documents = list(self.documents)
        position = self._random.randrange(len(documents))
        what = kind
        if kind == "add":
            documents.insert(position, self._spare.pop())
        elif kind == "change":
            old = documents[position]
            text = f"{old.text} Note {len(self.changes) + 1} was added later."
            documents[position] = Document(old.id, old.title, text, old.source_id)
        elif kind == "delete":
            self._spare.insert(0, documents.pop(position))
        else:
            back = self._random.randrange(max(0, len(self._states) - 6), len(self._states))
            documents, what = list(self._states[back]), f"return to state {back}"
        self._write(documents)
        self._states.append(documents)
        self.changes.append(Change(time.time(), self.fingerprint(), what))
        return what

    def _write(self, documents: list[Document]) -> None:
        rows = ({"id": d.id, "title": d.title, "text": d.text} for d in documents)
        write_text_atomic(self._file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


class Daemon:
    """The Dagster daemon (and the code server that it starts), in a session of its own."""

    def __init__(self, environment: dict[str, str], log: Path):
        self._environment = environment
        self._log = log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "zrag_pipeline.definitions"]
        with self._log.open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    command, cwd=CHECKOUT, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def lives(self) -> bool:
        return self._started[-1].poll() is None

    def last_words(self) -> str:
        return "".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines(True)[-40:])

    def kill(self) -> None:
        """End the daemon alone and at once, as a crash would; its code server is left behind."""
        self._started[-1].kill()
        self._started[-1].wait()

    def stop(self) -> None:
        """End every process of every daemon that was started."""
        for number, patience in ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for daemon in self._started:
                deadline = time.monotonic() + patience
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(daemon.pid, number)
                    while time.monotonic() < deadline:
                        daemon.poll()
                        os.killpg(daemon.pid, 0)  # raises when none is left
                        time.sleep(0.2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the corpus goes on changing (default 10)")
    parser.add_argument("--documents", type=int, default=24, help="documents at the beginning (default 24)")
    parser.add_argument("--pause", type=float, default=20.0, help="mean seconds between changes (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of what is changed and when")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args(arguments)
    # However it is ended, the processes that it started end with it; a shell's background job ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="zrag-soak-"))
    try:
        environment = _prepare(folder)
        os.environ.update(environment)
        corpus = Corpus(folder / "corpus", options.documents, options.seed)
        daemon = Daemon(environment, folder / "daemon.log")
        try:
            _switch_on(environment)
            daemon.start()
            _wait_for_first_tick(daemon)
            _go_on(corpus, daemon, options)
            waited, problems = _wait_until_quiet(corpus)
        finally:
            daemon.stop()
        code = _report(corpus, folder, waited, problems)
        if code:
            print(daemon.last_words())
        return code
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path) -> dict[str, str]:
    """Write the configuration; returns the environment of all processes."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", home)
    corpus = {"format": "native", "location": str(folder / "corpus"), "name": "soak"}
    config = {"loggers": {"console": {}}, "resources": {"settings": {"config": {"corpus": corpus, **SETTINGS}}}}
    (folder / "soak.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    own = {
        "DAGSTER_HOME": str(home),
        "ZRAG_DATA_DIR": str(folder / "data"),
        "ZRAG_CONFIG": str(folder / "soak.yaml"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}


def _switch_on(environment: dict[str, str]) -> None:
    """Start the sensor; the daemon comes later, as two processes cannot create Dagster's databases at once."""
    command = [sys.executable, "-m", "dagster", "sensor", "start", SENSOR, "-m", "zrag_pipeline.definitions"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=START_S)
    if done.returncode != 0:
        raise SystemExit(f"the sensor cannot be started: {done.stdout}{done.stderr}")


def _wait_for_first_tick(daemon: Daemon) -> None:
    deadline = time.monotonic() + START_S
    while (message := _last_message()) is None:
        if time.monotonic() > deadline or not daemon.lives():
            raise SystemExit(f"the sensor never ticked:\n{daemon.last_words()}")
        time.sleep(POLL_S)
    print(message, flush=True)


def _go_on(corpus: Corpus, daemon: Daemon, options: argparse.Namespace) -> None:
    """Change the corpus again and again; kill the daemon half way."""
    pauses = random.Random(options.seed + 1)
    begun = time.monotonic()
    killed = False
    while (elapsed := time.monotonic() - begun) < 60 * options.minutes:
        if not killed and elapsed > 30 * options.minutes:
            killed = True
            daemon.kill()
            print(f"{elapsed:5.0f} s  daemon killed", flush=True)
            print(f"{elapsed:5.0f} s  {corpus.change()} (no daemon)", flush=True)
            time.sleep(5.0)
            daemon.start()
        else:
            print(f"{elapsed:5.0f} s  {corpus.change()}", flush=True)
        time.sleep(pauses.uniform(0.2, 1.8) * options.pause)


def _wait_until_quiet(corpus: Corpus) -> tuple[float, list[str]]:
    """Wait until the sensor finds the corpus unchanged, and nothing is running; seconds, and what went wrong."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < QUIET_S:
        message = _last_message() or ""
        if message.endswith(f"is unchanged ({corpus.fingerprint()})"):
            return waited, []
        if message.endswith("waiting for the next change"):
            return waited, [f"the sensor gave up: {message}"]
        time.sleep(POLL_S)
    return waited, [f"not quiet after {QUIET_S:.0f} s; the sensor last said: {message}"]


@contextlib.contextmanager
def _instance() -> Iterator:
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        yield instance


def _last_message() -> str | None:
    """What the sensor said at its last tick that ended; None before the first."""
    with _instance() as instance:
        for state in instance.all_instigator_state():
            if state.name == SENSOR:
                for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2):
                    if tick.status.value != "STARTED":
                        return tick.skip_reason or f"{tick.status.value} {tick.error or tick.run_keys}"
    return None


def _runs() -> list[Run]:
    with _instance() as instance:
        records = instance.get_run_records()
    runs = []
    for record in records:
        run = record.dagster_run
        tags = run.tags
        ended = record.end_time or time.time()
        started = record.start_time or ended
        read = tags.get("zrag.corpus_read")
        runs.append(Run(run.run_id, run.job_name, run.is_success, started, ended, read, tags.get("dagster/run_key")))
    return sorted(runs, key=lambda run: run.started)


def _in_memory(folder: Path) -> list[Document]:
    """The documents of the newest checkpoint of the memory."""
    from zrag_core.model.store.checkpoint import load_checkpoint

    handle = json.loads((folder / "data" / "handles" / "memory" / "latest.json").read_text(encoding="utf-8"))
    return list(load_checkpoint(Path(handle["checkpoint"]["folder"]), device="cpu").documents)


def _report(corpus: Corpus, folder: Path, waited: float, problems: list[str]) -> int:
    """Print what happened; returns the exit code."""
    runs = _runs()
    reckoning = reckon(corpus.first, corpus.changes, runs)
    problems = [*problems, *reckoning.problems]
    try:
        held = {d.id: d.content_hash for d in _in_memory(folder)}
    except OSError as error:
        held = {}
        problems.append(f"no memory was written: {error}")
    wanted = {d.id: d.content_hash for d in corpus.documents}
    if held != wanted:
        ids = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
        problems.append(f"memory and corpus differ in {len(ids)} documents: {', '.join(ids[:5])}")
    _print_table(corpus, runs, reckoning, waited)
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print(f"every change is in memory: {len(wanted)} documents, equal by content; no run doubled, none lost")
    return 1 if problems else 0


def _print_table(corpus: Corpus, runs: list[Run], reckoning: Reckoning, waited: float) -> None:
    jobs = Counter(f"{run.job}, {'succeeded' if run.succeeded else 'not succeeded'}" for run in runs)
    took = sorted(run.ended - run.started for run in runs)
    rows = {
        "changes": len(corpus.changes),
        **{f"runs: {job}": number for job, number in sorted(jobs.items())},
        "median seconds of a run": f"{took[len(took) // 2]:.0f}" if took else "-",
        "median seconds from change to memory": f"{reckoning.median_delay:.0f}",
        "most seconds from change to memory": f"{max(reckoning.delays, default=float('nan')):.0f}",
        "seconds until quiet at the end": f"{waited:.0f}",
    }
    for name, value in rows.items():
        print(f"{name:<40} {value}")


if __name__ == "__main__":
    sys.exit(main())
