"""How many threads a model is computed with where nobody says, and how waiting ones behave."""

import os
import subprocess
import sys

import pytest

from zrag_core.settings import load_settings
from zrag_core.settings.backbone import MOST_THREADS


def threads(given="auto"):
    return load_settings({"backbone": {"threads": given}}).backbone.cpu_threads


def test_a_number_that_is_given_counts(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads(5) == 5


@pytest.mark.parametrize(("variable", "cores", "expected"), [("3", 16, 3), ("", 6, 6), ("0", 6, 6), ("4,2", 6, 6)])
def test_a_limit_from_outside_counts_before_the_cores(monkeypatch, variable, cores, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr("joblib.cpu_count", lambda only_physical_cores: cores)
    assert threads() == expected


def test_many_cores_are_not_all_taken(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda only_physical_cores: 64)
    assert threads() == MOST_THREADS


def test_what_one_core_may_do_is_one_thread(monkeypatch):
    """A process that is confined to a core takes one thread, whatever the machine has."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    core = min(os.sched_getaffinity(0))
    code = "from zrag_core.settings.backbone import own_threads; print(own_threads())"
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}}); {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_the_library_sets_how_threads_wait_before_torch_is_loaded_and_leaves_what_is_set():
    code = "import os, sys, zrag_core; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    for outside, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
        done = subprocess.run([sys.executable, "-c", code], env=clean | outside, capture_output=True, text=True)
        assert done.stdout == f"{expected}\n", done.stderr
