"""What each of two processes does in `test_process_group.py`: `accelerate launch -m group_target FOLDER`.

Trains under every set of settings in the folder's `given.json`; the main process writes what came out.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.training.joint_training import train_joint
from zrag_core.model.training.process_group import ALONE, joined
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.model.training.skill_data import AlmanacSkill
from zrag_core.model.training.skill_training import new_model, train_skill
from zrag_core.settings import load_settings


def describe(documents, targets, several):
    """What to train on and how, as JSON."""
    return json.dumps(
        {
            "documents": [asdict(document) for document in documents],
            "targets": [asdict(target) for target in targets],
            "settings": [settings.model_dump(mode="json") for settings in several],
        }
    )


def train_all(given, group=ALONE):
    """Yield the losses of every step, the dev loss and the tensors, for each of the settings."""
    given = json.loads(given)
    documents = [Document(**values) for values in given["documents"]]
    targets = [EvidenceTarget(**{**one, "document_ids": tuple(one["document_ids"])}) for one in given["targets"]]
    for settings in map(load_settings, given["settings"]):
        losses = []
        hooks = TrainingHooks(on_progress=lambda progress, losses=losses: losses.append(dict(progress.losses)))
        if settings.memory.policy == "joint":
            texts = [document.contents for document in documents] + [target.query for target in targets]
            backbone = create_backbone(settings.backbone, texts, seed=0)
            result = train_joint(documents, targets, backbone, settings, hooks, group)
            dev_loss = result.dev_loss
        else:
            source = AlmanacSkill(settings.skill.languages)
            model = new_model(settings, source)
            result = train_skill(model, source, settings.skill, fingerprint="f", hooks=hooks, group=group)
            dev_loss = None
        tensors = {name: value.clone() for name, value in result.model.state_dict().items()}
        yield {"losses": losses, "dev_loss": dev_loss, "size": group.size}, tensors


def main(folder):
    with joined(torch.device("cpu")) as group:
        for number, (values, tensors) in enumerate(train_all((folder / "given.json").read_text("utf-8"), group)):
            save_file(tensors, folder / f"{number}-{group.rank}.safetensors")
            (folder / f"{number}-{group.rank}.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
