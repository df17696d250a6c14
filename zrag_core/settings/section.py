"""What every settings section is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from zrag_core.settings.secrets import names_secret

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0.0)]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Section(BaseModel):
    """Base of every settings section: immutable; unknown fields and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def names_variable(text: object) -> bool:
    """Whether `text` could be the name of an environment variable."""
    return isinstance(text, str) and _VARIABLE.fullmatch(text) is not None


def from_environment(value: Any) -> Any:
    """The value of an environment variable where `value` is {env: NAME}; else `value`.

    With {env: NAME, default: VALUE} the default stands where there is no such variable.

    Raises:
        ValueError: no such variable, and no default.
    """
    if isinstance(value, Mapping) and set(value) in ({"env"}, {"env", "default"}):
        name = value["env"]
        if not names_variable(name):
            raise ValueError("env takes the name of an environment variable, as in {env: ZRAG_CORPUS}")
        if names_secret(name):
            raise ValueError(f"{name} names a secret, which does not belong here; name a variable that holds a place")
        if not os.environ.get(name):
            if "default" in value:
                return value["default"]
            raise ValueError(f"the environment variable {name} is not set; export {name}=/path/to/corpus")
        return os.environ[name]
    return value
