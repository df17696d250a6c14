"""Indexes are built where a system of the run reads them, and nowhere else."""

import dagster as dg
import pytest

from zrag_pipeline.defs.baselines.assets import bm25_index, dense_index
from zrag_pipeline.platform.asset_helpers import Platform
from zrag_pipeline.platform.handles import CorpusHandle
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse


@pytest.mark.parametrize(
    ("asset", "systems", "memorag"),
    [
        (bm25_index, ["zrag", "dense", "closed_book"], {}),
        (dense_index, ["zrag", "bm25", "zrag_hybrid"], {}),
        (dense_index, ["memorag"], {"retriever": "bm25"}),
    ],
)
def test_an_index_that_no_system_reads_is_left_out_and_that_is_said(tmp_path, asset, systems, memorag):
    given = SettingsHandle({"evaluation": {"systems": systems}, "memorag": memorag})
    platform = Platform(given, Warehouse(tmp_path / "warehouse.duckdb"), Tracking(tmp_path))
    made = asset(dg.build_asset_context(), CorpusHandle("v", "q", "name", "source"), platform=platform)
    assert (made.value.folders, made.value.corpus_version) == ({}, "v")
    assert made.value.left_out == made.metadata["left_out"] == "not built: no system of this run reads it"
    assert list(tmp_path.iterdir()) == []
