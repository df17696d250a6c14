"""Promotion and rollback: the champion file, which `zrag ask` reads, and MLflow's registry move together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zrag_core.corpus.overlay import apply_overlay, load_overlay
from zrag_core.corpus.self_study import is_synthetic
from zrag_core.corpus.types import Corpus
from zrag_core.errors import CheckpointError, UnknownCorpusError
from zrag_core.model.store.checkpoint import read_config
from zrag_core.settings import Settings, load_settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.champion.corpus_changes import change_lock
from zrag_pipeline.defs.champion.decision import MAX_QUESTIONS, Decision, present_champion
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import (
    Champion,
    all_champions,
    now,
    read_champions,
    rejected_checkpoints,
    write_champion,
    write_champions,
)
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.model_registry import ModelRegistry
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse


def carry_out(
    decision: Decision,
    made: CheckpointReference,
    corpus: Corpus,
    settings: Settings,
    tracking: Tracking,
    *,
    default: bool = False,
) -> Decision:
    """Make the checkpoint the champion if that is what was decided, and nothing has happened meanwhile.

    `zrag add`, `zrag remove` and `zrag rollback` may have changed champion and corpus while the run was under way;
    what it made of the corpus before must not undo that.

    Args:
        default: where it is the champion, its memory is the one that is asked from now on where none is named.

    Returns:
        the decision, or that it was overtaken.
    """
    if not decision.promoted:
        return decision
    with change_lock():
        champion = present_champion(corpus.name)
        if (champion and champion.checkpoint_id) != decision.champion_id:
            return replace(decision, promoted=False, reason="the champion was changed by a command during this run")
        if apply_overlay(corpus, load_overlay(paths.overlay_dir(corpus.name))).documents != corpus.documents:
            reason = "documents were added or removed by a command during this run; the next one has them"
            return replace(decision, promoted=False, reason=reason)
        if champion is None or champion.checkpoint_id != decision.checkpoint_id:
            promote(made, corpus.name, settings, decision.reason, tracking, corpus, default=default)
        else:  # made by a command, and registered by this run
            if not decision.failed_checks:
                write_champion(replace(champion, proven=True), default=default)
            move_alias(tracking)
    return decision


def promote(
    made: CheckpointReference,
    corpus_name: str,
    settings: Settings,
    reason: str,
    tracking: Tracking,
    corpus: Corpus | None = None,
    *,
    default: bool = False,
) -> Champion:
    """Make a checkpoint the champion: the champion file first, which `zrag ask` reads, then the registry's alias.

    Args:
        settings: how it is to be read (`decoding` and `backbone.device`), and where its documents lie.
        corpus: its corpus; where refusal begins is fitted on its dev questions, unless the settings say it.
        default: its memory is the one that is asked from now on where none is named.
    """
    decoding = settings.decoding.model_dump(mode="json")
    if corpus is not None and not decoding["least_confidence"]:
        decoding["least_confidence"] = _least_confidence(made.folder, corpus, settings)
    champion = Champion(
        checkpoint_id=made.checkpoint_id,
        folder=made.folder,
        corpus_version=made.corpus_version,
        corpus=corpus_name,
        decoding=decoding,
        backbone_device=settings.backbone.device,
        promoted_at=now(),
        reason=reason,
        source=settings.corpus.location or "",
    )
    write_champion(champion, default=default)
    move_alias(tracking)
    return champion


def move_alias(tracking: Tracking) -> None:
    """Let the registry's alias follow the memory that is asked; one that is promoted beside it moves nothing."""
    asked = next(iter(read_champions()), None)
    if asked is not None:
        ModelRegistry(tracking).set_champion(asked.checkpoint_id, asked.decoding)


