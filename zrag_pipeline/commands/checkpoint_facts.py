"""What is on record about a checkpoint: its documents, and how it did in its checks."""

from __future__ import annotations

from pathlib import Path

from zrag_core.errors import CheckpointError, WarehouseError
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.checkpoint_documents import FILE, checkpoint_backbone
from zrag_pipeline.platform.warehouse import Warehouse

_WAIT_S = 5.0  # for a run that writes
GONE = "its checkpoint is gone"


def contents(folder: Path) -> tuple[int, str]:
    """How many documents a checkpoint holds, and its LLM; 0 and `GONE` where it cannot be read."""
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            return sum(1 for _ in file), checkpoint_backbone(folder)
    except (OSError, ValueError, CheckpointError):
        return 0, GONE


def warehouse_on_record() -> Warehouse | None:
    """The warehouse, where there is one; none is made."""
    return Warehouse(paths.warehouse_path(), timeout_s=_WAIT_S) if paths.warehouse_path().is_file() else None


def checks_of(warehouse: Warehouse, checkpoint_id: str) -> dict[str, tuple[float, bool]]:
    """The newest figure of each memory check that is judged, and whether it passed; empty while a run is writing."""
    try:
        found = warehouse.query(
            "SELECT check_name, arg_max(value, created_at) AS value, arg_max(passed, created_at) AS passed "
            "FROM memory_checks WHERE checkpoint_id = ? AND passed IS NOT NULL GROUP BY 1 ORDER BY min(created_at), 1",
            [checkpoint_id],
        )
    except WarehouseError:
        return {}
    return {row.check_name: (float(row.value), bool(row.passed)) for row in found.itertuples()}


def corpus_names(warehouse: Warehouse) -> dict[str, str]:
    """Names of corpora by version; empty while a run is writing."""
    try:
        found = warehouse.query("SELECT corpus_version, name FROM corpora")
    except WarehouseError:
        return {}
    return dict(zip(found["corpus_version"], found["name"], strict=True))
