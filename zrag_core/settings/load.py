"""Settings from nested mappings: every problem at once, each with its field."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from zrag_core.errors import ProblemList, SettingsError
from zrag_core.settings.former_names import new_place
from zrag_core.settings.secrets import is_key, may_be_secret
from zrag_core.settings.tree import Settings

# People paste keys and passwords here; what they typed is not repeated to terminals and logs.
_NOT_SHOWN = "(not shown, as it may be a key)"
_NEVER_SHOWN = frozenset(
    f"{section}.{field}" for section in ("answers", "answers.judge") for field in ("api_key_env", "base_url")
)


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Check a nested mapping (a parsed YAML file, a Dagster resource's config) and return settings.

    Raises:
        SettingsError: one problem; ProblemList: several, all of them at once.
    """
    problems = list(_misplaced(values, ""))
    try:
        settings = Settings.model_validate(dict(values))
    except ValidationError as error:
        told = {line.partition(":")[0] for line in problems}
        found = [line for item in error.errors() for line in _describe(item)]
        problems += [line for line in found if line.partition(":")[0] not in told]
    if not problems:
        return settings
    if len(problems) == 1:
        raise SettingsError(problems[0])
    raise ProblemList(f"{len(problems)} problems in the configuration", problems)


def _misplaced(value: Any, path: str) -> Iterator[str]:
    """Text that no field takes: keys, which would be logged and kept with the run, and control characters."""
    if path in _NEVER_SHOWN:
        return  # these have rules of their own
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _misplaced(inner, f"{path}.{_shown(name)}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _misplaced(inner, f"{path}.{number}")
    elif isinstance(value, str):
        if is_key(value):
            yield (
                f"{path}: holds a key (not shown), which would be logged; put it into the environment variable that "
                "answers.api_key_env names"
            )
        elif any(unicodedata.category(character) == "Cc" and character not in "\n\t\r" for character in value):
            yield f"{path}: holds a control character; take it out"


def _shown(name: object) -> str:
    """A part of a field's name, which may be a key in the wrong place."""
    return _NOT_SHOWN if may_be_secret(str(name)) else str(name)


def _describe(item: Mapping[str, Any]) -> Iterator[str]:
    path = list(map(_shown, item["loc"]))
    field = ".".join(path) or "configuration"
    if item["type"] == "extra_forbidden":
        yield from _describe_unknown(path, item["input"])
        return
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "model_type":
        message = "a section belongs here, with fields of its own"
    given = item["input"]
    plain = isinstance(given, str | int | float | bool | None) and field not in _NEVER_SHOWN
    shown = f" (given: {given!r})" if plain and not may_be_secret(str(given)) else ""
    yield f"{field}: {message}{shown}"


def _describe_unknown(path: list[str], given: Any) -> Iterator[str]:
    fields = [[*path, name] for name in given] if len(path) == 1 and isinstance(given, Mapping) else []
    moved = [(".".join(field), new_place(".".join(field))) for field in fields or [path]]
    if any(place for _, place in moved):
        yield from (f"{field}: {place or 'unknown field'}" for field, place in moved)
        return
    known = _fields_at(path[:-1])
    nearest = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known fields: {', '.join(known)}"
    yield f"{'.'.join(path)}: unknown field -> {hint}"


def _fields_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for name in path:
        section = model.model_fields[name].annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        model = section
    return list(model.model_fields)
