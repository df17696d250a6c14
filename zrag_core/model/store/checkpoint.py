"""A trained memory as a folder: JSON and safetensors only, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from zrag_core.corpus.types import Corpus, Document, EvidenceTarget
from zrag_core.corpus.version import corpus_version, questions_version
from zrag_core.errors import CheckpointError
from zrag_core.files import atomic_folder
from zrag_core.model.architecture.create_backbone import load_backbone
from zrag_core.model.architecture.create_memory import create_memory
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.skill_folder import load_heads
from zrag_core.model.store.stored_documents import StoredDocuments
from zrag_core.model.store.stored_settings import (
    checkpoint_values,
    codec_values,
    memory_values,
    read_settings,
    read_writing,
    writing_values,
)
from zrag_core.settings import Settings, WritingSettings

FORMAT_VERSION = 4
_HASH_BYTES = 32
_READ_AT_ONCE = 5_000  # documents; of more, those are read that are asked for


@dataclass(frozen=True)
class Origin:
    """What the rows of a written memory were made with: all that updating one has to know.

    Attributes:
        skill_id, skill_digest: of theta.
        writing: the batch size in it says nothing about the rows.
        studied: [N, 32] bytes, digest of what each row was refined on (see `writing.Written`).
    """

    skill_id: str
    skill_digest: str
    writing: WritingSettings
    studied: torch.Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; row i of the memory belongs to `documents[i]`.

    Attributes:
        origin: None where Z was trained with theta (policy `joint`).
    """

    id: str
    folder: Path
    model: MemoryModel
    documents: Sequence[Document]
    settings: Settings
    config: dict[str, Any]
    origin: Origin | None = None

    @property
    def separated(self) -> SeparatedMemory:
        """The model, where it is of the policy `separated`.

        Raises:
            CheckpointError: it is of another one.
        """
        if not isinstance(self.model, SeparatedMemory):
            raise CheckpointError(
                "a memory of the policy joint cannot be updated: its documents are in theta too",
                where=str(self.folder),
                remedy="train again on the new corpus (job `train`), or use the policy separated",
            )
        return self.model


def memory_id(
    skill_digest: str,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    settings: Settings,
    writing: WritingSettings,
) -> str:
    """Id of the memory that a skill writes of a corpus: the same whether it is written afresh or updated.

    Args:
        settings: of the skill, with the widths of the keys in this memory.
    """
    payload = [
        skill_digest,
        corpus_version(corpus.documents),
        questions_version(corpus.questions),
        memory_values(settings, "separated"),
        *codec_values(settings, "separated").values(),
        writing_values(writing),
        # What may be learned from; questions written by an LLM among it, which no setting here tells.
        [(t.method, t.query, t.evidence, t.document_ids) for t in targets if t.split == "train"],
    ]
    fingerprint = hashlib.sha256(json.dumps(payload, sort_keys=True).encode("utf-8")).hexdigest()[:16]
    return f"memory-{fingerprint}"


def save_checkpoint(
    folder: Path,
    model: MemoryModel,
    documents: Sequence[Document],
    settings: Settings,
    *,
    checkpoint_id: str,
    metrics: Mapping[str, Any],
    origin: Origin | None = None,
) -> None:
    """Write `folder`; a reader sees the former checkpoint or this one, never half of it.

    Args:
        origin: of a written memory; without it the checkpoint cannot be updated.

    Raises:
        CheckpointError: the model's rows and the documents do not match.
    """
    from safetensors.torch import save_file

    if model.n_documents != len(documents):
        raise CheckpointError(f"Z has {model.n_documents} rows for {len(documents)} documents", where=str(folder))
    names = [field.name for field in fields(Document)]
    rows = {"content_hash": hash_rows([document.content_hash for document in documents])}
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "checkpoint_id": checkpoint_id,
        "corpus_version": corpus_version(documents),
        "memory_shape": list(model.shape),
        "settings": checkpoint_values(settings, model.policy),
    }
    if origin is not None:
        config["skill"] = {"id": origin.skill_id, "digest": origin.skill_digest}
        config["writing"] = writing_values(origin.writing)
        rows["studied_hash"] = origin.studied
    with atomic_folder(folder) as temporary:
        model.backbone.save(temporary)
        save_file({**model.stored_memory(), **rows}, temporary / "memory.safetensors")
        heads = {name: value.detach().cpu().contiguous() for name, value in model.stored_heads().items()}
        save_file(heads, temporary / "heads.safetensors")
        with (temporary / "documents.jsonl").open("w", encoding="utf-8") as file:
            for document in documents:
                row = {name: getattr(document, name) for name in names}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        _write_json(temporary / "metrics.json", dict(metrics))
        _write_json(temporary / "config.json", config)


def load_checkpoint(folder: Path, *, device: str | None = None, verbatim: bool = False) -> Checkpoint:
    """Load a checkpoint for reading; the model is in evaluation mode.

    Args:
        device: overrides the device that the checkpoint was trained on.
        verbatim: no text is to be generated; small LLMs then load in half the time.

    Raises:
        CheckpointError: no checkpoint, an unknown format, or documents that do not match their hashes.
    """
    from safetensors import SafetensorError

    config = read_config(folder)
    try:
        return _load(folder, config, device, verbatim)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's `config.json`.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or one of an unknown format.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError("no checkpoint here", where=str(folder), remedy="train one (job `train`)")
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = config.get("format_version")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(folder, error) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {version} is not {FORMAT_VERSION}",
            where=str(file),
            remedy="train again with this version of zRAG",
        )
    return config


def stored_hashes(folder: Path) -> list[str]:
    """Content hashes of a checkpoint's documents in row order, without loading the rest of it."""
    from safetensors import safe_open

    with safe_open(folder / "memory.safetensors", "pt") as file:
        return row_hashes(file.get_tensor("content_hash"))


def _load(folder: Path, config: dict[str, Any], device: str | None, verbatim: bool) -> Checkpoint:
    from safetensors.torch import load_file

    config["settings"]["backbone"]["device"] = device or "auto"
    settings = read_settings(config["settings"])
    memory = load_file(folder / "memory.safetensors")
    documents: Sequence[Document] = StoredDocuments(folder / "documents.jsonl", memory["content_hash"])
    if len(documents) <= _READ_AT_ONCE:
        documents = documents[:]
    backbone = load_backbone(settings.backbone, folder, verbatim=verbatim)
    model = create_memory(backbone, settings, len(documents))
    load_heads(model, load_file(folder / "heads.safetensors"))
    model.restore_memory(memory)
    backbone.merge()
    origin = None
    if "writing" in config:
        skill, writing = config["skill"], read_writing(config["writing"])
        origin = Origin(skill["id"], skill["digest"], writing, memory["studied_hash"])
    return Checkpoint(config["checkpoint_id"], folder, model.eval(), documents, settings, config, origin)


def hash_rows(hashes: Sequence[str]) -> torch.Tensor:
    """SHA-256 digests in hexadecimal as bytes [N, 32]."""
    data = bytearray.fromhex("".join(hashes))
    return (
        torch.frombuffer(data, dtype=torch.uint8).reshape(-1, _HASH_BYTES)
        if data
        else torch.zeros(0, _HASH_BYTES, dtype=torch.uint8)
    )


def row_hashes(rows: torch.Tensor) -> list[str]:
    """The other way round."""
    data = rows.numpy().tobytes()
    return [data[at : at + _HASH_BYTES].hex() for at in range(0, len(data), _HASH_BYTES)]


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


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is damaged ({str(error).splitlines()[0]})",
        where=str(folder),
        remedy="restore the folder, or remove it and train again",
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
