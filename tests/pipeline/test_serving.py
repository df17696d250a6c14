"""A registered memory is a model that MLflow serves: what is in it, that it answers, and what it refuses."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import mlflow
import openai
import pytest
from mlflow.exceptions import MlflowException
from openai.types.responses import Response

from zrag_core.files import atomic_folder
from zrag_core.memory import REFUSALS, Memory
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.settings import DecodingSettings
from zrag_core.web.messages import message_of
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.model_registry import ModelRegistry
from zrag_pipeline.platform.packaged_model import is_packaged, package_model, requirements, set_decoding
from zrag_pipeline.platform.tracking import Tracking

QUESTION = "Where was Orla Venn born?"


@pytest.fixture(scope="module", autouse=True)
def traces_of_their_own(tmp_path_factory):
    """MLflow traces every answer of an agent; without a store of its own, into the folder that tests run in."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('traces') / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def registered(written_memory, tmp_path_factory):
    """A data folder whose registry holds the memory as version 1 of `zrag`, with the alias `champion`."""
    data = tmp_path_factory.mktemp("data") / "자료 1"
    checkpoint = data / "checkpoints" / written_memory.name
    shutil.copytree(written_memory, checkpoint)
    tracking = Tracking(data)
    with tracking.run("memory", asset="memory") as run:
        version = ModelRegistry(tracking).register(run, "zrag", reference(checkpoint))
    tracking.client.set_registered_model_alias("zrag", "champion", version)
    tracking.checkpoint, tracking.mlflow_run = checkpoint, run
    return tracking


def reference(folder):
    return CheckpointReference(folder.name, folder, "c0ffee")


def model_folder(tracking):
    return tracking.data_dir / "mlartifacts" / "registered" / "zrag" / tracking.checkpoint.name


def ask(text, **custom_inputs):
    return {"input": [{"role": "user", "content": text}], "custom_inputs": custom_inputs}


# --- the registry ---------------------------------------------------------------------------------


def test_the_model_is_whole_and_holds_the_checkpoint_as_links(registered):
    (version,) = registered.client.search_model_versions("name='zrag'")
    folder = model_folder(registered)
    assert version.source == folder.as_uri()
    assert version.tags == {"corpus_version": "c0ffee", "checkpoint_id": "memory-0123"}
    held = folder / "artifacts" / "checkpoint"
    assert checkpoint_digest(held) == checkpoint_digest(registered.checkpoint)
    assert all(path.stat().st_nlink > 1 for path in held.rglob("*") if path.is_file()), "no second copy on disk"
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "serving.py").is_file()
    assert (folder / "code" / "zrag_core" / "memory.py").is_file()
    assert not (folder / "code" / "zrag_core" / "weights").exists()
    wanted = (folder / "requirements.txt").read_text().splitlines()
    assert wanted == requirements(registered.checkpoint)
    assert all("==" in line and "+" not in line for line in wanted)
    described = mlflow.models.Model.load(folder)
    assert described.metadata == {"task": "agent/v1/responses"}
    assert described.model_size_bytes > sum(path.stat().st_size for path in held.rglob("*") if path.is_file())


def test_registering_again_keeps_the_version_and_another_checkpoint_gets_its_own(registered, tmp_path):
    model, run, registry = model_folder(registered), registered.mlflow_run, ModelRegistry(registered)
    before = (model / "MLmodel").stat().st_ino
    assert registry.register(run, "zrag-again", reference(registered.checkpoint)) == "1"
    assert registry.register(run, "zrag-again", reference(registered.checkpoint)) == "1"
    assert registry.register(run, "zrag", reference(registered.checkpoint)) == "1"
    assert (model / "MLmodel").stat().st_ino == before, "nothing was written"
    other = tmp_path / "memory-4567"
    shutil.copytree(registered.checkpoint, other)
    assert registry.register(run, "zrag-again", reference(other)) == "2"
    assert registry.version("zrag-again", "memory-4567") == "2"
    assert registry.version("zrag-again", "memory-0123") == "1"
    assert registry.version("zrag-again", "memory-89") is None
    assert registry.version("nothing", "memory-0123") is None


