"""Text encoders of the dense baseline: texts in, unit vectors out.

`lsa` needs nothing beyond scikit-learn and no network; a sentence-transformers name or path and
`openai:MODEL` are the neural ones.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zrag_core.errors import AnsweringError, CorpusError, SettingsError
from zrag_core.settings import BaselineSettings
from zrag_core.text import search_terms

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

_FIELD = "baselines.dense_encoder"
_LSA_TERMS = "lsa.json"
_LSA_COMPONENTS = "lsa.safetensors"
_OPENAI_BATCH = 128
# The E5 models were trained with these prefixes and lose accuracy without them (Wang et al. 2022, arXiv
# 2212.03533); their instruction-tuned successors take a task description before the query alone.
_E5 = re.compile(r"(^|[-_/])e5([-_]|$)", re.IGNORECASE)
_E5_INSTRUCTION = "Instruct: Given a question, retrieve passages that answer the question\nQuery: "


class Encoder(ABC):
    """Maps texts to unit vectors whose dot product is their similarity.

    Attributes:
        name: as written in `baselines.dense_encoder`.
    """

    name: str

    @abstractmethod
    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 [texts, dimensions], rows of length one (or zero where nothing is known of a text)."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Like `encode_documents`, for questions, where the encoder makes a difference."""
        return self.encode_documents(texts)

    def files(self) -> dict[str, bytes]:
        """Files that make this encoder again, by name; none where the encoder's name is enough."""
        return {}


def make_encoder(settings: BaselineSettings, texts: Sequence[str]) -> Encoder:
    """The encoder that the settings name; `lsa` is fitted to `texts`.

    Raises:
        SettingsError: a missing package, model or key.
        CorpusError: no text holds a word (`lsa`).
    """
    if settings.dense_encoder == LsaEncoder.name:
        return LsaEncoder.fit(texts, settings.lsa_dimensions)
    return _pretrained_encoder(settings.dense_encoder)


def restore_encoder(name: str, files: Mapping[str, bytes]) -> Encoder:
    """The encoder of a stored index, from its name and its files."""
    return LsaEncoder.from_files(files) if name == LsaEncoder.name else _pretrained_encoder(name)


def encoder_file_names(name: str) -> tuple[str, ...]:
    """Names of the files that `restore_encoder` needs."""
    return (_LSA_TERMS, _LSA_COMPONENTS) if name == LsaEncoder.name else ()


def _pretrained_encoder(name: str) -> Encoder:
    if name.startswith("openai:"):
        return OpenAIEncoder(name.removeprefix("openai:"))
    return SentenceTransformerEncoder(name)


