"""A second set of weights of zrag-tiny's skill: what routes, ranks and judges in documents that people wrote.

Those that come with its training are fitted on generated documents, whose few words and forms it reads nearly without
a fault; of text by people it understands little, and words count for more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from zrag_core.corpus.prose.asked import AskedSentence, everyday_questions
from zrag_core.model.architecture.sentence_features import fit_confidence, fit_ranking, question_features
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.inference.separated_system import SeparatedSystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.training.calibration import Calibration, measure
from zrag_core.model.training.language_calibration import fit_routing_on, label_asked, weights_by_name
from zrag_core.settings import Settings

_READ = 2_000  # questions to fit on, plenty for a dozen weights; routing, which reads nothing, is fitted on all
_REPLACED = ("ranking", "confidence", "router.log_scale", "router.null_score")


def add_everyday_judgement(
    model: SeparatedMemory, settings: Settings, log: Callable[[str], None] = lambda line: None
) -> Calibration:
    """Give a model its second set of weights, and say how they do; it keeps its own.

    Its memory is replaced by the documents that were written for this, which the caller drops.
    """
    own = _judgement(model)
    found = _calibrate(model, settings, log)
    model.everyday = _judgement(model)
    model.load_state_dict(own, strict=False)
    return found


def _judgement(model: SeparatedMemory) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {name: state[name].detach().cpu().clone() for name in _REPLACED}


def _calibrate(model: SeparatedMemory, settings: Settings, log: Callable[[str], None]) -> Calibration:
    """Fit the weights of `model` in place on the documents and questions that were written for it."""
    one_step = settings.decoding.model_copy(update={"steps": 1, "routed_documents": 10})
    settings = settings.model_copy(update={"decoding": one_step})
    inside, fitted, measured = fit_routing_on(model, *everyday_questions(), settings, log)
    known = {document.id for document in inside}
    memory = Checkpoint("", Path(), model, tuple(inside), settings, {})
    system = SeparatedSystem("calibration", memory, one_step, threads=settings.backbone.cpu_threads)
    labelled = list(label_asked(system, _spread(fitted, _READ), known))
    model.ranking.copy_(fit_ranking([item for item in labelled if item.right.numel()]))
    log(f"ranking: {weights_by_name(model.ranking)}")
    weights = system.ranking_weights()
    again = list(label_asked(system, _spread(measured, _READ // 3), known))
    own, others = (
        torch.stack([question_features(i.known, i.features, i.features @ weights) for i in items])
        for items in (labelled, again)
    )
    model.confidence.copy_(fit_confidence(own, torch.tensor([bool(item.right.numel()) for item in labelled])))
    return measure(again, weights, others, model.confidence.cpu())


def _spread(asked: list[AskedSentence], most: int) -> list[AskedSentence]:
    """About `most` of them, evenly over all documents."""
    return asked[:: max(1, len(asked) // most)]
