"""Which backbone `auto` stands for."""

import gzip
import json

import pytest

from zrag_core.corpus.source_language import source_language
from zrag_core.model.architecture.backbone_choice import calibration_warning, choose_backbone
from zrag_core.model.architecture.packaged_llms import PackagedLlm
from zrag_core.settings import CorpusSettings, Settings, load_settings

KOREAN = "관리비는 매달 25일까지 납부해 주세요. 늦으면 연체료가 붙습니다."
ENGLISH = "Rent is due on the 25th of each month; late payments carry a fee."


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(PackagedLlm, "is_available", lambda self: True)


def settings(location, **values) -> Settings:
    return load_settings(
        {"corpus": {"format": "auto", "location": str(location)}, "backbone": {"name": "auto"}, **values}
    )


def write_texts(folder, *texts):
    for number, text in enumerate(texts):
        (folder / f"{number}.md").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("text", "name"), [(ENGLISH, "smollm2"), (KOREAN, "gemma3")])
def test_the_language_decides(tmp_path, installed, text, name):
    chosen, why = choose_backbone(settings(write_texts(tmp_path, text)))
    assert chosen.backbone.name == name
    assert name in why


@pytest.mark.parametrize(("text", "remedy"), [(ENGLISH, "make smollm2"), (KOREAN, "make gemma3")])
def test_without_the_packages_it_says_how_to_get_them(tmp_path, monkeypatch, text, remedy):
    monkeypatch.setattr(PackagedLlm, "is_available", lambda self: False)
    chosen, why = choose_backbone(settings(write_texts(tmp_path, text)))
    assert chosen.backbone.name == "zrag-tiny"
    assert remedy in why


def test_generated_documents_keep_the_model_that_was_trained_on_them(installed):
    chosen, _ = choose_backbone(load_settings({"corpus": {"format": "almanac"}, "backbone": {"name": "auto"}}))
    assert chosen.backbone.name == "zrag-tiny"


def test_a_named_backbone_stays(tmp_path, installed):
    given = load_settings(
        {"corpus": {"format": "auto", "location": str(tmp_path)}, "backbone": {"name": "zrag-tiny"}},
    )
    assert choose_backbone(given) == (given, "")


def test_a_skill_of_another_kind_of_text_is_warned_of(tmp_path, installed):
    def warning(location, name, **values):
        given = {"corpus": {"format": "auto", "location": str(location)}, "backbone": {"name": name}, **values}
        return calibration_warning(choose_backbone(load_settings(given))[0])

    texts = write_texts(tmp_path, ENGLISH)
    assert "refuses too much" in warning(texts, "zrag-tiny")
    assert warning(texts, "auto") == ""
    assert warning(texts, "zrag-tiny", skill={"corpus": str(texts)}) == ""
    assert warning(texts, "zrag-tiny", memory={"policy": "joint"}) == ""
    assert calibration_warning(load_settings({"corpus": {"format": "almanac"}})) == ""


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_json_with_escapes_and_packed_files(tmp_path, ascii_only, packed):
    rows = "".join(
        json.dumps({"id": str(i), "title": "", "text": KOREAN}, ensure_ascii=ascii_only) + "\n" for i in range(3)
    )
    file = tmp_path / ("corpus.jsonl.gz" if packed else "corpus.jsonl")
    file.write_bytes(gzip.compress(rows.encode()) if packed else rows.encode())
    assert source_language(CorpusSettings(format="auto", location=str(file))) == "ko"


def test_what_is_not_there_counts_as_english(tmp_path):
    assert source_language(CorpusSettings(format="auto", location=str(tmp_path / "nothing"))) == "en"
