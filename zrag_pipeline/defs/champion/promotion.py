"""Champion and challenger: whether a new checkpoint becomes the one that people ask, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.corpus.overlay import apply_overlay, load_overlay
from zrag_core.corpus.types import Corpus
from zrag_core.errors import CheckpointError
from zrag_core.model.checks.catalog import threshold_of
from zrag_core.model.store.checkpoint import read_config
from zrag_core.settings import Settings, load_settings
from zrag_pipeline.defs.champion.corpus_changes import one_at_a_time
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import (
    Champion,
    now,
    read_champion,
    read_champions,
    rejected_checkpoints,
    write_champion,
    write_champions,
)
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.registry import write_decoding
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

if TYPE_CHECKING:
    from zrag_core.model.checks.challenge import NonInferiority

MODEL = "zrag"
ALIAS = "champion"
NOTHING_COMPARED = "none"
_QUESTIONS = 200


@dataclass(frozen=True)
class Decision:
    """What was decided about a checkpoint.

    Attributes:
        champion_id: the champion before; None where there was none.
        promoted: whether the checkpoint is the champion now.
        reason: in one line of plain words.
        results: how it compares with the champion; empty where nothing could be compared.
        failed_checks: names of the memory checks that it fails.
    """

    checkpoint_id: str
    champion_id: str | None
    promoted: bool
    reason: str
    results: tuple[NonInferiority, ...] = ()
    failed_checks: tuple[str, ...] = ()


def decide(
    made: CheckpointReference,
    failed_checks: Sequence[str],
    corpus: Corpus,
    settings: Settings,
    log: Callable[[str], None],
) -> Decision:
    """Compare a checkpoint with the champion.

    It is to become the champion where no memory check fails and, on the held-out questions that both memories can
    answer, the lower bound of the difference in coverage lies above minus `updates.non_inferiority`, verbatim and in
    the model's own words. Without a champion, or without such questions (another corpus), the checks decide alone.

    Args:
        failed_checks: names of the checks that the checkpoint fails.
        corpus: its corpus.
    """
    checkpoint_id, failed = made.checkpoint_id, tuple(dict.fromkeys(failed_checks))
    champion = _present_champion(log)
    before = None if champion is None else champion.checkpoint_id
    if before == checkpoint_id:
        reason = "it is the champion already"
        if failed:
            reason += f", but memory checks fail: {', '.join(failed)}; `zrag rollback` takes it back"
        return Decision(checkpoint_id, before, True, reason, failed_checks=failed)
    if checkpoint_id in rejected_checkpoints():
        reason = f"it was rolled back; `zrag promote {checkpoint_id}` makes it the champion again"
        return Decision(checkpoint_id, before, False, reason, failed_checks=failed)
    if failed:
        return Decision(checkpoint_id, before, False, f"memory checks fail: {', '.join(failed)}", failed_checks=failed)
    if champion is None:
        return Decision(checkpoint_id, None, True, "the first one, and no memory check fails")
    results = _challenge(made, champion, corpus, settings)
    if not results:
        reason = (
            f"no memory check fails, and no held-out question can be asked of {before} (corpus {champion.corpus}) too"
        )
        return Decision(checkpoint_id, before, True, reason)
    for result in results:
        log(result.sentence())
    promoted = all(result.passed for result in results)
    reason = f"against {before}: " + "; ".join(result.sentence() for result in results)
    return Decision(checkpoint_id, before, promoted, reason, tuple(results))


def carry_out(
    decision: Decision, made: CheckpointReference, corpus: Corpus, settings: Settings, tracking: Tracking
) -> Decision:
    """Make the checkpoint the champion if that is what was decided, and nothing has happened meanwhile.

    `zrag add`, `zrag remove` and `zrag rollback` may have changed champion and corpus while the run was under way;
    what it made of the corpus before must not undo that.

    Returns:
        the decision, or that it was overtaken.
    """
    if not decision.promoted:
        return decision
    with one_at_a_time():
        champion = _present_champion()
        if (champion and champion.checkpoint_id) != decision.champion_id:
            return replace(decision, promoted=False, reason="the champion was changed by a command during this run")
        if apply_overlay(corpus, load_overlay(paths.overlay_dir(corpus.name))).documents != corpus.documents:
            reason = "documents were added or removed by a command during this run; the next one has them"
            return replace(decision, promoted=False, reason=reason)
        if champion is None or champion.checkpoint_id != decision.checkpoint_id:
            promote(made, corpus.name, settings, decision.reason, tracking, corpus)
        else:
            if not decision.failed_checks:
                write_champion(replace(champion, proven=True))
            set_alias(tracking, decision.checkpoint_id)  # made by a command, and registered by this run
            write_decoding(tracking, MODEL, champion.checkpoint_id, champion.decoding)
    return decision


def promote(
    made: CheckpointReference,
    corpus_name: str,
    settings: Settings,
    reason: str,
    tracking: Tracking,
    corpus: Corpus | None = None,
) -> Champion:
    """Make a checkpoint the champion: the pointer file first, which `zrag ask` reads, then the registry's alias.

    Args:
        settings: how it is to be read: `decoding` and `backbone.device`.
        corpus: its corpus; where refusal begins is fitted on its dev questions, unless the settings say it.
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
    )
    write_champion(champion)
    set_alias(tracking, champion.checkpoint_id)
    write_decoding(tracking, MODEL, champion.checkpoint_id, champion.decoding)
    return champion


