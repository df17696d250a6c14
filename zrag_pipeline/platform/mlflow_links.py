"""Addresses of pages in the MLflow UI."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Sequence

DEFAULT_URL = "http://127.0.0.1:5000"


def ui_url() -> str:
    """Where the UI is (`$ZRAG_MLFLOW_URL`, or where `make ui` serves it), as its pages' addresses begin."""
    base = os.environ.get("ZRAG_MLFLOW_URL") or DEFAULT_URL
    return f"{base.rstrip('/')}/#"


def compare_url(experiment_id: str, run_ids: Sequence[str], metric: str | None = None) -> str:
    """The page that compares runs of one experiment.

    Args:
        metric: show the curves of this metric over its steps; left out, parameters and metrics side by side.
    """
    page: dict[str, object] = {"runs": list(run_ids), "experiments": [experiment_id]}
    if metric is not None:
        page |= {"metric": metric, "plot_metric_keys": [metric]}
    query = "&".join(f"{name}={urllib.parse.quote(json.dumps(value))}" for name, value in page.items())
    if metric is None:
        return f"{ui_url()}/compare-runs?{query}"
    return f"{ui_url()}/metric?{query}&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true"
