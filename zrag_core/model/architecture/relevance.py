"""Whether a sentence answers a question, as the LLM's hidden states say it while it reads the question behind it.

A linear probe (Alain & Bengio 2016, arXiv 1610.01644) of one layer; of the layers, those behind the middle know most,
since the last ones turn to the next token. Its states are there when the likelihood of the question is computed, so it
costs nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

DEPTH = 0.6
"""Depth of the layer, as a share of the LLM's layers."""

_L2 = 0.04
_RIGHT = 3.0  # what a sentence that answers counts, beside one that does not
_LISTWISE = 0.5


class RelevanceProbe(nn.Module):
    """Log-odds that a sentence answers, from the states of the question's tokens.

    Args:
        hidden: width H of the LLM.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, hidden: int):
        super().__init__()
        self.score = nn.Linear(2 * hidden, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.register_buffer("mean", torch.zeros(2 * hidden))
        self.register_buffer("deviation", torch.ones(2 * hidden))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds [B] of features [B, 2 H]."""
        odds: torch.Tensor = self.score((features - self.mean) / self.deviation)[:, 0]
        return odds

    def fit(self, features: torch.Tensor, right: torch.Tensor, owner: torch.Tensor) -> None:
        """Fit the probe in place: right against wrong, and the right one against the others of its question.

        Args:
            features: [P, 2 H] of pairs of a question and a sentence.
            right: [P] bool, whether the sentence answers.
            owner: [P] number of the question.
        """
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=1e-3))
        scaled, target = (features - self.mean) / self.deviation, right.float()
        answered = torch.zeros(int(owner.max()) + 1).index_add(0, owner, target) > 0
        optimizer = torch.optim.LBFGS(list(self.score.parameters()), max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            odds = self.score(scaled)[:, 0]
            loss = F.binary_cross_entropy_with_logits(odds, target, pos_weight=torch.tensor(_RIGHT))
            loss = loss + _LISTWISE * _listwise(odds, target, owner, answered)
            loss = loss + _L2 * self.score.weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)


def relevance_features(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States [B, T, H] of questions' tokens as features [B, 2 H]: the last token's, and their mean.

    Args:
        mask: [B, T], 1 at real tokens, which come first.
    """
    states, last = states.float(), mask.sum(1).clamp(min=1) - 1
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([states[torch.arange(len(states)), last], mean], 1)


def _listwise(odds: torch.Tensor, target: torch.Tensor, owner: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
    """-log P(the right sentence) among those of its question, of the questions that are answered."""
    n = len(answered)
    top = torch.full((n,), -torch.inf).scatter_reduce(0, owner, odds.detach(), "amax")
    weights = (odds - top[owner]).exp()
    all_, right = (torch.zeros(n).index_add(0, owner, own)[answered] for own in (weights, weights * target))
    return (all_.log() - right.log()).mean()
