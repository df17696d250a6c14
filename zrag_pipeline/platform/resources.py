"""Resources by the names that assets ask for."""

from __future__ import annotations

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handle_store import handle_io_manager
from zrag_pipeline.platform.settings_resource import settings_resource
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse


@dg.resource(description="The DuckDB warehouse in the data folder.")
def warehouse_resource(_context: dg.InitResourceContext) -> Warehouse:
    """Open nothing yet: connections are short, and an unusable data folder is preflight's to report."""
    return Warehouse(paths.data_path() / paths.WAREHOUSE)


@dg.resource(description="The MLflow experiment in the data folder.")
def tracking_resource(_context: dg.InitResourceContext) -> Tracking:
    """Import nothing yet; MLflow comes with the first run."""
    return Tracking(paths.data_path())


RESOURCES = {
    "settings": settings_resource,
    "warehouse": warehouse_resource,
    "tracking": tracking_resource,
    "io_manager": handle_io_manager,
}
