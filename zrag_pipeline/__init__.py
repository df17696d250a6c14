"""zRAG as a Dagster project: assets, checks, jobs, sensors, and the DuckDB and MLflow behind them."""

import os

# Read by OpenMP when torch is loaded. Waiting threads sleep instead of spinning: on a machine whose cores
# are shared with other programs, spinning made training more than twice as slow.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
