"""A trained memory as a folder: JSON and safetensors only, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from zrag_core.corpus.types import Document
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CheckpointError
from zrag_core.files import atomic_folder
from zrag_core.model.backbone import load_backbone
from zrag_core.model.network import MemoryModel
from zrag_core.model.skill_folder import load_heads
from zrag_core.settings import Settings, load_settings

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; row i of `model.z` belongs to `documents[i]`."""

    id: str
    folder: Path
    model: MemoryModel
    documents: tuple[Document, ...]
    settings: Settings
    config: dict[str, Any]


def save_checkpoint(
    folder: Path,
    model: MemoryModel,
    documents: Sequence[Document],
    settings: Settings,
    *,
    checkpoint_id: str,
    metrics: Mapping[str, Any],
) -> None:
    """Write `folder`; a reader sees the former checkpoint or this one, never half of it.

    Raises:
        CheckpointError: the model's rows and the documents do not match.
    """
    from safetensors.torch import save_file

    if model.z.shape[0] != len(documents):
        raise CheckpointError(f"Z has {model.z.shape[0]} rows for {len(documents)} documents", where=str(folder))
    hashes = torch.tensor([list(bytes.fromhex(document.content_hash)) for document in documents], dtype=torch.uint8)
    config = {
        "format_version": FORMAT_VERSION,
        "checkpoint_id": checkpoint_id,
        "corpus_version": corpus_version(documents),
        "memory_shape": list(model.z.shape),
        "settings": {
            "backbone": settings.backbone.model_dump(mode="json"),
            "memory": model.settings.model_dump(mode="json"),  # the policy that it was made with
            "training": settings.training.model_dump(mode="json"),
            "decoding": settings.decoding.model_dump(mode="json"),
        },
    }
    with atomic_folder(folder) as temporary:
        model.backbone.save(temporary)
        memory = {name: value.detach().cpu().contiguous() for name, value in model.named_memory()}
        save_file({**memory, "content_hash": hashes}, temporary / "memory.safetensors")
        heads = {name: value.detach().cpu().contiguous() for name, value in model.head_state().items()}
        save_file(heads, temporary / "heads.safetensors")
        with (temporary / "documents.jsonl").open("w", encoding="utf-8") as file:
            for document in documents:
                file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
        _write_json(temporary / "metrics.json", dict(metrics))
        _write_json(temporary / "config.json", config)


def load_checkpoint(folder: Path, *, device: str | None = None, verbatim: bool = False) -> Checkpoint:
    """Load a checkpoint for reading; the model is in evaluation mode.

    Args:
        device: overrides the device that the checkpoint was trained on.
        verbatim: no text is to be generated; `zrag-tiny` then loads in half the time.

    Raises:
        CheckpointError: no checkpoint, an unknown format, or documents that do not match their hashes.
    """
    from safetensors import SafetensorError

    config_file = folder / "config.json"
    if not config_file.is_file():
        raise CheckpointError("no checkpoint here", where=str(folder), remedy="train one (job `train`)")
    try:
        return _load(folder, config_file, device, verbatim)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint is damaged ({str(error).splitlines()[0]})",
            where=str(folder),
            remedy="restore the folder, or remove it and train again",
        ) from error


def _load(folder: Path, config_file: Path, device: str | None, verbatim: bool) -> Checkpoint:
    from safetensors.torch import load_file

    config = json.loads(config_file.read_text(encoding="utf-8"))
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {config.get('format_version')} is not {FORMAT_VERSION}",
            where=str(config_file),
            remedy="train again with this version of zRAG",
        )
    values = config["settings"]
    values["backbone"]["device"] = device or "auto"
    settings = load_settings(values)
    with (folder / "documents.jsonl").open(encoding="utf-8") as file:
        documents = tuple(Document(**json.loads(line)) for line in file)
    memory = load_file(folder / "memory.safetensors")
    if len(documents) != len(memory["z"]):
        raise ValueError(f"{len(documents)} documents for {len(memory['z'])} rows of Z")
    for document, stored in zip(documents, memory["content_hash"].tolist(), strict=True):
        if bytes(stored).hex() != document.content_hash:
            raise CheckpointError(
                f"document '{document.id}' does not match the content hash of its row",
                where=str(folder / "documents.jsonl"),
                remedy="the folder was changed by hand; restore it or train again",
            )
    backbone = load_backbone(settings.backbone, folder, verbatim=verbatim)
    model = MemoryModel(backbone, settings.memory, len(documents))
    load_heads(model, load_file(folder / "heads.safetensors"))
    with torch.no_grad():
        for name, tensor in model.named_memory():
            tensor.copy_(memory[name])
    return Checkpoint(config["checkpoint_id"], folder, model.eval(), documents, settings, config)


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files.

    `metrics.json` and a skill's `README.md` are left out: they tell how long training took, so equal models would
    differ in them.
    """
    digest = hashlib.sha256()
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in ("metrics.json", "README.md"))
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