def promote_by_hand(folder: Path, warehouse: Warehouse, tracking: Tracking) -> Champion:
    """Make the checkpoint in `folder` the champion, whatever its checks say; it is read with default decoding, or as
    when it was the champion before.

    Raises:
        CheckpointError: no checkpoint is there, or a damaged one.
    """
    config = read_config(folder)
    settings = Settings()
    known = next((item for item in read_champions() if item.checkpoint_id == config["checkpoint_id"]), None)
    if known is not None:
        settings = load_settings({"decoding": known.decoding, "backbone": {"device": known.backbone_device}})
    names = warehouse.query("SELECT name FROM corpora WHERE corpus_version = ?", [config["corpus_version"]])["name"]
    made = CheckpointReference(config["checkpoint_id"], folder, config["corpus_version"])
    return promote(made, names.iloc[0] if len(names) else "unknown", settings, "promoted by hand", tracking)


def roll_back(tracking: Tracking) -> tuple[Champion, Champion]:
    """Make the champion before the present one the champion again.

    Returns:
        the champion that was, and the one that is.

    Raises:
        CheckpointError: there is no champion, no former one, or its checkpoint is gone.
    """
    with one_at_a_time():
        champions = read_champions()
        if not champions:
            raise CheckpointError("there is no champion yet", remedy="run `make demo`, or the job `full`")
        present, *former = champions
        kept = [entry for entry in former if (entry.folder / "config.json").is_file()]
        if not kept:
            raise CheckpointError(
                f"nothing to roll back to: {present.checkpoint_id} has no predecessor whose checkpoint is still there",
                remedy="`zrag promote CHECKPOINT` makes any checkpoint the champion",
            )
        restored = replace(kept[0], promoted_at=now(), reason=f"rolled back from {present.checkpoint_id}")
        # The one that is taken back leaves the record, so that rolling back twice goes back twice, and no run may
        # bring it back.
        write_champions([restored, *kept[1:]], rejected=[present.checkpoint_id, *rejected_checkpoints()])
        set_alias(tracking, restored.checkpoint_id)
        write_decoding(tracking, MODEL, restored.checkpoint_id, restored.decoding)
    return present, restored


def set_alias(tracking: Tracking, checkpoint_id: str) -> None:
    """Point the registry's alias at the version of this checkpoint.

    What `zrag add` and `zrag remove` write has no version until the next run of the pipeline registers it; until then
    nobody has the alias, so that no other model answers in its name.
    """
    version = tracking.version_of(MODEL, checkpoint_id)
    if version is not None:
        tracking.client.set_registered_model_alias(MODEL, ALIAS, version)
    elif tracking.client.search_registered_models(f"name='{MODEL}'"):
        tracking.client.delete_registered_model_alias(MODEL, ALIAS)


def failed_checks(warehouse: Warehouse, run_ids: Sequence[str], checkpoint_id: str) -> list[str]:
    """Names of the memory checks that a checkpoint fails in some runs, those left out that only warn."""
    frame = warehouse.query(
        "SELECT DISTINCT check_name FROM memory_checks WHERE list_contains(?, run_id) AND checkpoint_id = ? "
        "AND NOT passed ORDER BY 1",
        [list(run_ids), checkpoint_id],
    )
    names = frame["check_name"].tolist()
    return [name for name in names if (threshold := threshold_of(name)) is None or threshold.gates]


def decision_rows(decision: Decision, corpus_version: str, margin: float) -> list[dict[str, Any]]:
    """Rows of the table `champion_decisions`, without the run's id."""
    common = {
        "corpus_version": corpus_version,
        "checkpoint_id": decision.checkpoint_id,
        "champion_id": decision.champion_id,
        "margin": margin,
        "failed_checks": list(decision.failed_checks),
        "promoted": decision.promoted,
        "reason": decision.reason,
    }
    if not decision.results:
        return [{**common, "system": NOTHING_COMPARED, "n_questions": 0}]
    return [
        {
            **common,
            "system": result.system,
            "n_questions": result.comparison.n_questions,
            "difference": result.comparison.difference / 100,
            "low": result.comparison.low / 100,
            "high": result.comparison.high / 100,
            "not_inferior": result.passed,
        }
        for result in decision.results
    ]


def _present_champion(log: Callable[[str], None] | None = None) -> Champion | None:
    """The champion; None where there is none, or its folder is gone, so that it cannot be compared with."""
    try:
        return read_champion()
    except CheckpointError as error:
        if log:
            log(str(error))
        return None


def _least_confidence(folder: Path, corpus: Corpus, settings: Settings) -> float:
    """Where the memory begins to refuse; 0, which leaves it to who asks, where no dev question tells."""
    from zrag_core.memory import Memory, fit_least_confidence

    memory = Memory.open(folder, decoding=settings.decoding, device=settings.backbone.device)
    dev = [question for question in corpus.questions if question.split == "dev"][:_QUESTIONS]
    return fit_least_confidence(memory, dev) or 0.0


def _challenge(
    made: CheckpointReference, champion: Champion, corpus: Corpus, settings: Settings
) -> list[NonInferiority]:
    from zrag_core.model.checks.challenge import challenge, shared_questions
    from zrag_core.model.store.checkpoint import load_checkpoint

    device = settings.backbone.device
    challenger = load_checkpoint(made.folder, device=device)
    present = load_checkpoint(champion.folder, device=device)
    limit = min(_QUESTIONS, settings.evaluation.limit_questions or _QUESTIONS)
    questions = shared_questions(challenger, present, corpus.questions, limit)
    if not questions:
        return []
    return challenge(
        challenger,
        present,
        questions,
        settings.decoding,
        budget=min(settings.evaluation.budgets),
        margin=100 * settings.updates.non_inferiority,
        confidence=settings.evaluation.confidence,
        threads=settings.backbone.threads,
    )
