import importlib.util
import os
import shutil
from collections import namedtuple

import dagster as dg
import pytest
import torch
from pipeline_runs import execute

from zrag_core.answering.choice import choose_reader
from zrag_core.errors import SettingsError
from zrag_core.model.architecture.packaged_llms import PackagedLlm
from zrag_core.settings import Settings
from zrag_pipeline.defs.corpus.preflight import billions, find_problems
from zrag_pipeline.defs.jobs import run_config
from zrag_pipeline.platform.settings_resource import SettingsHandle

DEMO = run_config("demo.yaml")["resources"]["settings"]["config"]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def prose(monkeypatch):
    """What a skill is trained on is there, whatever is installed; returns what says that it is not."""
    said = []
    monkeypatch.setattr("zrag_pipeline.defs.corpus.preflight.absence", lambda: said[0] if said else None)
    return said


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """An empty data folder, on a machine without GPU and without sentence-transformers."""
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentence_transformers" else find_spec(name)
    )
    return tmp_path / "data"


def problems(environ=None, **sections):
    return find_problems(SettingsHandle(sections), environ or {})


def test_the_demo_has_none(data):
    assert find_problems(SettingsHandle(DEMO), {}) == []


def test_all_problems_at_once(data, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 200 * 1024**2))
    found = problems(
        corpus={"format": "native", "location": str(tmp_path / "없음"), "limt_documents": 5},
        backbone={"name": "Qwen/Qwen3-8B", "quantization": "nf4"},
        separated={"slots": 0},
        joint={"warmup": 1.5, "steps": "many"},
        baselines={"dense_encoder": "intfloat/multilingual-e5-small"},
        evaluation={"systems": ["bm25", "dense", "best"]},
        answers={"reader": "openai"},
    )
    expected = [
        "corpus.limt_documents: unknown field -> did you mean 'limit_documents'?",
        "separated.slots: Input should be greater than 0 (given: 0)",
        "joint.warmup: Input should be less than or equal to 1 (given: 1.5)",
        "joint.steps: Input should be a valid integer",
        "evaluation.systems.2: no such system; known: zrag, ",
        f"{data}: 0.2 GB free, 1 GB is needed -> free some space or set ZRAG_DATA_DIR",
        f"corpus.location: no such file or folder: {tmp_path / '없음'} -> check the path",
        "backbone.name: Qwen/Qwen3-8B has 8 billion parameters and there is no GPU to run it on -> ",
        "skill.steps: no skill is shipped for 'Qwen/Qwen3-8B' -> set it above 0 to train one",
        "baselines.dense_encoder: sentence-transformers is not installed -> pip install 'zrag[dense]'",
        "answers.reader: openai needs a key and OPENAI_API_KEY is not set -> export OPENAI_API_KEY",
    ]
    assert len(found) == len(expected), found
    for line in expected:
        (match,) = [problem for problem in found if problem.startswith(line)]
        assert "\n" not in match


def test_what_is_right_behind_a_wrong_field_is_no_problem():
    assert problems(corpus={"format": "almanac", "almanac": {"documents": -3, "language": "ko"}}, separated="four") == [
        "corpus.almanac.documents: Input should be greater than 0 (given: -3)",
        "separated: a section belongs here, with fields of its own (given: 'four')",
    ]
    (found,) = problems(answers={"budget": 100})
    assert "answers.budget 100 is not one of evaluation.budgets" in found
    (found,) = problems(corpus={"splits": {"dev": 0.6, "test": 0.6}})
    assert "corpus.splits: dev + test must be below 1" in found


