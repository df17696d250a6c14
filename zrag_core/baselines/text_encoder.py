"""What a text encoder of the dense baseline is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

FIELD = "baselines.dense_encoder"
"""The setting that names one."""


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


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Scale rows to length one, float32; rows of zeros stay."""
    matrix = np.asarray(matrix, dtype=np.float32)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norms > 0, norms, 1)
