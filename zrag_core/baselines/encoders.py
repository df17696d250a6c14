"""Text encoders of the dense baseline: texts in, unit vectors out.

`lsa` needs nothing beyond scikit-learn and no network; a sentence-transformers name or path and
`openai:MODEL` are the neural ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zrag_core.baselines.text_encoder import FIELD, Encoder, unit_rows
from zrag_core.errors import CorpusError, SettingsError
from zrag_core.settings import BaselineSettings
from zrag_core.text import search_terms

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from zrag_core.answering.ledger import SpendingLedger

_LSA_TERMS = "lsa.json"
_LSA_COMPONENTS = "lsa.safetensors"
# The E5 models were trained with these prefixes and lose accuracy without them (Wang et al. 2022, arXiv
# 2212.03533); their instruction-tuned successors take a task description before the query alone.
_E5 = re.compile(r"(^|[-_/])e5([-_]|$)", re.IGNORECASE)
_E5_INSTRUCTION = "Instruct: Given a question, retrieve passages that answer the question\nQuery: "


def make_encoder(settings: BaselineSettings, texts: Sequence[str], ledger: SpendingLedger | None = None) -> Encoder:
    """The encoder that the settings name; `lsa` is fitted to `texts`.

    Args:
        ledger: holds the spending limit where embeddings are paid for.

    Raises:
        SettingsError: a missing package, model or key.
        CorpusError: no text holds a word (`lsa`).
    """
    if settings.dense_encoder == LsaEncoder.name:
        return LsaEncoder.fit(texts, settings.lsa_dimensions)
    return _pretrained_encoder(settings.dense_encoder, ledger)


def restore_encoder(name: str, files: Mapping[str, bytes], ledger: SpendingLedger | None = None) -> Encoder:
    """The encoder of a stored index, from its name and its files; `ledger` as in `make_encoder`."""
    return LsaEncoder.from_files(files) if name == LsaEncoder.name else _pretrained_encoder(name, ledger)


def encoder_file_names(name: str) -> tuple[str, ...]:
    """Names of the files that `restore_encoder` needs."""
    return (_LSA_TERMS, _LSA_COMPONENTS) if name == LsaEncoder.name else ()


def _pretrained_encoder(name: str, ledger: SpendingLedger | None) -> Encoder:
    if name.startswith("openai:"):
        from zrag_core.baselines.openai_encoder import OpenAIEncoder

        return OpenAIEncoder(name.removeprefix("openai:"), ledger=ledger)
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
                where=FIELD,
                remedy="pip install 'zrag[dense]', or use 'lsa'",
            ) from error
        try:
            self._model = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise SettingsError(
                f"cannot load '{name}': {reason}", where=FIELD, remedy="check name, path and network"
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


def e5_prefixes(name: str) -> tuple[str, str] | None:
    """Prefixes of query and document for an E5 model, recognised by its name; None for other models."""
    if not _E5.search(name):
        return None
    return (_E5_INSTRUCTION, "") if "instruct" in name.casefold() else ("query: ", "passage: ")
