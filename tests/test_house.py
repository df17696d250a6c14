"""The house rules that no linter holds: short files and functions, few parameters, one name for one module."""

import ast
from collections import Counter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
MODULES = sorted(path for root in ("zrag_core", "zrag_pipeline") for path in (CHECKOUT / root).rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PARAMETERS = 320, 60, 7
# What several folders have of their own, under the name that is looked for there.
SHARED_NAMES = {"__init__.py", "assets.py", "checks.py", "sensors.py", "types.py"}


@pytest.fixture(scope="module")
def functions():
    """Every function of the code by its place."""
    return {
        f"{path.relative_to(CHECKOUT)}:{node.lineno} {node.name}": node
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def n_parameters(node):
    """What a caller may give: all but the object itself."""
    a = node.args
    names = [each.arg for each in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if each is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_files_are_short():
    lines = {str(path.relative_to(CHECKOUT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lines.items() if n > FILE_LINES} == {}


def test_functions_are_short(functions):
    lines = {name: node.end_lineno - node.lineno + 1 for name, node in functions.items()}
    assert {name: n for name, n in lines.items() if n > FUNCTION_LINES} == {}


def test_functions_take_few_parameters(functions):
    counts = {name: n_parameters(node) for name, node in functions.items()}
    assert {name: n for name, n in counts.items() if n > PARAMETERS} == {}


@pytest.mark.parametrize("root", ["zrag_core", "zrag_pipeline"])
def test_a_file_name_is_used_once(root):
    modules = (path for path in MODULES if path.relative_to(CHECKOUT).parts[0] == root)
    # A section of the settings is named after what it sets.
    names = Counter(path.name for path in modules if path.parent.name != "settings")
    assert {name: n for name, n in names.items() if n > 1 and name not in SHARED_NAMES} == {}
