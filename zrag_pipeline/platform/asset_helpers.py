"""What every asset shares: its header, its resources, its MLflow run and its metadata."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from zrag_core.settings import Settings
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.markdown_text import markdown_text
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import TrackedRun, Tracking, dagster_tags
from zrag_pipeline.platform.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas

    from zrag_core.answering.ledger import SpendingLedger

OWNERS = ["team:zrag"]
UPDATE_TAG = "zrag.update"
"""Tag of runs that update the memory instead of making everything afresh."""


def lineage_asset(group: str, *kinds: str, code_version: str = "1", **options: Any) -> Any:
    """An asset of a group of the lineage: `dg.asset` with what all of them have in common."""
    return dg.asset(group_name=group, owners=OWNERS, kinds=set(kinds), code_version=code_version, **options)


@dataclass(frozen=True)
class Platform:
    """What an asset works with: the run's settings, the warehouse, and the MLflow experiment."""

    given: SettingsHandle
    warehouse: Warehouse
    tracking: Tracking

    @cached_property
    def settings(self) -> Settings:
        """The settings, checked, with a backbone chosen where none is named.

        Raises:
            SettingsError: one problem; ProblemList: several, all of them at once.
        """
        from zrag_core.model.architecture.backbone_choice import choose_backbone

        return choose_backbone(self.given.load())[0]

    def ledger(self, context: dg.AssetExecutionContext) -> SpendingLedger:
        """What this asset may still spend: `answers.max_cost_usd` holds for the whole run, over all its assets."""
        from zrag_core.answering.ledger import SpendingLedger
        from zrag_core.answering.spending_account import SpendingAccount

        account = SpendingAccount(paths.spending_file(), context.run.run_id, context.asset_key.to_user_string())
        return SpendingLedger(self.settings.answers.max_cost_usd, account)

    @contextlib.contextmanager
    def tracked(
        self,
        context: dg.AssetExecutionContext,
        *sections: str,
        corpus_version: str | None = None,
        name: str | None = None,
    ) -> Iterator[TrackedRun]:
        """One MLflow run for this materialisation, with the settings it depends on as parameters.

        Args:
            sections: names of the settings sections that matter to this asset.
            name: the run's name; the asset's by default.
        """
        asset = name or context.asset_key.to_user_string()
        params = {section: getattr(self.settings, section).model_dump(mode="json") for section in sections}
        tags = dagster_tags(context, corpus_version)
        with self.tracking.run(asset, asset=asset, context_tags=tags, params=params) as run:
            yield run


SettingsParam = dg.ResourceParam[SettingsHandle]
PlatformParam = dg.ResourceParam[Platform]


def is_update(context: dg.AssetExecutionContext) -> bool:
    """Whether this run is one of the job `update_memory` (or goes on from one)."""
    return UPDATE_TAG in context.run.tags


def preview(frame: pandas.DataFrame, rows: int = 10, width: int = 160) -> dg.MarkdownMetadataValue:
    """The first rows of a table as Markdown, long texts shortened."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}".rstrip("0").rstrip(".")
        text = ", ".join(map(str, value)) if not isinstance(value, str) and hasattr(value, "__iter__") else str(value)
        return markdown_text(text if len(text) <= width else f"{text[: width - 1]}…")

    head = frame.head(rows)
    lines = ["| " + " | ".join(map(str, head.columns)) + " |", "|" + "---|" * len(head.columns)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in head.itertuples(index=False)]
    return dg.MetadataValue.md("\n".join(lines))


def table_metadata(frame: pandas.DataFrame, rows: int | None = None) -> dict[str, Any]:
    """Row count, column schema and a preview, under the names that Dagster's UI knows."""
    schema = dg.TableSchema(columns=[dg.TableColumn(str(column), str(dtype)) for column, dtype in frame.dtypes.items()])
    return {
        "dagster/row_count": len(frame) if rows is None else rows,
        "dagster/column_schema": schema,
        "preview": preview(frame),
    }


def link(run: TrackedRun) -> dict[str, Any]:
    """Metadata that leads to the MLflow run."""
    return {"mlflow": dg.MetadataValue.url(run.url)}


def image(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A PNG inside Markdown metadata."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")
