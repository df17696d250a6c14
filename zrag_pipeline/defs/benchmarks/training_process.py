"""A process that trains a joint memory for some steps, for what that takes: reads what to do from standard input.

Two recipes: zRAG's, in which a question reads the slots of one document and the router scores all of them, and the
naive one of earlier work, in which all N x m vectors of Z stand before every question, a batch of one, and are
projected and prefilled again for each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zrag_pipeline.platform.peak_memory import peak_memory

if TYPE_CHECKING:
    from zrag_core.model.architecture.joint_memory import JointMemory
    from zrag_core.model.training.examples import ReadExample

ZRAG, NAIVE = "zrag", "naive"


def main() -> None:
    """Print one line of JSON: seconds of training, questions in them, evidence tokens of a question on average, and the
    largest memory in GB, of the whole process and before training began."""
    given = json.load(sys.stdin)
    import torch

    from zrag_core.corpus.almanac import generate_almanac
    from zrag_core.corpus.targets import build_targets
    from zrag_core.model.architecture.create_backbone import create_backbone
    from zrag_core.model.training.examples import build_training_set
    from zrag_core.model.training.joint_training import initialise, train_joint
    from zrag_core.settings import Settings
    from zrag_pipeline.defs.memory.joint_job import tokenizer_texts

    settings = Settings.model_validate(given["settings"])
    torch.set_num_threads(settings.backbone.cpu_threads)
    corpus = generate_almanac(given["documents"], "en", seed=given["seed"])
    targets = [t for t in build_targets(corpus, settings.targets, given["seed"]) if t.split == "train"]
    backbone = create_backbone(settings.backbone, tokenizer_texts(corpus.documents, targets), seed=settings.joint.seed)
    examples = build_training_set(corpus.documents, targets, backbone, settings.joint).examples
    before = peak_memory()
    if given["recipe"] == ZRAG:
        trained = train_joint(corpus.documents, targets, backbone, settings)
        seconds, questions = trained.seconds, trained.steps * settings.joint.batch_size
    else:
        model = initialise(backbone, settings.joint, corpus.documents, seed=settings.joint.seed)
        seconds, questions = _train_naively(model, examples[: given["questions"]]), given["questions"]
    tokens = sum(len(example.evidence) for example in examples) / len(examples)
    print(
        json.dumps(
            {"seconds": seconds, "questions": questions, "tokens": tokens, "peak": peak_memory(), "before": before}
        )
    )


def _train_naively(model: JointMemory, examples: Sequence[ReadExample]) -> float:
    """A step of each question; seconds."""
    import torch

    from zrag_core.model.architecture.spans import whole_document

    parameters = [*model.backbone.trainable(), *model.head_parameters(), model.z]
    optimizer = torch.optim.AdamW(parameters)
    model.train()
    began = time.perf_counter()
    for example in examples:
        prefix = model.z.reshape(1, -1, model.z.shape[-1])  # [1, N * m, d]
        nll, _ = model.read_nll(*whole_document(prefix), [example.query], [example.evidence])
        optimizer.zero_grad()
        nll.mean().backward()
        optimizer.step()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
