"""zRAG as a Dagster project: assets, checks, jobs, sensors, and the DuckDB and MLflow behind them."""