def promote_by_hand(folder: Path, warehouse: Warehouse, tracking: Tracking, log: Callable[[str], None]) -> Champion:
    """Make the checkpoint in `folder` the champion, whatever its checks say.

    It is read as when it was the champion before, else as the run read it that judged it, else as it was written.
    Where refusal begins is kept, or fitted as in a run.

    Raises:
        CheckpointError: no checkpoint is there, or a damaged one.
    """
    config = read_config(folder)
    made = CheckpointReference(config["checkpoint_id"], folder, config["corpus_version"])
    with change_lock():
        known = next((item for item in all_champions() if item.checkpoint_id == made.checkpoint_id), None)
        corpus = _corpus_on_record(warehouse, made.corpus_version)
        name = known.corpus if known else corpus.name if corpus else "unknown"
        present = known or next(iter(read_champions(name)), None)
        place = {"corpus": {"format": "auto", "location": present.source}} if present and present.source else {}
        settings = load_settings({**_as_evaluated(made.checkpoint_id, config, known, warehouse), **place})
        if not settings.decoding.least_confidence:
            log("fitting where refusal begins" if corpus else "its corpus is not on record, so nothing is refused yet")
        champion = promote(made, name, settings, "promoted by hand", tracking, corpus, default=True)
        if known is not None and not known.proven:
            champion = replace(champion, proven=False)
            write_champion(champion, default=True)
    return champion


def _as_evaluated(
    checkpoint_id: str, config: Mapping[str, Any], known: Champion | None, warehouse: Warehouse
) -> dict[str, Any]:
    """The sections of the settings that say how a checkpoint is read."""
    if known is not None:
        return {"decoding": known.decoding, "backbone": {"device": known.backbone_device}}
    judged = warehouse.query(
        "SELECT decoding, backbone_device FROM champion_decisions WHERE checkpoint_id = ? AND decoding IS NOT NULL "
        "ORDER BY created_at DESC LIMIT 1",
        [checkpoint_id],
    )
    if len(judged):
        return {"decoding": json.loads(judged["decoding"][0]), "backbone": {"device": judged["backbone_device"][0]}}
    stored = config["settings"]
    return {"decoding": stored["decoding"], "backbone": {"device": stored["backbone"]["device"]}}


def _corpus_on_record(warehouse: Warehouse, version: str) -> Corpus | None:
    """The corpus of a checkpoint; None where it was made elsewhere, or its corpus was removed since."""
    try:
        return warehouse.load_corpus(version)
    except UnknownCorpusError:
        return None


def roll_back(tracking: Tracking, memory: str | None = None) -> tuple[Champion, Champion]:
    """Make the champion of a memory before the present one the champion again.

    Args:
        memory: name of its corpus; left out: the default one.

    Returns:
        the champion that was, and the one that is.

    Raises:
        CheckpointError: there is no champion, no former one, or its checkpoint is gone.
    """
    if not read_champions(memory):  # before anything is made
        raise CheckpointError("there is no champion yet", remedy="run `make demo`, or the job `full`")
    with change_lock():
        present, *former = read_champions(memory)
        kept = [entry for entry in former if (entry.folder / "config.json").is_file()]
        if not kept:
            raise CheckpointError(
                f"nothing to roll back to: {present.checkpoint_id} has no predecessor whose checkpoint is still there",
                remedy="`zrag promote CHECKPOINT` makes any checkpoint the champion",
            )
        restored = replace(kept[0], promoted_at=now(), reason=f"rolled back from {present.checkpoint_id}")
        # The one that is taken back leaves the record, so that rolling back twice goes back twice, and no run may
        # bring it back.
        others = [entry for entry in all_champions() if entry.corpus != restored.corpus]
        write_champions([restored, *kept[1:], *others], rejected=[present.checkpoint_id, *rejected_checkpoints()])
        move_alias(tracking)
    return present, restored


def _least_confidence(folder: Path, corpus: Corpus, settings: Settings) -> float:
    """Where the memory begins to refuse; 0, which leaves it to who asks, where no dev question tells."""
    from zrag_core.memory import Memory, fit_least_confidence

    dev = [question for question in corpus.questions if question.split == "dev"]
    if read_config(folder)["settings"]["backbone"]["name"] != TINY:
        # Its confidence is calibrated on questions as people ask them, which self-study queries are not.
        dev = [question for question in dev if not is_synthetic(question)]
    dev = dev[: min(MAX_QUESTIONS, settings.evaluation.limit_questions or MAX_QUESTIONS)]
    if not dev:
        return 0.0
    memory = Memory.open(folder, decoding=settings.decoding, device=settings.backbone.device)
    return fit_least_confidence(memory, dev) or 0.0
