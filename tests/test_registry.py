"""The registry: order, unknown names, and a name that is taken."""

from dataclasses import dataclass

import pytest

from zrag_core.errors import ZragError
from zrag_core.registry import Registry


@dataclass(frozen=True)
class Thing:
    name: str
    size: int = 0


def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing")
    for name in ("zeta", "alpha"):
        registry.add(Thing(name))
    return registry


def test_names_stand_in_the_order_of_registration():
    assert list(things()) == ["zeta", "alpha"]
    assert things()["alpha"] == Thing("alpha")


def test_a_name_is_registered_once():
    registry = things()
    with pytest.raises(ValueError, match="thing 'zeta' is registered twice"):
        registry.add(Thing("zeta", 2))
    assert registry["zeta"].size == 0


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ZragError, match=r"unknown thing 'alfa'.*did you mean 'alpha'"):
        things()["alfa"]
    with pytest.raises(ZragError, match="known: zeta, alpha"):
        things()["q"]
    assert "q" not in things()
