"""Whether a sentence answers a question, as the LLM's hidden states say it while it reads the question behind it.

A probe (Alain & Bengio 2016, arXiv 1610.01644; here with one hidden layer) of a few layers; of these, those about the
middle know most, since the last ones turn to the next token. Their states are there when the likelihood of the question
is computed, so it costs nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

DEPTHS = (0.45, 0.53, 0.6, 0.67)
"""Depths of the layers, as shares of the LLM's layers."""

_UNITS = 128
_DROPOUT = 0.3
_STEPS, _QUESTIONS = 600, 128  # of a step
_LR, _WEIGHT_DECAY = 2e-3, 0.1
_RIGHT = 3.0  # what a sentence that answers counts, beside one that does not
_LISTWISE = 0.5


class RelevanceProbe(nn.Module):
    """Log-odds that a sentence answers, from the states of the question's tokens.

    Args:
        features: width of what `relevance_features` makes.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, features: int):
        super().__init__()
        self.units = nn.Linear(features, _UNITS)
        self.score = nn.Linear(_UNITS, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds [B] of features [B, F]."""
        units = F.gelu(self.units((features - self.mean) / self.deviation))
        odds: torch.Tensor = self.score(F.dropout(units, _DROPOUT, self.training))[:, 0]
        return odds

    def fit(self, features: torch.Tensor, right: torch.Tensor, owner: torch.Tensor) -> None:
        """Fit the probe in place: right against wrong, and the right one against the others of its question.

        Args:
            features: [P, F] of pairs of a question and a sentence.
            right: [P] bool, whether the sentence answers.
            owner: [P] number of the question, ascending.
        """
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=1e-3))
        generator = torch.Generator().manual_seed(0)
        nn.init.kaiming_uniform_(self.units.weight, a=5**0.5, generator=generator)
        nn.init.normal_(self.score.weight, std=_UNITS**-0.5, generator=generator)
        nn.init.zeros_(self.units.bias)
        nn.init.zeros_(self.score.bias)
        optimizer = torch.optim.AdamW(self.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=_STEPS)
        n = int(owner[-1]) + 1
        starts = torch.searchsorted(owner, torch.arange(n + 1))
        self.train()
        with torch.enable_grad(), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)  # the dropout
            for _ in range(_STEPS):
                drawn = torch.randperm(n, generator=generator)[:_QUESTIONS]
                rows = torch.cat([torch.arange(int(starts[q]), int(starts[q + 1])) for q in drawn])
                lengths = starts[drawn + 1] - starts[drawn]
                loss = _loss(self(features[rows]), right[rows], torch.arange(len(drawn)).repeat_interleave(lengths))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.eval()


def relevance_features(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States [B, T, H] of questions' tokens behind a layer as features [B, 2 H]: the last token's, and their mean.

    Args:
        mask: [B, T], 1 at real tokens, which come first.
    """
    states, last = states.float(), mask.sum(1).clamp(min=1) - 1
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([states[torch.arange(len(states)), last], mean], 1)


def _loss(odds: torch.Tensor, right: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    target = right.float()
    each = F.binary_cross_entropy_with_logits(odds, target, pos_weight=torch.tensor(_RIGHT))
    answered = torch.zeros(int(owner.max()) + 1).index_add(0, owner, target) > 0
    return each + _LISTWISE * _listwise(odds, target, owner, answered) if answered.any() else each


def _listwise(odds: torch.Tensor, target: torch.Tensor, owner: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
    """-log P(the right sentence) among those of its question, of the questions that are answered."""
    n = len(answered)
    top = torch.full((n,), -torch.inf).scatter_reduce(0, owner, odds.detach(), "amax")
    weights = (odds - top[owner]).exp()
    all_, right = (torch.zeros(n).index_add(0, owner, own)[answered] for own in (weights, weights * target))
    return (all_.log() - right.log()).mean()