def test_a_checkpoint_written_anew_is_packaged_anew(written_memory, tmp_path):
    checkpoint, model = tmp_path / "memory-1", tmp_path / "model"
    shutil.copytree(written_memory, checkpoint)
    package_model(checkpoint, model)
    assert is_packaged(checkpoint, model)
    with atomic_folder(checkpoint) as again:  # the same bytes in other files
        shutil.copytree(written_memory, again, dirs_exist_ok=True)
    assert is_packaged(checkpoint, model)
    with atomic_folder(checkpoint) as again:
        shutil.copytree(written_memory, again, dirs_exist_ok=True)
        (again / "metrics.json").write_text("[]")
    assert not is_packaged(checkpoint, model)
    package_model(checkpoint, model)
    assert (model / "artifacts" / "checkpoint" / "metrics.json").read_text() == "[]"
    (model / "artifacts" / "checkpoint" / "heads.safetensors").unlink()
    assert not is_packaged(checkpoint, model)


def test_files_are_copied_where_there_are_no_links(written_memory, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    package_model(written_memory, tmp_path / "model")
    held = tmp_path / "model" / "artifacts" / "checkpoint"
    assert checkpoint_digest(held) == checkpoint_digest(written_memory)
    assert not (held / "heads.safetensors").samefile(written_memory / "heads.safetensors")


def test_packaging_loads_no_model(written_memory, tmp_path):
    code = (
        "import sys; from pathlib import Path; from zrag_pipeline.platform.packaged_model import package_model; "
        f"package_model(Path({str(written_memory)!r}), Path({str(tmp_path / 'model')!r})); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert result.stdout == "[]\n", result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "MLflow leaves nothing where it was called"


def test_adapters_need_more_packages(tmp_path):
    assert not [line for line in requirements(tmp_path) if line.startswith("peft")]
    (tmp_path / "adapter").mkdir()
    assert [line for line in requirements(tmp_path) if line.startswith("peft==")]


# --- answering ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(registered):
    return mlflow.pyfunc.load_model(model_folder(registered))


def test_the_loaded_model_says_what_the_memory_says(loaded, written_memory):
    (expected,) = Memory.open(written_memory).ask([QUESTION], budget=64)
    response = loaded.predict(ask(QUESTION, budget=64))
    assert Response.model_validate(response).output_text == message_of(expected).text
    assert "born in Tessamor. [1]" in Response.model_validate(response).output_text
    told = response["custom_outputs"]
    assert (told["evidence"], told["checkpoint_id"]) == (expected.evidence, "memory-0123")
    assert told["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
    assert [(s["document_id"], s["start"], s["end"]) for s in told["sources"]] == [
        (s.document_id, s.start, s.end) for s in expected.sources
    ]


def test_the_last_user_message_is_the_question(loaded):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where was Bram Venn born?"},
        {"role": "assistant", "content": "Brindle"},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    assert loaded.predict({"input": talk})["custom_outputs"]["question"] == QUESTION


def test_a_refusal_and_free_evidence(loaded):
    refused = loaded.predict(ask("Which opera did Wilma Astor compose in Paris?"))
    assert Response.model_validate(refused).output_text == REFUSALS["en"], refused["custom_outputs"]
    assert not refused["custom_outputs"]["answerable"]
    free = loaded.predict(ask(QUESTION, free=True))["custom_outputs"]
    assert free["evidence"]
    assert not free["sources"]


def test_the_environment_decides_who_answers_and_where_refusal_begins(registered, monkeypatch):
    folder = model_folder(registered)
    monkeypatch.setenv("ZRAG_LEAST_CONFIDENCE", "1.0")
    assert not mlflow.pyfunc.load_model(folder).predict(ask(QUESTION))["custom_outputs"]["answerable"]
    monkeypatch.setenv("ZRAG_LEAST_CONFIDENCE", "0")
    stranger = "Which opera did Wilma Astor compose in Paris?"
    assert mlflow.pyfunc.load_model(folder).predict(ask(stranger))["custom_outputs"]["answerable"]
    for name, value, reason in (
        ("ZRAG_LEAST_CONFIDENCE", "2", "decoding.least_confidence"),
        ("ZRAG_READER", "nobody", "answers.reader"),
        ("ZRAG_READER", "openai", "OPENAI_API_KEY is not set"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(Exception, match=reason):
                mlflow.pyfunc.load_model(folder)


def test_a_promoted_model_is_read_as_the_champion_is(registered, loaded, tmp_path, monkeypatch):
    """What promotion fitted and the run set, not the defaults; the environment still has the last word."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder(registered), folder)
    stranger = "Which opera did Wilma Astor compose in Paris?"
    unsure = loaded.predict(ask(stranger))["custom_outputs"]["confidence"]
    assert 0 < unsure < 0.5, "the default refuses it"

    def read(question, **decoding):
        set_decoding(folder, DecodingSettings(**decoding).model_dump(mode="json"))
        return mlflow.pyfunc.load_model(folder).predict(ask(question))["custom_outputs"]

    def documents(told):
        return {source["document_id"] for source in told["sources"]}

    assert read(stranger, least_confidence=unsure * 0.9)["answerable"]
    assert not read(QUESTION, least_confidence=1.0)["answerable"]
    assert len(documents(loaded.predict(ask(QUESTION))["custom_outputs"])) > 1
    assert documents(read(QUESTION, routed_documents=1, steps=1)) == {"d0"}
    assert not read(stranger)["answerable"], "0 leaves it to who asks, as for `zrag ask`"
    assert is_packaged(registered.checkpoint, folder)
    monkeypatch.setenv("ZRAG_LEAST_CONFIDENCE", "1.0")
    assert not read(QUESTION, least_confidence=0.1)["answerable"]


def test_only_what_is_registered_gets_a_decoding(registered):
    try:
        ModelRegistry(registered).set_champion("memory-89", {"least_confidence": 0.1})
        assert not list(registered.data_dir.rglob("decoding.json"))
        assert not (registered.data_dir / "mlartifacts" / "registered" / "zrag" / "memory-89").exists()
    finally:  # nobody has the alias now
        registered.client.set_registered_model_alias("zrag", "champion", "1")


def test_a_stream_ends_with_the_whole_message(loaded):
    first, last = loaded.predict_stream(ask(QUESTION))
    assert (first["type"], last["type"]) == ("response.output_text.delta", "response.output_item.done")
    assert first["delta"] == last["item"]["content"][0]["text"]
    assert first["delta"].startswith("Orla Venn was born in Tessamor. [1]")
    assert first["item_id"] == last["item"]["id"]
    assert last["custom_outputs"]["sources"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"input": []}, "no question"),
        (ask("  "), "no question"),
        (ask(QUESTION, budget=0), "'budget' is a number"),
        (ask(QUESTION, budget=True), "'budget' is a number"),
        (ask(QUESTION, free="yes"), "'free' is true or false"),
        (ask(QUESTION, bugdet=3), "unknown: bugdet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_cannot_be_answered_say_why(loaded, request_, reason):
    with pytest.raises(MlflowException, match=reason) as caught:
        loaded.predict(request_)
    assert caught.value.get_http_status_code() == 400


def test_a_model_whose_checkpoint_is_damaged_does_not_load(registered, tmp_path):
    shutil.copytree(model_folder(registered), tmp_path / "model")
    (tmp_path / "model" / "artifacts" / "checkpoint" / "heads.safetensors").write_bytes(b"")
    with pytest.raises(Exception, match="the checkpoint is damaged"):
        mlflow.pyfunc.load_model(tmp_path / "model")


# --- the server -----------------------------------------------------------------------------------


@pytest.fixture
def server(registered, tmp_path):
    """`mlflow models serve` of the champion, away from the checkout; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/zrag@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": registered.uri, "PYTHONWARNINGS": "ignore"}
    # `mlflow models serve` starts `uvicorn` by its name.
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    log = tmp_path / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"{address}/ping", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_champion_is_served_to_the_openai_client(server):
    with openai.OpenAI(base_url=server, api_key="none", max_retries=0) as client:
        response = client.post("/invocations", body=ask(QUESTION), cast_to=Response)
        assert response.output_text.startswith("Orla Venn was born in Tessamor. [1]")
        told = response.custom_outputs
        assert told["sources"][0]["text"] == "Orla Venn was born in Tessamor."
        assert told["routing"][0]["document_id"] == "d0"
        korean = client.post("/invocations", body=ask("한소라는 어디에서 태어났나?"), cast_to=Response)
        assert korean.custom_outputs["routing"][0]["document_id"] == "문서-8"
        with pytest.raises(openai.BadRequestError, match="unknown: bugdet"):
            client.post("/invocations", body=ask(QUESTION, bugdet=1), cast_to=Response)
