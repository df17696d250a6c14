"""The skill in the package: it fits the default settings, holds no document, and works on documents it never saw."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.prose.asked import everyday_questions
from zrag_core.corpus.prose.sources import SOURCES
from zrag_core.corpus.types import Question
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.checks.fixed_routing import z_shuffle_coverage
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.reconstruction import document_top1
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.skill_folder import load_skill, read_skill_config, shipped_skill
from zrag_core.model.store.stored_settings import read_settings
from zrag_core.model.store.write import write_documents
from zrag_core.settings import DecodingSettings, SeparatedSettings, WritingSettings
from zrag_core.settings.backbone import SMOLLM2

OF_DOCUMENTS = {"z", "spans", "lexical", *LanguageMemory.table_names, "frequency"}
"""What tensors of a memory are called, and were."""


def test_it_is_small_and_made_for_the_default_memory():
    folder = shipped_skill()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8 * 1024**2
    config = read_skill_config(folder)
    assert read_settings(config["settings"]).separated == SeparatedSettings()


def test_that_of_smollm2_is_small_and_says_what_it_was_made_from():
    folder = shipped_skill(SMOLLM2)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12 * 1024**2
    assert {value.dtype for value in load_file(folder / "adapter" / "adapter_model.safetensors").values()} == {
        torch.float16
    }
    heads = load_file(folder / "heads.safetensors")
    assert not {name.split(".")[0] for name in heads} & OF_DOCUMENTS
    card = (folder / "README.md").read_text("utf-8")
    for source in SOURCES:
        assert source.package in card
        assert f"{source.package}: {source.licence}" in card
    for file in folder.rglob("*.json"):
        assert not re.search(r'"/|[A-Z]:\\\\', file.read_text("utf-8")), "no path of the machine it was trained on"


def test_no_document_is_in_it():
    names = set(load_file(shipped_skill() / "heads.safetensors"))
    assert not {name.split(".")[0] for name in names} & OF_DOCUMENTS
    assert {"encoder.memory_token", "router.null_span", "ranking", "confidence"} <= names


@pytest.mark.parametrize("language", ["en", "ko"])
def test_it_writes_routes_and_reads_documents_that_it_never_saw(language, tmp_path):
    """By the encoder alone; what it writes of a document comes from that document's slots."""
    corpus = generate_almanac(24, language, seed=11)
    skill = load_skill(shipped_skill(), device="cpu")
    model = skill.model
    assert model.confidence_weights() is not None
    written = write_documents(model, corpus.documents, [], WritingSettings(steps=0))
    model.remember(corpus.documents, written.z, written.spans)
    probe = Probe(Checkpoint("s", tmp_path, model, corpus.documents, skill.settings, {}), corpus.questions, limit=48)
    assert len(probe.asked) > 10
    hits = [row in asked.gold for asked, row in zip(probe.asked, probe.routed, strict=True)]
    assert sum(hits) / len(hits) > 0.85
    coverage = {check.check_name: check.value for check in z_shuffle_coverage(probe)}
    assert coverage["free_coverage"] > 0.5
    assert coverage["z_shuffle_coverage"] < 0.2
    assert document_top1(probe)[0].value > 0.95


@torch.no_grad()
def test_the_second_set_of_weights_finds_more_in_documents_by_people():
    """Ten of the documents that were written for it: how often the sentence that answers comes first."""
    documents, asked = everyday_questions()
    kept = documents[:5] + documents[-5:]  # English and Korean
    questions = [item for item in asked if item.sentence and item.document_id in {d.id for d in kept}]
    first = {}
    for everyday in (False, True):
        skill = load_skill(shipped_skill(), device="cpu", everyday=everyday)
        written = write_documents(skill.model, kept, (), WritingSettings(steps=0))
        skill.model.remember(kept, written.z, written.spans)
        memory = Checkpoint("", Path(), skill.model, tuple(kept), skill.settings, {})
        system = create_system("zrag", memory, DecodingSettings(routed_documents=10, steps=1), threads=1)
        found = system.retrieve([Question(str(n), item.question) for n, item in enumerate(questions)])
        first[everyday] = sum(
            own.segments[0].text == item.sentence for own, item in zip(found, questions, strict=True) if own.segments
        )
    assert first[True] > 2 * first[False], first
    assert first[True] > 0.2 * len(questions), first
