"""Dense retrieval: the offline encoder, neural ones, exact search and its folder."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

from zrag_core.answering.failures import Waits
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.baselines.dense import DenseIndex, DenseSystem
from zrag_core.baselines.encoders import LsaEncoder, e5_prefixes
from zrag_core.baselines.openai_encoder import OpenAIEncoder
from zrag_core.baselines.text_encoder import unit_rows
from zrag_core.corpus.types import Document, Question
from zrag_core.errors import AnsweringError, CheckpointError, CorpusError, SettingsError
from zrag_core.settings import BaselineSettings

SETTINGS = BaselineSettings(lsa_dimensions=8)
DOCUMENTS = [
    Document("lake", "Lake Orla", "Lake Orla lies in the north and is deep."),
    Document("town", "Tarn", "Tarn is a town of weavers founded by Ilse Maar."),
    Document("river", "한빛강", "한빛강은 북쪽에서 흐르는 긴 강이다."),
    Document("guild", "", "The guild of the weavers meets in spring."),
]


def test_the_nearest_document_comes_first():
    system = DenseSystem(DenseIndex.build(DOCUMENTS, SETTINGS), DOCUMENTS)
    found = system.retrieve([Question("1", "a deep lake"), Question("2", "한빛강이 흐르는 곳"), Question("3", "zzz")])
    assert [r.document_ids[0] for r in found[:2]] == ["lake", "river"]
    assert [r.question_id for r in found] == ["1", "2", "3"]
    assert found[0].segments[0].text == DOCUMENTS[0].text
    # A question without a known word says nothing: corpus order.
    assert found[2].document_ids == ("lake", "town", "river", "guild")
    assert system.retrieve([]) == []


def test_scores_are_cosines_in_every_batch(monkeypatch):
    index = DenseIndex.build(DOCUMENTS, SETTINGS)
    questions = [Question(str(i), document.text) for i, document in enumerate(DOCUMENTS)]
    whole = DenseSystem(index, DOCUMENTS).retrieve(questions)
    monkeypatch.setattr("zrag_core.baselines.dense._BATCH", 1)
    single = DenseSystem(index, DOCUMENTS).retrieve(questions)
    for question, together, alone in zip(questions, whole, single, strict=True):
        query = index.encoder.encode_queries([question.question])[0]
        expected = {d.id: float(query @ v) for d, v in zip(DOCUMENTS, index.vectors, strict=True)}
        assert together.document_ids == alone.document_ids == tuple(sorted(expected, key=expected.get, reverse=True))
        for document_id, score in zip(together.document_ids, together.document_scores, strict=True):
            assert score == pytest.approx(expected[document_id], abs=1e-6)


def test_lsa_vectors_are_unit_rows_of_the_truncated_svd():
    texts = [document.contents for document in DOCUMENTS]
    encoder = LsaEncoder.fit(texts, 3)
    matrix = encoder._vectorizer.transform(texts).toarray()
    _, _, components = np.linalg.svd(matrix, full_matrices=False)
    expected = unit_rows(matrix @ components[:3].T)
    vectors = encoder.encode_documents(texts)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_lsa_is_deterministic_and_fits_tiny_corpora():
    texts = [document.contents for document in DOCUMENTS]
    assert np.array_equal(
        LsaEncoder.fit(texts, 4).encode_queries(texts), LsaEncoder.fit(texts, 4).encode_queries(texts)
    )
    assert LsaEncoder.fit(texts, 256).encode_documents(texts).shape == (4, 4)
    assert LsaEncoder.fit(["one"], 256).encode_documents(["one", "other"]).tolist() == [[1.0], [0.0]]
    with pytest.raises(CorpusError, match="no document holds a word"):
        LsaEncoder.fit(["?!"], 8)


def test_a_stored_index_scores_the_same(tmp_path):
    built = DenseIndex.build(DOCUMENTS, SETTINGS, corpus_version="v1")
    built.save(tmp_path / "index")
    loaded = DenseIndex.load(tmp_path / "index")
    queries = ["deep lake", "한빛강", "nothing known"]
    np.testing.assert_array_equal(loaded.scores(queries), built.scores(queries))
    assert (loaded.corpus_version, loaded.document_ids) == ("v1", ("lake", "town", "river", "guild"))
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names == {"config.json", "vectors.safetensors", "lsa.json", "lsa.safetensors"}


def test_a_damaged_folder_is_named(tmp_path):
    folder = tmp_path / "index"
    DenseIndex.build(DOCUMENTS, SETTINGS).save(folder)
    vectors = (folder / "vectors.safetensors").read_bytes()
    for content in (
        vectors[:-5],
        b"",
        save({"vectors": np.zeros((2, 4), dtype=np.float32)}),
        save({"other": np.ones(1)}),
    ):
        (folder / "vectors.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            DenseIndex.load(folder)
    (folder / "vectors.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"vectors\.safetensors.*cannot read"):
        DenseIndex.load(folder)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("intfloat/e5-base-v2", ("query: ", "passage: ")),
        ("intfloat/multilingual-e5-small", ("query: ", "passage: ")),
        ("/models/E5-large/", ("query: ", "passage: ")),
        ("sentence-transformers/all-MiniLM-L6-v2", None),
        ("org/scale5-model", None),
        ("org/e55", None),
    ],
)
def test_e5_models_are_known_by_name(name, prefixes):
    assert e5_prefixes(name) == prefixes


def test_instruction_tuned_e5_takes_its_instruction_with_the_query_alone():
    query, passage = e5_prefixes("intfloat/multilingual-e5-large-instruct")
    assert query.startswith("Instruct: ")
    assert query.endswith("\nQuery: ")
    assert passage == ""


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(SettingsError, match=r"baselines\.dense_encoder.*pip install 'zrag\[dense\]'"):
        DenseIndex.build(DOCUMENTS, BaselineSettings(dense_encoder="intfloat/e5-base-v2"))


def test_a_local_sentence_transformers_model(tmp_path):
    """A real (untrained) E5-named model: prefixes reach the encoder, and the index comes back from its folder."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    bag = modules.BoW(vocab=["query", "passage", "lake", "town", "deep"])
    path = tmp_path / "e5-tiny"
    sentence_transformers.SentenceTransformer(modules=[bag], device="cpu").save(str(path))
    index = DenseIndex.build(DOCUMENTS, BaselineSettings(dense_encoder=str(path)))
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)
    assert (index.vectors[:, 1] > 0).all()  # every document was encoded with "passage: "
    assert index.encoder.encode_queries(["deep lake"])[0, 0] > 0
    index.save(tmp_path / "index")
    assert np.array_equal(DenseIndex.load(tmp_path / "index").scores(["lake"]), index.scores(["lake"]))


