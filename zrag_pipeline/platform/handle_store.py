"""Handles (see `handles`) as JSON files, by asset and run.

Each run's handles are kept, so a run always reads what it wrote itself; a re-execution reads what the runs it goes on
from wrote, and a run of a part of the lineage reads the newest ones.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from zrag_core.errors import ZragError
from zrag_core.files import write_json_atomic
from zrag_pipeline.platform import paths

KEPT_RUNS = 50
_LATEST = "latest.json"


class HandleIOManager(dg.IOManager):
    """Stores an asset's value (a dataclass, or anything JSON) under the run's id and as the latest.

    A consumer that annotates its input with a dataclass gets that dataclass, others plain JSON.

    Args:
        folder: where to keep them; `handles/` in the data folder if left out.
    """

    def __init__(self, folder: Path | None = None):
        self._given_folder = folder

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write the value; raises ZragError if it is not JSON."""
        folder = self._folder(context)
        try:
            value = TypeAdapter(type(obj)).dump_python(obj, mode="json") if dataclasses.is_dataclass(obj) else obj
            write_json_atomic(folder / f"{context.run_id}.json", value)
            write_json_atomic(folder / _LATEST, value)
        except (TypeError, ValueError) as error:  # pydantic's errors among them
            raise ZragError(
                f"its value cannot be handed on ({error})",
                where=_name(context),
                remedy="return a dictionary or dataclass of JSON values; data belongs in the warehouse or a folder",
            ) from error
        _prune(folder)

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the value of this run, else of a run that it goes on from, else the latest.

        Raises:
            ZragError: there is none, or it cannot be read.
        """
        folder = self._folder(context)
        own = (folder / f"{run_id}.json" for run_id in _runs(context))
        path = next((path for path in own if path.exists()), folder / _LATEST)
        again = f"dagster asset materialize -m zrag_pipeline.definitions --select '{_name(context)}'"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ZragError(
                f"asset '{_name(context)}' has not been materialised yet", remedy=f"materialise it first: {again}"
            ) from error
        expected = context.dagster_type.typing_type
        try:
            value = json.loads(text)
            return TypeAdapter(expected).validate_python(value) if dataclasses.is_dataclass(expected) else value
        except (json.JSONDecodeError, ValidationError) as error:
            raise ZragError(
                f"the handle of asset '{_name(context)}' is broken or of another version",
                where=str(path),
                remedy=f"materialise it again: {again}",
            ) from error

    def _folder(self, context: dg.OutputContext | dg.InputContext) -> Path:
        root = self._given_folder or paths.handles_dir()
        return root.joinpath(*_name(context).split("/"))


T = TypeVar("T")


def stored_handle(asset: str, kind: type[T], run_id: str | None = None) -> T | None:
    """Return the handle that a run wrote for an asset, or the newest one; None where there is none of this form."""
    path = paths.data_path().joinpath("handles", asset, _LATEST if run_id is None else f"{run_id}.json")
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError):  # not made yet, pruned, or written by another version
        return None


@dg.io_manager(description=HandleIOManager.__doc__)
def handle_io_manager(context: dg.InitResourceContext) -> HandleIOManager:
    """Keep handles in the data folder."""
    return HandleIOManager()


def _name(context: dg.OutputContext | dg.InputContext) -> str:
    """Return the asset's key, or step and output for plain ops."""
    if context.has_asset_key:
        return context.asset_key.to_user_string()
    output = context if isinstance(context, dg.OutputContext) else context.upstream_output
    return "ops" if output is None else f"ops/{output.step_key}/{output.name}"


def _runs(context: dg.InputContext) -> Iterator[str]:
    """Ids of the runs whose values belong to this one, nearest first.

    A re-execution has an id of its own and repeats only some steps; what it leaves out was written by
    the run that Dagster names as the output's, or by an earlier ancestor.
    """
    run: dg.DagsterRun | None = context.step_context.dagster_run
    yield context.step_context.run_id
    if context.upstream_output is not None:
        yield context.upstream_output.run_id
    while run is not None and run.parent_run_id is not None:
        yield run.parent_run_id
        run = context.instance.get_run_by_id(run.parent_run_id)


def _prune(folder: Path) -> None:
    runs = [path for path in folder.glob("*.json") if path.name != _LATEST]
    with contextlib.suppress(FileNotFoundError):  # another run prunes at the same time
        runs.sort(key=lambda path: path.stat().st_mtime)
        for path in runs[:-KEPT_RUNS]:
            path.unlink()
