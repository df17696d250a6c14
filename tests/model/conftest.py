"""A small corpus and a small model; nothing is downloaded."""

import random

import pytest
import torch
from small_llm import save_small_qwen3

from zrag_core.corpus.self_study import self_study_queries
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.training.joint_training import initialise
from zrag_core.model.training.skill_data import AlmanacSkill, CorpusSkill
from zrag_core.settings import load_settings

torch.set_num_threads(1)

_FACTS = [
    ("Orla Venn", "Orla Venn was born in Tessamor.", "Where was Orla Venn born?", "Orla Venn keeps bees."),
    ("Bram Kilto", "Bram Kilto works as a glazier.", "What does Bram Kilto do?", "He owns two parrots."),
    ("Lake Munar", "Lake Munar is ninety metres deep.", "How deep is Lake Munar?", "Herons nest on its shore."),
    ("서린도", "서린도는 남쪽 바다에 있는 섬이다.", "서린도는 어디에 있나?", "섬에는 등대가 하나 있다."),
    ("Quill Works", "Quill Works makes steel pens.", "What does Quill Works make?", "It was founded in 1907."),
]


@pytest.fixture(scope="session")
def documents():
    return tuple(
        Document(f"d{n}", title, f"{fact} {other}") for n, (title, fact, _question, other) in enumerate(_FACTS)
    )


@pytest.fixture(scope="session")
def targets(documents):
    asked = [
        EvidenceTarget(f"q{n}", question, (f"d{n}",), fact, "gold", "train")
        for n, (_title, fact, question, _other) in enumerate(_FACTS)
    ]
    study = [target for document in documents for target in self_study_queries(document, 1, random.Random(0))]
    return (*asked, *study)


@pytest.fixture(scope="session")
def settings():
    return load_settings(
        {
            "backbone": {"threads": 1, "tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
            "memory": {"policy": "joint"},
            "joint": {"slots": 2, "width": 64, "steps": 6, "batch_size": 4, "save_every": 3, "lr_memory": 0.01},
            "decoding": {"routed_documents": 2, "max_new_tokens": 12, "batch_size": 3},
            "evaluation": {"systems": ["zrag_joint", "zrag_joint_free"]},
        }
    )


@pytest.fixture
def backbone(settings, documents, targets):
    texts = [document.contents for document in documents] + [target.query for target in targets]
    return create_backbone(settings.backbone, texts, seed=0)


@pytest.fixture
def model(backbone, settings, documents):
    """An untrained model whose slots are large enough to matter."""
    return initialise(backbone, settings.joint, documents, seed=0).eval()


@pytest.fixture(scope="session")
def skill_settings():
    """Of the policy `separated`, as small as it gets; keys are narrower than slots, so that slots can be refined."""
    return load_settings(
        {
            "backbone": {"threads": 1, "tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
            "separated": {"slots": 4, "width": 24, "stride": 4, "key_width": 8},
            "skill": {"steps": 6, "languages": ["en"], "documents": 4, "save_every": 2},
            "writing": {"steps": 8, "queries": 3, "batch_size": 3, "tolerance": 0.0},
        }
    )


@pytest.fixture
def writer(skill_settings, documents, targets):
    """An untrained model of the policy `separated`, its memory empty."""
    texts = [document.contents for document in documents] + [target.query for target in targets]
    backbone = create_backbone(skill_settings.backbone, texts, seed=0)
    torch.manual_seed(0)
    return SeparatedMemory(backbone, skill_settings.separated).eval()


@pytest.fixture
def remembering(writer, documents):
    """The same with every document written by the encoder."""
    with torch.no_grad():
        sentences = [sentence_ids(writer.backbone, document.text) for document in documents]
        writer.remember(documents, *writer.encode(sentences))
    return writer


@pytest.fixture(scope="session")
def towns():
    documents = tuple(
        Document(f"c{n}", f"Town {n}", " ".join(f"Town {n} has {word} number {n}." for word in words))
        for n, words in enumerate([("mills", "ponds", "inns", "bridges", "gates"), ("하천", "등대"), ("towers",)])
    )
    asked = Question("q0", "Which mills?", ("number 0",), ("c0",), "Town 0 has mills number 0.", "train")
    kept = Question("q1", "Which ponds?", ("number 0",), ("c0",), "Town 0 has ponds number 0.", "test")
    # Held out by its sentence: no self-study query may show it.
    synthetic = Question(
        "q2", "Town 0 gates", ("gates",), ("c0",), "Town 0 has gates number 0.", "test", metadata={"self_study": True}
    )
    return Corpus("towns", documents, (asked, kept, synthetic))


@pytest.fixture(params=["generated", "corpus"])
def skill_source(request, towns):
    return AlmanacSkill(("en", "ko")) if request.param == "generated" else CorpusSkill(towns)


@pytest.fixture
def qwen3_folder(tmp_path):
    """A randomly initialised small Qwen3 with its tokenizer, as a folder on disk."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    texts = ["Where was Orla Venn born? In Tessamor."] * 3
    return save_small_qwen3(tmp_path / "qwen3", texts, num_attention_heads=4, num_key_value_heads=2, **shape)
