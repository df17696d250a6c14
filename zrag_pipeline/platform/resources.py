"""Resources by the names that assets ask for."""

from __future__ import annotations

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import Platform
from zrag_pipeline.platform.handle_store import handle_io_manager
from zrag_pipeline.platform.settings_resource import settings_resource
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

# Neither opens or imports anything yet: an unusable data folder is preflight's to report.
_WAREHOUSE = dg.ResourceDefinition(
    lambda _: Warehouse(paths.data_path() / paths.WAREHOUSE), description="The DuckDB warehouse in the data folder."
)
_TRACKING = dg.ResourceDefinition(
    lambda _: Tracking(paths.data_path()), description="The MLflow experiment in the data folder."
)


@dg.resource(
    required_resource_keys={"settings", "warehouse", "tracking"},
    description="Settings, warehouse and experiment in one hand: what assets work with.",
)
def platform_resource(context: dg.InitResourceContext) -> Platform:
    """Bundle them; the settings are checked when an asset first looks at them."""
    own = context.resources
    return Platform(own.settings, own.warehouse, own.tracking)


RESOURCES = {
    "platform": platform_resource,
    "settings": settings_resource,
    "warehouse": _WAREHOUSE,
    "tracking": _TRACKING,
    "io_manager": handle_io_manager,
}
