"""Settings as folders keep them: ids and fingerprints of the same input are those of former versions."""

import pytest

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.targets import build_targets
from zrag_core.model.store.checkpoint import checkpoint_digest, memory_id
from zrag_core.model.store.skill_folder import load_skill, read_skill_config, shipped_skill
from zrag_core.model.store.stored_settings import (
    checkpoint_values,
    read_settings,
    read_writing,
    skill_folder_values,
    writing_values,
)
from zrag_core.model.training.joint_training import training_fingerprint
from zrag_core.model.training.skill_training import skill_fingerprint
from zrag_core.settings import WritingSettings, load_settings

BESIDE = load_settings(
    {"separated": {"key_width": 32}, "joint": {"slots": 4, "width": 512}, "backbone": {"threads": 2}}
)
ALONE = load_settings(
    {"memory": {"policy": "joint"}, "joint": {"slots": 4, "width": 512, "steps": 900}, "backbone": {"threads": 1}}
)


@pytest.fixture(scope="module")
def corpus():
    return generate_almanac(4, "en", seed=0)


@pytest.fixture(scope="module")
def targets(corpus):
    return build_targets(corpus, load_settings({}).targets, 0)


# The figures were computed by the versions that had `memory.joint_slots`, `training` and three numbers of threads, and
# widths of lexical keys.


def test_the_shipped_skill_is_what_it_was():
    assert checkpoint_digest(shipped_skill()) == "bac327da06b812186e7090e7fee82be86130e9d406092a0f58c53b7b38098d74"
    stored = read_skill_config(shipped_skill())["settings"]
    assert skill_folder_values(read_settings(stored)) == stored


@pytest.mark.parametrize(("key_width", "expected"), [(64, "memory-140c3f0d9945c5b3"), (32, "memory-2304e071297fb850")])
def test_a_written_memory_has_the_id_that_it_had(corpus, targets, key_width, expected):
    settings = load_skill(shipped_skill(), device="cpu").settings
    own = settings.separated.model_copy(update={"key_width": key_width})
    settings = settings.model_copy(update={"separated": own})
    assert memory_id("0" * 64, corpus, targets, settings, WritingSettings()) == expected


@pytest.mark.parametrize(
    ("settings", "expected"), [(BESIDE, "ad420de4b5978fed"), (ALONE, "979690fe8087b7d2")], ids=["beside", "alone"]
)
def test_a_joint_training_has_the_fingerprint_that_it_had(corpus, targets, settings, expected):
    assert training_fingerprint(corpus.documents, targets, settings) == expected


@pytest.mark.parametrize(("settings", "expected"), [(BESIDE, "6d825e8daa190422"), (None, "58d85393e42b1154")])
def test_a_skill_training_has_the_fingerprint_that_it_had(settings, expected):
    assert skill_fingerprint(settings or load_settings({}), "x") == expected


def test_the_form_of_a_checkpoint_is_flat_and_complete():
    stored = checkpoint_values(BESIDE, "joint")
    assert set(stored) == {"backbone", "memory", "training", "decoding"}
    assert stored["memory"] == {
        "policy": "joint",
        "slots": 4,
        "width": 512,
        "joint_slots": 4,
        "joint_width": 512,
        "stride": 3,
        "window": 1024,
        "key_width": 32,
        "title_width": 1024,  # no settings any more
        "text_width": 1024,
    }
    assert stored["training"]["threads"] == 2
    assert stored["training"]["reconstruction_share"] == 0.5
    assert "threads" not in stored["backbone"]
    assert set(writing_values(WritingSettings())) == {
        *("steps", "lr", "tolerance", "queries", "asked_share", "query_tokens", "evidence_tokens", "seed")
    }


@pytest.mark.parametrize("policy", ["separated", "joint"])
def test_what_is_written_is_read_back(policy):
    given = load_settings(
        {
            "memory": {"policy": policy},
            "backbone": {"threads": "auto" if policy == "separated" else 5},  # how many wrote rows says nothing
            policy: {"slots": 6, "width": 90},
            "decoding": {"steps": 1},
        }
    )
    assert read_settings(checkpoint_values(given, policy)) == given
    writing = WritingSettings(steps=2, lr=0.1)
    assert read_writing(writing_values(writing)) == writing