def test_a_model_that_does_not_exist_is_named(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(SettingsError, match="cannot load"):
        DenseIndex.build(DOCUMENTS, BaselineSettings(dense_encoder=str(tmp_path / "none")))


class EmbeddingServer(BaseHTTPRequestHandler):
    """Answers like OpenAI's embeddings, out of order; models named after a status fail with it, others as often as
    `failures` says, first."""

    batches: list[int] = []
    failures = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = int(body["model"]) if body["model"].isdigit() else 200
        key = self.headers["Authorization"].removeprefix("Bearer ")
        if status == 200 and type(self).failures:
            type(self).failures, status = type(self).failures - 1, 503
        if status != 200:
            return self._send(status, {"error": {"message": f"bad request with {key}", "type": "t", "code": "c"}})
        type(self).batches.append(len(body["input"]))
        rows = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), 2.0, 0.0]}
            for i, text in enumerate(body["input"])
        ]
        if body["model"] == "short":
            rows = rows[:-1]
        return self._send(
            200,
            {
                "object": "list",
                "model": "m",
                "data": rows[::-1],
                "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
            },
        )

    def _send(self, status, payload):
        content = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    EmbeddingServer.batches, EmbeddingServer.failures = [], 0
    http = ThreadingHTTPServer(("127.0.0.1", 0), EmbeddingServer)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{http.server_port}/v1")
    yield http
    http.shutdown()
    http.server_close()


