"""Settings from nested mappings: every problem at once, each with its field."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from zrag_core.errors import ProblemList, SettingsError
from zrag_core.settings.former_names import new_place
from zrag_core.settings.tree import Settings

# People paste keys and passwords here; what they typed is not repeated to terminals and logs.
_NEVER_SHOWN = frozenset(
    f"{section}.{field}" for section in ("answers", "answers.judge") for field in ("api_key_env", "base_url")
)


def load_settings(values: Mapping[str, Any]) -> Settings:
    """Check a nested mapping (a parsed YAML file, a Dagster resource's config) and return settings.

    Raises:
        SettingsError: one problem; ProblemList: several, all of them at once.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = [line for item in error.errors() for line in _describe(item)]
    if len(problems) == 1:
        raise SettingsError(problems[0])
    raise ProblemList(f"{len(problems)} problems in the configuration", problems)


def _describe(item: Mapping[str, Any]) -> Iterator[str]:
    path = [str(part) for part in item["loc"]]
    field = ".".join(path) or "configuration"
    if item["type"] == "extra_forbidden":
        yield from _describe_unknown(path, item["input"])
        return
    message = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    plain = isinstance(given, str | int | float | bool | None) and field not in _NEVER_SHOWN
    shown = f" (given: {given!r})" if plain else ""
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
