"""Documentation strings of installed packages: technical prose with headings, lists, tables and code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

from zrag_core.corpus.prose.piece import Prose

_SHORTEST = 200  # characters
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LEFT_OUT = {"tests", "test", "_vendor", "vendor", "externals"}


def docstring_pieces(package: str) -> Iterator[Prose]:
    """The long documentation strings of a package, in the order of its files; each text once."""
    folder = _folder(package)
    seen: set[str] = set()
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder)
        if _LEFT_OUT & set(inside.parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):  # files for other versions of Python
            continue
        module = ".".join((package, *inside.with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(tree):
            if not isinstance(node, _DOCUMENTED):
                continue
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            if len(text) >= _SHORTEST and text not in seen:
                seen.add(text)
                yield Prose(getattr(node, "name", module), text)


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent
