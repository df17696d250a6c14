"""The registry of systems: every reference resolves, and what a system reads follows from the settings."""

import pytest

from zrag_core.settings import load_settings
from zrag_core.systems import SYSTEMS, policies_read, resolve, system_spec


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_makes_a_system_is_there(name):
    spec = SYSTEMS[name]
    assert callable(resolve(spec.make))
    assert spec.configure is None or callable(resolve(spec.configure))


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_settings_that_tell_a_system_from_another_are_settings(name):
    settings = load_settings({})
    for path in SYSTEMS[name].settings:
        section, _, field = path.partition(".")
        assert hasattr(getattr(settings, section), field)


def configured(name, **sections):
    return system_spec(name, load_settings(sections))


def test_memorag_reads_what_its_memory_and_its_retriever_need():
    assert configured("memorag").policy == "separated"
    assert configured("memorag").indexes == ("bm25",)
    other = configured("memorag", memorag={"memory": "summary", "retriever": "hybrid"})
    assert (other.policy, other.indexes) == (None, ("bm25", "dense"))
    assert configured("memorag", memorag={"memory": "kv", "kv_model": "m"}).policy is None


@pytest.mark.parametrize("policy", ["separated", "joint"])
def test_the_full_prefix_reads_the_memory_of_the_settings(policy):
    assert configured("zrag_full_prefix", memory={"policy": policy}).policy == policy


def test_the_policies_of_a_run_are_those_that_its_systems_read():
    def read(*names):
        return policies_read(load_settings({"evaluation": {"systems": list(names)}}))

    assert read("bm25", "gold_evidence") == set()
    assert read("zrag_hybrid", "bm25") == {"separated"}
    assert read("zrag_free", "zrag_joint_free") == {"separated", "joint"}
