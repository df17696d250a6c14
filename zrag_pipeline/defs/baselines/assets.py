"""Baselines: the indexes of the retrieval systems that the memory is measured against."""

from typing import Any

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import OWNERS, link, tracked
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

GROUP = "baselines"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    deps=["preflight"],  # also where a job starts here
    description="BM25 over passages and over sentences (rank-bm25; words, and character bigrams for Korean).",
)
def bm25_index(
    context: dg.AssetExecutionContext,
    documents: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Build and store both indexes."""
    from zrag_core.baselines.bm25 import Bm25Index

    loaded = settings.load()
    version = documents["corpus_version"]
    folders, numbers = {}, {}
    with tracked(context, tracking, loaded, sections=["baselines"], corpus_version=version) as run:
        corpus = warehouse.load_corpus(version)
        for unit in ("passage", "sentence"):
            index = Bm25Index.build(corpus.documents, loaded.baselines, unit=unit, corpus_version=version)
            folder = paths.indexes_dir() / version / f"bm25-{unit}"
            index.save(folder)
            folders[unit] = str(folder)
            numbers[f"{unit}s"] = len(index.pieces)
        run.log_metrics(numbers)
    params = {"bm25_k1": loaded.baselines.bm25_k1, "bm25_b": loaded.baselines.bm25_b}
    return dg.MaterializeResult(
        value={"corpus_version": version, **folders, "params": params},
        metadata={
            "corpus_version": version,
            "folder": dg.MetadataValue.path(folders["passage"]),
            **numbers,
            **link(run),
        },
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "numpy"},
    code_version="1",
    deps=["preflight"],  # also where a job starts here
    description="Dense vectors of the passages, searched exactly: LSA offline, or sentence-transformers or OpenAI "
    "embeddings.",
)
def dense_index(
    context: dg.AssetExecutionContext,
    documents: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Encode and store the passages."""
    from zrag_core.baselines.dense import DenseIndex

    loaded = settings.load()
    version = documents["corpus_version"]
    with tracked(context, tracking, loaded, sections=["baselines"], corpus_version=version) as run:
        corpus = warehouse.load_corpus(version)
        index = DenseIndex.build(corpus.documents, loaded.baselines, corpus_version=version)
        folder = paths.indexes_dir() / version / "dense"
        index.save(folder)
        numbers = {"passages": int(index.vectors.shape[0]), "dimensions": int(index.vectors.shape[1])}
        run.log_metrics(numbers)
    params = {"dense_encoder": loaded.baselines.dense_encoder, "dense_dimensions": numbers["dimensions"]}
    return dg.MaterializeResult(
        value={"corpus_version": version, "folder": str(folder), "params": params},
        metadata={
            "corpus_version": version,
            "encoder": loaded.baselines.dense_encoder,
            "folder": dg.MetadataValue.path(str(folder)),
            **numbers,
            **link(run),
        },
    )


ASSETS = [bm25_index, dense_index]
