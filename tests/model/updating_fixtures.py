"""What tests of updates share: documents by number, an untrained theta, and memories written or updated with it."""

import random
from dataclasses import replace
from pathlib import Path

import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.checkpoint import Checkpoint, Origin, hash_rows, save_checkpoint
from zrag_core.model.store.update import update_memory
from zrag_core.model.store.write import write_documents
from zrag_core.settings import load_settings

SETTINGS = load_settings(
    {
        "backbone": {"threads": 1, "tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
        "separated": {"slots": 6, "width": 16, "stride": 4, "key_width": 8},
        "writing": {"steps": 0, "batch_size": 4},
    }
)
NAMES = "Orla Bram Cass Dov Elin Fenn 서린 가온 나래".split()
DEEDS = ("keeps bees near Tessamor", "was born in Kell", "sells steel pens", "남쪽 바다에서 산다", "등대를 지킨다")


def text_of(serial):
    """A text that no other serial number has a sentence of."""
    rng = random.Random(serial)
    return " ".join(f"{rng.choice(NAMES)} {deed} since {serial}." for deed in rng.sample(DEEDS, rng.randint(1, 3)))


def document(number, serial):
    return Document(
        f"문서{number}" if number % 3 == 0 else f"d{number}", f"{NAMES[number % 9]} {number}", text_of(serial)
    )


def make_theta():
    """A model without training or memory."""
    backbone = create_backbone(SETTINGS.backbone, [text_of(n) for n in range(40)], seed=0)
    torch.manual_seed(0)
    return SeparatedMemory(backbone, SETTINGS.separated).eval()


def write(theta, documents, targets=(), settings=SETTINGS, folder=Path()):
    """A checkpoint written from nothing."""
    model = theta.with_same_theta()
    written = write_documents(model, documents, targets, settings.writing)
    model.remember(documents, written.z, written.spans)
    origin = Origin("skill", "0" * 64, settings.writing, hash_rows(written.studied))
    return Checkpoint("memory-x", folder, model, tuple(documents), settings, {}, origin)


def update(checkpoint, documents, targets=(), settings=SETTINGS):
    """The checkpoint after an update that is not saved."""
    made = update_memory(checkpoint, documents, targets, settings.writing)
    return replace(checkpoint, model=made.model, documents=tuple(documents), origin=made.origin), made


def save(checkpoint, folder):
    save_checkpoint(
        folder,
        checkpoint.model,
        checkpoint.documents,
        checkpoint.settings,
        checkpoint_id=checkpoint.id,
        metrics={},
        origin=checkpoint.origin,
    )


def texts_in(folder):
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
