"""The run's settings as a Dagster resource, its schema generated from `zrag_core.settings`.

The schema only describes: the launchpad shows and completes every field with its documentation.
Checking is left to `load_settings`, which reports all problems at once in words of its own, so
values of any kind, unknown fields included, pass through to `SettingsHandle.load`.
"""

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from zrag_core.settings import Settings, load_settings


@dataclass(frozen=True)
class SettingsHandle:
    """The settings of a run as they were given, not checked yet.

    Attributes:
        raw: nested mapping; what is left out takes its default.
    """

    raw: Mapping[str, Any]

    def load(self) -> Settings:
        """Check and return the settings.

        Raises:
            SettingsError: one problem; ProblemList: several, all of them at once.
        """
        return load_settings(_without_empty_sections(self.raw, Settings))

    def sound_part(self) -> Settings:
        """Return the settings with whatever is wrong in them left at its default, so that the rest can be examined.

        Rules between sections are not applied. For a run, use `load`.
        """
        values = _without_empty_sections(self.raw, Settings)
        sections: dict[str, Any] = {
            name: _sound_section(section, values.get(name, {}))
            for name, field in Settings.model_fields.items()
            if (section := _section(field)) is not None
        }
        return Settings.model_construct(None, **sections)


def _schema(model: type[BaseModel]) -> dg.Noneable:
    """Return a shape that describes `model` and lets everything through."""
    fields, properties = {}, model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        section = _section(field)
        kind = dg.Any if section is None else _schema(section)
        text = _describe(field, properties[name]) if section is None else section.__doc__
        fields[name] = dg.Field(kind, is_required=False, description=text)
    return dg.Noneable(dg.Permissive(fields, description=model.__doc__))


def _describe(field: FieldInfo, schema: Mapping[str, Any]) -> str:
    facts = []
    choices = _choices(schema)
    if choices:
        facts.append(f"one of {', '.join(map(str, choices))}")
    facts.append(f"default: {json.dumps(field.default, ensure_ascii=False)}")
    return f"{field.description or ''} ({'; '.join(facts)})".strip()


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    """Return what a field (or each item of it) may be, where these are a few names or numbers."""
    inner = [schema, schema.get("items", {}), *schema.get("anyOf", [])]
    return [choice for part in inner for choice in part.get("enum", [])]


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _without_empty_sections(values: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Drop sections that are null: in YAML, a section whose fields are all commented out."""
    kept = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        section = None if field is None else _section(field)
        if section is not None and value is None:
            continue
        if section is not None and isinstance(value, Mapping):
            value = _without_empty_sections(value, section)
        kept[name] = value
    return kept


def _sound_section(section: type[BaseModel], given: Any) -> BaseModel:
    values = copy.deepcopy(dict(given)) if isinstance(given, Mapping) else {}
    while True:
        try:
            return section.model_validate(values)
        except ValidationError as error:
            # Of `budgets.2`, the third entry of a list, the whole field goes.
            wrong = {tuple(itertools.takewhile(lambda part: isinstance(part, str), e["loc"])) for e in error.errors()}
        if not all(_removed(values, path) for path in wrong):
            return section()


def _removed(values: dict[Any, Any], path: tuple[int | str, ...]) -> bool:
    """Remove a field; False for what is not there to be removed (a rule of the whole section is broken)."""
    for name in path[:-1]:
        values = values[name]
    return bool(path) and values.pop(path[-1], path) is not path


@dg.resource(config_schema=dg.Field(_schema(Settings), is_required=False), description=Settings.__doc__)
def settings_resource(context: dg.InitResourceContext) -> SettingsHandle:
    """Hand the run's settings to assets, unchecked (a bad value must not stop the run before preflight)."""
    return SettingsHandle(context.resource_config or {})
