"""Shared set-up: few threads, and nothing that reaches the network or the user's own data."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DAGSTER_HOME", "ZRAG_DATA_DIR", "ZRAG_CORPUS", "ZRAG_CONFIG"):
    os.environ.pop(name, None)