def test_the_sound_part_keeps_every_field_that_is_right():
    given = {
        "corpus": {"format": "texts", "location": "/a", "passage_tokens": 0, "splits": {"dev": 0.2, "tset": 0.1}},
        "backbone": {"lora": {"rank": 8, "alpha": -1}},
        "joint": {"steps": 3, "epochs": 2},
        "evaluation": {"budgets": [64, -1], "limit_questions": 7},
        "decoding": None,
        "answers": ["not", "a", "section"],
    }
    sound = SettingsHandle(given).sound_part()
    assert (sound.corpus.format, sound.corpus.location, sound.corpus.splits.dev) == ("texts", "/a", 0.2)
    assert (sound.corpus.passage_tokens, sound.corpus.splits.test) == (384, 0.3)
    assert (sound.backbone.lora.rank, sound.backbone.lora.alpha) == (8, 64)
    assert sound.joint == Settings().joint, "steps and epochs exclude each other; neither can be trusted"
    assert (sound.evaluation.budgets, sound.evaluation.limit_questions) == (Settings().evaluation.budgets, 7)
    assert (sound.decoding, sound.answers) == (Settings().decoding, Settings().answers)
    assert given["evaluation"]["budgets"] == [64, -1], "what was given is left as it is"


@pytest.mark.parametrize(
    ("corpus", "missing"),
    [
        ({"format": "native", "location": "docs/nowhere"}, True),
        ({"format": "auto", "location": "/nowhere/at/all"}, True),
        ({"format": "auto", "location": "./nowhere"}, True),
        ({"format": "auto", "location": "~/nowhere-zrag"}, True),
        ({"format": "auto", "location": "squad"}, False),  # a data set's name
        ({"format": "huggingface", "location": "KorQuAD/squad_kor_v1"}, False),
        ({"format": "almanac", "location": "/nowhere"}, False),
        ({"format": "native", "location": os.path.dirname(__file__)}, False),
    ],
)
def test_a_missing_corpus(corpus, missing):
    found = problems(corpus=corpus)
    assert len(found) == missing
    assert not missing or corpus["location"] in found[0]


def test_an_unset_corpus_variable():
    (found,) = problems(corpus={"format": "auto", "location": {"env": "ZRAG_CORPUS"}})
    assert "the environment variable ZRAG_CORPUS is not set; export ZRAG_CORPUS=" in found


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen3-8B", 8.0),
        ("Qwen/Qwen3-0.6B", 0.6),
        ("meta-llama/Llama-3.1-70b-instruct", 70.0),
        ("/models/Qwen3_4B", 4.0),
        ("gpt2", None),
        ("zrag-tiny", None),
        ("bert-base", None),
    ],
)
def test_sizes_read_from_names(name, size):
    assert billions(name) == size


