"""The DuckDB warehouse: every table and view that the pipeline fills, and safe ways to use it."""

from zrag_pipeline.platform.warehouse.database import Warehouse
from zrag_pipeline.platform.warehouse.rows import replace_rows

__all__ = ["Warehouse", "replace_rows"]