class LsaEncoder(Encoder):
    """Latent semantic analysis: TF-IDF over search terms, then a truncated SVD (Deerwester et al. 1990)."""

    name = "lsa"

    def __init__(self, vectorizer: TfidfVectorizer, components: np.ndarray):
        self._vectorizer = vectorizer
        self._components = components

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int) -> LsaEncoder:
        """Fit to a corpus; fewer dimensions come out where it has fewer texts or terms.

        Raises:
            CorpusError: no text holds a word.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd

        vectorizer = TfidfVectorizer(analyzer=search_terms, sublinear_tf=True)
        try:
            matrix = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise CorpusError("no document holds a word to index", remedy="check the corpus' texts") from error
        _, _, components = randomized_svd(matrix, n_components=min(dimensions, *matrix.shape), random_state=0)
        return cls(vectorizer, components.astype(np.float32))

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> LsaEncoder:
        """Rebuild an encoder from `files()`."""
        from safetensors.numpy import load
        from sklearn.feature_extraction.text import TfidfVectorizer

        stored = json.loads(files[_LSA_TERMS])
        vectorizer = TfidfVectorizer(analyzer=search_terms, sublinear_tf=True, vocabulary=stored["terms"])
        vectorizer.idf_ = np.array(stored["idf"])
        return cls(vectorizer, load(files[_LSA_COMPONENTS])["components"])

    def files(self) -> dict[str, bytes]:
        """Terms with their idf as JSON, the SVD's components [dimensions, terms] as safetensors."""
        from safetensors.numpy import save

        stored = {"terms": self._vectorizer.get_feature_names_out().tolist(), "idf": self._vectorizer.idf_.tolist()}
        return {
            _LSA_TERMS: json.dumps(stored, ensure_ascii=False).encode("utf-8"),
            _LSA_COMPONENTS: save({"components": np.ascontiguousarray(self._components)}),
        }

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors; a text without known terms is all zeros. Questions are folded in like documents."""
        return unit_rows(self._vectorizer.transform(texts) @ self._components.T)


class SentenceTransformerEncoder(Encoder):
    """Any sentence-transformers model, by name or local path."""

    def __init__(self, name: str):
        """Load the model.

        Raises:
            SettingsError: the package is missing, or the model cannot be loaded.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingsError(
                f"'{name}' needs the package sentence-transformers",
                where=_FIELD,
                remedy="pip install 'zrag[dense]', or use 'lsa'",
            ) from error
        try:
            self._model = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise SettingsError(
                f"cannot load '{name}': {reason}", where=_FIELD, remedy="check name, path and network"
            ) from error
        self.name = name
        prefixes = e5_prefixes(name)
        self._query_prompt: str | None = prefixes[0] if prefixes else None
        self._document_prompt: str | None = prefixes[1] if prefixes else None

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of documents, with the model's own document prompt if it has one."""
        return self._encode(self._model.encode_document, texts, self._document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of questions, with the model's own query prompt if it has one."""
        return self._encode(self._model.encode_query, texts, self._query_prompt)

    def _encode(self, encode: Any, texts: Sequence[str], prompt: str | None) -> np.ndarray:
        return unit_rows(encode(list(texts), prompt=prompt, show_progress_bar=False))


class OpenAIEncoder(Encoder):
    """Embeddings of an OpenAI-compatible server; `OPENAI_API_KEY` and `OPENAI_BASE_URL` are read as usual."""

    def __init__(self, model: str, *, max_retries: int = 5, timeout_s: float = 60.0):
        """Prepare the client; nothing is sent yet.

        Raises:
            SettingsError: no model name, or no key in the environment.
        """
        from openai import OpenAI

        if not model:
            raise SettingsError("no model named", where=_FIELD, remedy="write openai:text-embedding-3-small")
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            raise SettingsError(
                f"'openai:{model}' needs the environment variable OPENAI_API_KEY",
                where=_FIELD,
                remedy="export it, or use 'lsa'",
            )
        self.name = f"openai:{model}"
        self._model = model
        self._key = key
        self._client = OpenAI(api_key=key, max_retries=max_retries, timeout=timeout_s)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of documents.

        Raises:
            AnsweringError: the server cannot be reached or refuses.
        """
        batches = [texts[i : i + _OPENAI_BATCH] for i in range(0, len(texts), _OPENAI_BATCH)]
        return unit_rows(np.array([row for batch in batches for row in self._embed(list(batch))], dtype=np.float32))

    def _embed(self, batch: list[str]) -> list[list[float]]:
        import openai

        from zrag_core.answering.failures import public_url

        where = public_url(str(self._client.base_url))
        try:
            response = self._client.embeddings.create(model=self._model, input=batch)
        except openai.AuthenticationError as error:
            raise AnsweringError("the key was refused", where=where, remedy="check OPENAI_API_KEY") from error
        except openai.APIConnectionError as error:
            raise AnsweringError(
                "the embedding server cannot be reached", where=where, remedy="check the network and OPENAI_BASE_URL"
            ) from error
        except openai.APIStatusError as error:
            # Some servers repeat the key in their messages.
            reason = error.message.replace(self._key, "***")
            raise AnsweringError(
                f"the embedding server refused with status {error.status_code}: {reason}",
                where=where,
                remedy=f"check the model name '{self._model}' and the account's limits",
            ) from error
        if len(response.data) != len(batch):
            raise AnsweringError(
                f"{len(response.data)} embeddings came back for {len(batch)} texts", where=where, remedy="try again"
            )
        return [item.embedding for item in sorted(response.data, key=lambda item: item.index)]


def e5_prefixes(name: str) -> tuple[str, str] | None:
    """Prefixes of query and document for an E5 model, recognised by its name; None for other models."""
    if not _E5.search(name):
        return None
    return (_E5_INSTRUCTION, "") if "instruct" in name.casefold() else ("query: ", "passage: ")


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Scale rows to length one, float32; rows of zeros stay."""
    matrix = np.asarray(matrix, dtype=np.float32)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 0, norms, 1)
