"""Runs `zrag remove --purge`: erases a document in every store, then searches all files again.

The rows of the warehouse go last, so that a command that was killed, or whose search found something, can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from zrag_core.corpus.overlay import load_overlay, save_overlay
from zrag_core.errors import CheckpointError, CorpusError
from zrag_pipeline.defs.champion.corpus_changes import change_corpus
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import all_champions
from zrag_pipeline.platform.warehouse import Warehouse
from zrag_pipeline.purging.answer_cache import purge_answer_cache
from zrag_pipeline.purging.dagster_history import purge_dagster, refuse_running
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.folders import holds, purge_checkpoints, purge_derived, purge_leftovers, summaries
from zrag_pipeline.purging.mlflow_store import purge_mlflow
from zrag_pipeline.purging.redaction import redact
from zrag_pipeline.purging.search import Findings, search, search_file
from zrag_pipeline.purging.target import Target
from zrag_pipeline.purging.warehouse_rows import prompt_hashes, purge_warehouse, remove_leftovers

_OUT_OF_REACH = (
    "out of reach:  backups, freed blocks of the disk, copies made by hand, and what was sent to the provider of an "
    "answering model"
)


def erase(target: Target, say: Callable[[str], None]) -> bool:
    """Erase the documents everywhere and prove it; returns whether nothing is left.

    Raises:
        ZragError: a run is in progress, a store is in use, or the change cannot be recorded.
    """
    refuse_running()
    warehouse = Warehouse(paths.warehouse_file())
    with warehouse.write():
        pass  # nobody else writes: better known before anything is erased
    roots = [paths.data_dir(), paths.dagster_home_dir()]
    remove_leftovers(warehouse.path)
    stays = _remove_from_memory(target, say)
    say("erased:")
    for erased in _erase_stores(target, warehouse, roots):
        say(erased.line())
    if not stays:
        former = all_champions()
        say(f"champion:      {former[0].checkpoint_id} again" if former else "champion:      none; run the job `full`")
    findings = search(roots, target.patterns, leave_out=[warehouse.path])
    if not findings.found:
        say(purge_warehouse(warehouse.path, target).line())
        search_file(warehouse.path, target.patterns, findings)
    return _say_proof(target, findings, say)


def _erase_stores(target: Target, warehouse: Warehouse, roots: list[Path]) -> Iterator[Erasure]:
    yield purge_leftovers(roots)
    cache, asked = paths.answer_cache_file(), prompt_hashes(warehouse, target)
    yield purge_answer_cache(cache, target.patterns, asked, summaries())
    yield purge_checkpoints(target)
    known = warehouse.query("SELECT corpus_version FROM corpora")["corpus_version"]
    yield purge_derived(target, known)
    yield from purge_mlflow(target.patterns)
    yield redact("reports", target.patterns, folders=[paths.reports_dir(), paths.handles_dir()])
    yield purge_dagster(target.patterns)


def _remove_from_memory(target: Target, say: Callable[[str], None]) -> bool:
    """Record the tombstones, and make a champion without the documents; False where it has to go as a whole."""
    for corpus, removed in target.tombstones.items():
        folder = paths.overlay_dir(corpus)
        overlay = load_overlay(folder)
        changed = overlay.with_removed(removed)
        if changed != overlay:
            save_overlay(folder, changed)
    champions = all_champions()
    if not champions or not holds(champions[0].folder, target):
        return True
    champion = champions[0]
    try:
        change_corpus(
            champion,
            lambda overlay: overlay.with_removed(target.tombstones.get(champion.corpus, {})),
            reason=f"zrag remove --purge {' '.join(target.names)}",
        )
    except (CheckpointError, CorpusError) as error:
        say(f"{champion.checkpoint_id} is erased as a whole: {error.what}")
        return False
    return True


def _say_proof(target: Target, findings: Findings, say: Callable[[str], None]) -> bool:
    counted = f"searched {findings.files:,} files, {findings.tables:,} tables"
    if findings.found:
        say(f"NOT ERASED: {counted}, and something is left in {len(findings.found):,} places:")
        for line in findings.found:
            say(f"  {line}")
        say("remove these by hand and repeat the command; the warehouse keeps its rows until then")
        return False
    if target.patterns.sentences or target.patterns.titles:
        say(f"proof:         {counted}: nothing left")
    else:
        say(f"proof:         {counted}, but there is no text of its own on record to look for")
    say("the corpus:    is not touched; where it still holds the document, the tombstone keeps it out of every run")
    say(_OUT_OF_REACH)
    return True