@pytest.mark.usefixtures("server")
def test_openai_embeddings_come_back_in_order_and_in_batches(tmp_path):
    documents = [Document(str(i), "", "x" * (i + 1)) for i in range(300)]
    index = DenseIndex.build(documents, BaselineSettings(dense_encoder="openai:some-model"))
    assert EmbeddingServer.batches == [128, 128, 44]
    expected = unit_rows(np.array([[i + 1.0, 2.0, 0.0] for i in range(300)]))
    np.testing.assert_allclose(index.vectors, expected, atol=1e-6)
    index.save(tmp_path / "index")
    assert "sk-secret-key" not in "".join(
        path.read_text(encoding="utf-8", errors="ignore") for path in (tmp_path / "index").iterdir()
    )
    assert DenseIndex.load(tmp_path / "index").encoder.name == "openai:some-model"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("401", "the key was refused.*OPENAI_API_KEY"),
        ("404", "refused: HTTP 404: bad request"),
        ("short", "3 embeddings came back for 4"),
    ],
)
def test_openai_failures_are_clear_and_keep_the_key(model, message):
    with pytest.raises(AnsweringError, match=message) as caught:
        DenseIndex.build(DOCUMENTS, BaselineSettings(dense_encoder=f"openai:{model}"))
    assert "sk-secret-key" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


PRICED = BaselineSettings(dense_encoder="openai:text-embedding-3-small")
EACH = 1000 * 0.02 / 1e6  # dollars for a batch of the server's


@pytest.mark.usefixtures("server")
def test_embeddings_of_documents_and_questions_are_in_the_ledger(tmp_path):
    ledger = SpendingLedger(1.0)
    documents = [Document(str(i), "", "x" * (i + 1)) for i in range(300)]
    DenseIndex.build(documents, PRICED, ledger=ledger).save(tmp_path / "index")
    assert (ledger.spent_usd, ledger.unconfirmed_usd) == (pytest.approx(3 * EACH), 0.0)
    DenseIndex.load(tmp_path / "index", ledger).scores(["xx", "xxx"])
    assert ledger.spent_usd == pytest.approx(4 * EACH)


@pytest.mark.usefixtures("server")
def test_nothing_is_embedded_beyond_the_spending_limit():
    documents = [Document(str(i), "", "x" * (10 if i < 128 else 1000)) for i in range(300)]
    ledger = SpendingLedger(0.001)  # enough for the first batch, at the most it could cost
    with pytest.raises(AnsweringError, match=r"spending limit of 0\.001 USD .*raise answers.max_cost_usd"):
        DenseIndex.build(documents, PRICED, ledger=ledger)
    assert EmbeddingServer.batches == [128]


@pytest.mark.usefixtures("server")
def test_a_failing_embedding_server_is_tried_again_and_costs_nothing():
    ledger = SpendingLedger(1.0)
    EmbeddingServer.failures = 2
    encoder = OpenAIEncoder("text-embedding-3-small", ledger=ledger, max_retries=2, waits=Waits(retry_s=0.01))
    assert encoder.encode_queries(["xx"]).shape == (1, 3)
    assert ledger.counted_usd == pytest.approx(EACH)
    EmbeddingServer.failures = 3
    with pytest.raises(AnsweringError, match="refused: HTTP 503"):
        encoder.encode_queries(["xx"])
    assert ledger.counted_usd == pytest.approx(EACH)


def test_an_embedding_model_without_a_price_is_refused_at_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SettingsError, match=r"no price for 'text-embedding-9'.*the spending limit could not be kept"):
        OpenAIEncoder("text-embedding-9")


def test_openai_without_server_or_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(AnsweringError, match=r"127\.0\.0\.1:9.*cannot be reached"):
        OpenAIEncoder("m", max_retries=0).encode_queries(["x"])
    with pytest.raises(SettingsError, match="no model named"):
        OpenAIEncoder("")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(SettingsError, match="needs the environment variable OPENAI_API_KEY"):
        OpenAIEncoder("m")
