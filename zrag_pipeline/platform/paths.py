"""Where the pipeline keeps its state: one data folder, and the names in it."""

from __future__ import annotations

import os
from pathlib import Path

from zrag_core.errors import ZragError

_ROOT = Path(__file__).resolve().parents[2]
# Where the code runs from a checkout; None where it was installed from a wheel.
CHECKOUT = _ROOT if (_ROOT / "dagster_home" / "dagster.yaml").exists() else None
# What `dagster_home/` ships: Dagster's own configuration, and those of the runs. A wheel brings it as package data.
SHIPPED_HOME = (CHECKOUT or _ROOT / "zrag_pipeline") / "dagster_home"
CONFIGS = SHIPPED_HOME / "configs"
WAREHOUSE = "warehouse.duckdb"
MLFLOW = "mlflow.db"


def data_dir() -> Path:
    """Return the data folder, `$ZRAG_DATA_DIR` or `data/`, creating it if need be.

    Raises:
        ZragError: it cannot be created, or is read-only.
    """
    return _writable(data_path())


def data_path() -> Path:
    """Return where the data folder is, whether or not it exists; nothing is created or checked."""
    chosen = os.environ.get("ZRAG_DATA_DIR")
    return Path(chosen).expanduser().absolute() if chosen else _own_folder() / "data"


def warehouse_file() -> Path:
    """Return the path of the DuckDB warehouse."""
    return data_dir() / WAREHOUSE


def warehouse_path() -> Path:
    """Return where the DuckDB warehouse is, whether or not it exists; nothing is created."""
    return data_path() / WAREHOUSE


def mlartifacts_dir() -> Path:
    """Return the folder of MLflow's artifacts."""
    return _writable(data_dir() / "mlartifacts")


def checkpoints_dir() -> Path:
    """Return the folder that holds one folder per model checkpoint."""
    return _writable(data_dir() / "checkpoints")


def skills_dir() -> Path:
    """Return the folder that holds one folder per trained skill."""
    return _writable(data_dir() / "skills")


def indexes_dir() -> Path:
    """Return the folder of the baselines' indexes."""
    return _writable(data_dir() / "indexes")


def memorag_dir() -> Path:
    """Return the folder of MemoRAG's memories: summaries (of all corpus versions), and a KV cache for each version."""
    return _writable(data_dir() / "memorag")


def handles_dir() -> Path:
    """Return the folder of the small values that assets hand each other."""
    return _writable(data_dir() / "handles")


def reports_dir() -> Path:
    """Return the folder of the evaluations' HTML reports."""
    return _writable(data_dir() / "reports")


def overlay_dir(corpus: str) -> Path:
    """Return the folder of the changes that commands made to the corpus of this key (not created)."""
    # A data set's name may hold a slash, and a folder's may start with a dot, as temporary folders do.
    name = corpus.replace("%", "%25").replace("/", "%2F")
    return data_path() / "corpus_changes" / (f"%2E{name[1:]}" if name.startswith(".") else name)


def report_file(corpus_version: str, evidence_run_id: str) -> Path:
    """Return the path of the HTML report of one evaluation, which its answers share."""
    return reports_dir() / f"{corpus_version}-{evidence_run_id.split('-')[0]}.html"


def newest_report() -> Path | None:
    """Return the HTML report that was written last; None before the first (nothing is created)."""
    return max((data_path() / "reports").glob("*.html"), key=lambda path: path.stat().st_mtime, default=None)


def answer_cache_file() -> Path:
    """Return the path of the SQLite cache of paid answers."""
    return data_dir() / "answer_cache.sqlite"


def spending_file() -> Path:
    """Return the path of the SQLite file of what each run has spent."""
    return data_dir() / "spending.sqlite"


def dagster_home_dir() -> Path:
    """Return Dagster's home, `$DAGSTER_HOME` or `dagster_home/` (not created)."""
    chosen = os.environ.get("DAGSTER_HOME")
    return Path(chosen).expanduser().absolute() if chosen else _own_folder() / "dagster_home"


def _own_folder() -> Path:
    """The checkout, or the current folder where there is none."""
    return CHECKOUT or Path.cwd()


def _writable(folder: Path) -> Path:
    remedy = "set ZRAG_DATA_DIR to a folder you may write to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ZragError(f"the data folder cannot be created ({reason})", where=str(folder), remedy=remedy) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ZragError("the data folder is read-only", where=str(folder), remedy=remedy)
    return folder