@pytest.mark.parametrize(
    ("backbone", "gpu", "word"),
    [
        ({"name": "Qwen/Qwen3-8B"}, False, "no GPU"),
        ({"name": "Qwen/Qwen3-8B"}, True, None),
        ({"name": "Qwen/Qwen3-8B", "device": "cpu"}, True, "no GPU"),
        ({"name": "Qwen/Qwen3-0.6B"}, False, None),
        ({"device": "cuda"}, False, "no CUDA device"),
        ({"quantization": "nf4"}, False, "4-bit"),
        ({"tiny": {"hidden_size": 30, "heads": 4}}, False, "an even number for each of 4 heads"),
        ({"name": "/nowhere/model"}, False, "no model (config.json) in /nowhere/model"),
    ],
)
def test_backbones(backbone, gpu, word, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    found = problems(backbone=backbone, skill={"steps": 1})
    assert len(found) == (word is not None), found
    assert word is None or word in found[0]


@pytest.mark.parametrize(
    ("processes", "device", "gpus", "word"),
    [
        (2, "auto", 2, None),
        (3, "auto", 2, "3 processes need a GPU each, and there are 2 -> set it to 2 or less"),
        (3, "cpu", 2, None),
        (3, "auto", 0, None),
    ],
)
def test_every_process_needs_a_gpu_where_there_are_any(processes, device, gpus, word, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = problems(joint={"processes": processes}, backbone={"device": device})
    assert len(found) == (word is not None), found
    assert word is None or f"joint.processes: {word}" in found[0]


def test_the_skill_of_a_pretrained_llm_is_trained_in_the_runs_process():
    assert problems(skill={"processes": 2, "steps": 1}) == []
    (found,) = problems(skill={"processes": 2, "steps": 1}, backbone={"name": "Qwen/Qwen3-0.6B"})
    assert found == "skill.processes: the skill of Qwen/Qwen3-0.6B is trained in the process of the run -> set it to 0"


@pytest.mark.parametrize(
    ("policy", "systems", "named"),
    [
        ("joint", ["zrag", "bm25"], "zrag"),
        ("joint", ["zrag_free", "zrag_joint", "zrag"], "zrag_free, zrag"),
        ("joint", ["zrag_joint", "zrag_joint_free"], None),
        ("separated", ["zrag", "zrag_free", "zrag_joint", "zrag_joint_free"], None),
        ("separated", ["bm25"], None),
    ],
)
def test_systems_that_read_a_memory_which_nobody_makes(policy, systems, named):
    found = problems(memory={"policy": policy}, evaluation={"systems": systems})
    assert len(found) == (named is not None), found
    if named:
        assert found[0].startswith(f"evaluation.systems: {named} read the memory of policy separated, but")
        assert "-> leave them out, or set the policy to separated" in found[0]
        assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("memory", "policy", "problem"),
    [
        ("z", "separated", None),
        ("z", "joint", "evaluation.systems: memorag read the memory of policy separated, but"),
        ("summary", "joint", "memorag.memory: the offline reader would have to summarise the corpus"),
    ],
)
def test_memorag_needs_what_its_memory_reads(memory, policy, problem):
    joint = {"memory": {"policy": policy}, "evaluation": {"systems": ["memorag", "zrag_full_prefix"]}}
    found = problems(**joint, memorag={"memory": memory})
    assert len(found) == (problem is not None), found
    assert problem is None or found[0].startswith(problem)


OR_SMOLLM2 = "set memorag.light_model to smollm2, or set it to z"


@pytest.mark.parametrize(
    ("environ", "answers", "remedy"),
    [
        ({}, {}, f"-> export OPENAI_API_KEY=... (with answers.reader auto or openai), {OR_SMOLLM2}"),
        ({"OPENAI_API_KEY": "k"}, {"reader": "offline"}, f"-> set answers.reader to openai, {OR_SMOLLM2}"),
        ({"OPENAI_API_KEY": "k"}, {}, None),
        ({}, {"reader": "openai", "base_url": "http://127.0.0.1:1/v1"}, None),
    ],
)
def test_a_summary_memory_needs_a_model(environ, answers, remedy):
    summary = {"evaluation": {"systems": ["memorag"]}, "memorag": {"memory": "summary"}}
    found = problems(environ, answers=answers, **summary)
    assert [line.endswith(remedy) for line in found] == ([True] if remedy else [])
    assert problems(environ, answers=answers, memorag={"memory": "summary"}, evaluation={"systems": ["bm25"]}) == []


def test_smollm2_needs_its_packages_wherever_it_is_asked_for(monkeypatch):
    systems = {"systems": ["memorag"]}
    asked = {
        "answers.reader": {"answers": {"reader": "local"}},
        "memorag.light_model": {"evaluation": systems, "memorag": {"memory": "summary", "light_model": "smollm2"}},
        "memorag.kv_model": {"evaluation": systems, "memorag": {"memory": "kv", "kv_model": "smollm2"}},
    }
    for there in (True, False):
        monkeypatch.setattr(
            "zrag_core.model.architecture.packaged_llms.PackagedLlm.is_available", lambda self, there=there: there
        )
        for where, sections in asked.items():
            found = problems(**sections)
            assert [line.partition(":")[0] for line in found] == [where] * (not there)
            assert all("pip install" in line for line in found)
    served = {"reader": "local", "base_url": "http://127.0.0.1:1/v1"}
    assert problems(answers=served) == [], "the model may be installed where the server is"
    (found,) = problems(answers=served, evaluation=systems, memorag={"memory": "summary"})
    assert "the local reader would have to summarise" in found
    (found,) = problems(answers=served, targets={"llm_questions_per_document": 2})
    assert "the local reader would have to write the questions" in found


def test_a_kv_memory_needs_its_model_and_dense_clues_their_encoder(tmp_path):
    systems = {"systems": ["memorag"]}
    (found,) = problems(evaluation=systems, memorag={"memory": "kv", "kv_model": "/nowhere/model"})
    assert found == "memorag.kv_model: no model (config.json) in /nowhere/model -> check the path"
    (tmp_path / "config.json").write_text("{}")
    assert problems(evaluation=systems, memorag={"memory": "kv", "kv_model": str(tmp_path)}) == []
    encoder = {"dense_encoder": "intfloat/multilingual-e5-small"}
    for retriever, n in (("bm25", 0), ("dense", 1), ("hybrid", 1)):
        assert len(problems(evaluation=systems, memorag={"retriever": retriever}, baselines=encoder)) == n


def test_the_skill_is_not_learned_from_the_remembered_corpus(tmp_path):
    here = {"format": "auto", "location": str(tmp_path)}
    (found,) = problems(corpus=here, skill={"corpus": str(tmp_path)})
    assert found.startswith("skill.corpus: theta would learn what Z is to hold -> give another corpus")
    (found,) = problems(corpus=here, skill={"corpus": str(tmp_path / "없음")})
    assert found.startswith(f"skill.corpus: no such file or folder: {tmp_path / '없음'} -> check the path")
    assert problems(corpus=here, skill={"corpus": "squad"}) == [], "a data set's name"
    (tmp_path / "other").mkdir()
    assert problems(corpus=here, skill={"corpus": str(tmp_path / "other")}) == []
    joint = {"systems": ["zrag_joint"]}
    assert problems(corpus=here, memory={"policy": "joint"}, skill={"corpus": "/nowhere"}, evaluation=joint) == []


@pytest.mark.parametrize(
    ("backbone", "policy", "steps", "wrong"),
    [
        ("gpt2", "separated", 0, True),
        ("gpt2", "separated", 1, False),
        ("gpt2", "joint", 0, False),
        ("zrag-tiny", "separated", 0, False),
    ],
)
def test_a_skill_is_shipped_for_the_tiny_backbone_alone(backbone, policy, steps, wrong):
    found = problems(
        backbone={"name": backbone},
        memory={"policy": policy},
        skill={"steps": steps},
        evaluation={"systems": ["zrag_joint", "bm25"]},
    )
    assert len(found) == wrong, found
    if wrong:
        assert found[0].startswith("skill.steps: no skill is shipped for 'gpt2' -> set it above 0 to train one")


@pytest.mark.parametrize(
    ("sections", "environ", "word"),
    [
        ({"answers": {"reader": "openai"}}, {}, "OPENAI_API_KEY is not set"),
        ({"answers": {"reader": "openai"}}, {"OPENAI_API_KEY": "k"}, None),
        ({"answers": {"reader": "openai", "api_key_env": "MINE"}}, {"OPENAI_API_KEY": "k"}, "MINE is not set"),
        ({"answers": {"judge": {"model": "m"}}}, {}, "answers.judge.model: the judge needs a key and OPENAI_API_KEY"),
        ({"answers": {"judge": {"model": "m"}}}, {"OPENAI_API_KEY": "k"}, None),
        ({"answers": {"judge": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}}}, {}, None),
        ({"answers": {"judge": {"model": "m", "api_key_env": "MINE"}}}, {"OPENAI_API_KEY": "k"}, "MINE is not set"),
        ({"answers": {"reader": "openai", "base_url": "http://127.0.0.1:1/v1"}}, {}, None),
        ({"answers": {"reader": "openai"}}, {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, None),
        ({"answers": {"reader": "auto"}}, {}, None),
        ({"baselines": {"dense_encoder": "openai:text-embedding-3-small"}}, {}, "OPENAI_API_KEY is not set"),
        ({"baselines": {"dense_encoder": "openai:text-embedding-3-small"}}, {"OPENAI_API_KEY": "k"}, None),
        ({"baselines": {"dense_encoder": "some/encoder"}}, {}, "sentence-transformers"),
        ({"baselines": {"dense_encoder": "some/encoder"}, "evaluation": {"systems": ["bm25"]}}, {}, None),
    ],
)
def test_keys_and_packages(sections, environ, word):
    found = problems(environ, **sections)
    assert len(found) == (word is not None), found
    assert word is None or word in found[0]


def test_keys_are_never_shown():
    found = problems({"OPENAI_API_KEY": "sk-secret-value"}, answers={"reader": "openai", "max_retries": -1})
    assert found
    assert "sk-secret" not in "".join(found)


def test_a_data_folder_that_cannot_be_made_or_written(data, monkeypatch):
    data.write_text("a file")
    (found,) = problems()
    assert f"{data}: the data folder cannot be created" in found
    data.unlink()
    data.mkdir()
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    (found,) = problems()
    assert found == f"{data}: the data folder is read-only -> set ZRAG_DATA_DIR to a folder you may write to"


def test_the_asset_stops_the_run_before_anything_else_happens(data):
    broken = {"resources": {"settings": {"config": {"separated": {"slots": 0, "widht": 3}}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = execute("full", data, run_config=broken, instance=instance, raise_on_error=False)
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert failure.step_key == "preflight"
    lines = failure.step_failure_data.error.cause.message.strip().splitlines()
    assert lines[0].endswith("the run cannot start: 2 problems")
    assert [line.strip() for line in lines[1:]] == [
        "- separated.slots: Input should be greater than 0 (given: 0)",
        "- separated.widht: unknown field -> did you mean 'width'?",
    ]
    assert list(data.iterdir()) == []


@pytest.mark.parametrize(
    ("answers", "environ", "remedy"),
    [
        ({}, {}, "export OPENAI_API_KEY=..."),
        ({}, {"OPENAI_API_KEY": " \n"}, "export OPENAI_API_KEY=..."),
        ({"api_key_env": "MINE"}, {"OPENAI_API_KEY": "k"}, "export MINE=..."),
        ({"base_url": "http://127.0.0.1:1/v1"}, {}, "set answers.reader to openai"),
        ({"reader": "offline"}, {"OPENAI_API_KEY": "k"}, "set answers.reader to openai"),
        ({}, {"OPENAI_API_KEY": "k"}, None),
        ({"reader": "openai", "base_url": "http://127.0.0.1:1/v1"}, {}, None),
    ],
)
def test_questions_written_by_an_llm_need_one(answers, environ, remedy, tmp_path):
    found = problems(environ, answers=answers, targets={"llm_questions_per_document": 2})
    assert len(found) == (remedy is not None), found
    if remedy:
        assert found[0].startswith("targets.llm_questions_per_document: ")
        assert f"-> {remedy}" in found[0]
    # The same as what the run itself does.
    settings = SettingsHandle({"answers": answers}).load()
    assert (choose_reader(settings.answers, environ).name == "offline") is bool(remedy)


def test_without_any_reader_there_is_one_line():
    (found,) = problems(answers={"reader": "openai"}, targets={"llm_questions_per_document": 2})
    assert found.startswith("answers.reader: openai needs a key")


def test_a_wrong_answers_section_says_nothing_about_the_reader():
    (found,) = problems(answers={"reader": "openai", "api_key_env": "sk-hunter2"})
    assert found.startswith("answers.api_key_env: not the name of an environment variable")
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("hidden_size", "heads", "fields"),
    [
        (128, 4, []),
        (32, 1, []),
        (48, 3, []),
        (30, 2, ["hidden_size"]),
        (20, 4, ["hidden_size"]),
        (9, 3, ["hidden_size"]),
        (40, 5, ["heads"]),
        (42, 7, ["heads"]),
        (40, 7, ["heads", "hidden_size"]),
    ],
)
def test_the_tiny_architecture_is_judged_as_the_model_judges_it(hidden_size, heads, fields):
    tiny = {"hidden_size": hidden_size, "heads": heads, "layers": 1, "vocabulary": 300}
    found = problems(backbone={"tiny": tiny})
    assert sorted(line.split(":")[0].removeprefix("backbone.tiny.") for line in found) == fields
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Qwen3Config, Qwen3ForCausalLM

    def runs():
        config = Qwen3Config(
            vocab_size=20,
            hidden_size=hidden_size,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=heads,
            num_key_value_heads=max(1, heads // 2),
            head_dim=hidden_size // heads,
        )
        Qwen3ForCausalLM(config)(input_ids=torch.zeros(1, 3, dtype=torch.long))

    if "heads" in fields or hidden_size // heads % 2:
        with pytest.raises((RuntimeError, StrictDataclassError)):
            runs()
    elif not fields:
        runs()


@pytest.mark.parametrize(
    ("name", "free_gb", "cached_gb", "needed"),
    [
        ("Qwen/Qwen3-8B", 17, 0, "17.6 GB"),
        ("Qwen/Qwen3-8B", 18, 0, None),
        ("Qwen/Qwen3-8B", 10, 8, None),
        ("Qwen/Qwen3-8B", 5, 8, "9.6 GB"),
        ("Qwen/Qwen3-0.6B", 1.2, 0, "1.3 GB"),
        ("gpt2", 1.2, 0, None),
    ],
)
def test_the_weights_need_room_where_the_hub_puts_them(name, free_gb, cached_gb, needed, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    gb = 1024**3
    if cached_gb:
        blob = cache / f"models--{name.replace('/', '--')}" / "blobs" / "a"
        blob.parent.mkdir(parents=True)
        with blob.open("wb") as file:
            file.truncate(cached_gb * gb)  # a sparse file: it takes no room
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free_gb * gb))
    found = problems(backbone={"name": name}, skill={"steps": 1})
    assert len(found) == (needed is not None), found
    if needed:
        assert f"backbone.name: {name} is a download of {needed} and {cache} has" in found[0]


def test_a_local_model_is_no_download(tmp_path, monkeypatch):
    (tmp_path / "model-8b").mkdir()
    (tmp_path / "model-8b" / "config.json").write_text("{}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 2 * 1024**3))
    assert problems(backbone={"name": str(tmp_path / "model-8b")}, skill={"steps": 1}) == []


@pytest.mark.parametrize("location", [{"env": None}, {"env": ["A"]}, ["a"], 7])
def test_a_location_of_another_kind_is_one_line(location):
    (found,) = problems(corpus={"format": "native", "location": location})
    assert found.startswith("corpus.location: ")
    assert "\n" not in found


def test_prose_that_is_absent_is_said_where_it_would_be_read(prose, monkeypatch):
    monkeypatch.setattr(PackagedLlm, "is_available", lambda self: True)
    prose.append(SettingsError("no prose", where="skill.corpus", remedy="install it"))
    training = {"backbone": {"name": "smollm2"}, "skill": {"steps": 5}}
    assert problems(**training) == ["skill.corpus: no prose -> install it"]
    assert problems(skill={"steps": 5}) == []  # zrag-tiny learns from generated documents


def test_a_missing_ray_is_told_before_anything_starts(monkeypatch):
    given = SettingsHandle({**DEMO, "engine": {"name": "ray"}})
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    assert find_problems(given) == [
        "engine.name: Ray is not installed -> pip install 'zrag[ray]', or use the engine local"
    ]
