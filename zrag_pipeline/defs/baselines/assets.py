"""Baselines: the indexes of the retrieval systems that the memory is measured against."""

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import (
    SettingsParam,
    TrackingParam,
    WarehouseParam,
    lineage_asset,
    link,
    tracked,
)
from zrag_pipeline.platform.handles import CorpusHandle, IndexHandle

GROUP = "baselines"


@lineage_asset(
    GROUP,
    "python",
    deps=["preflight"],  # also where a job starts here
    description="BM25 over passages and over sentences (rank-bm25; words, and character bigrams for Korean).",
)
def bm25_index(
    context: dg.AssetExecutionContext,
    documents: CorpusHandle,
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
):
    """Build and store both indexes."""
    from zrag_core.baselines.bm25 import Bm25Index

    loaded = settings.load()
    version = documents.corpus_version
    folders, numbers = {}, {}
    with tracked(context, tracking, loaded, sections=["baselines"], corpus_version=version) as run:
        corpus = warehouse.load_corpus(version)
        for unit in ("passage", "sentence"):
            index = Bm25Index.build(corpus.documents, loaded.baselines, unit=unit, corpus_version=version)
            folder = paths.indexes_dir() / version / f"bm25-{unit}"
            index.save(folder)
            folders[unit] = folder
            numbers[f"{unit}s"] = len(index.pieces)
        run.log_metrics(numbers)
    params = {"bm25_k1": loaded.baselines.bm25_k1, "bm25_b": loaded.baselines.bm25_b}
    return dg.MaterializeResult(
        value=IndexHandle(version, folders, params),
        metadata={
            "corpus_version": version,
            "folder": dg.MetadataValue.path(str(folders["passage"])),
            **numbers,
            **link(run),
        },
    )


@lineage_asset(
    GROUP,
    "python",
    "numpy",
    deps=["preflight"],  # also where a job starts here
    description="Dense vectors of the passages, searched exactly: LSA offline, or sentence-transformers or OpenAI "
    "embeddings.",
)
def dense_index(
    context: dg.AssetExecutionContext,
    documents: CorpusHandle,
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
):
    """Encode and store the passages."""
    from zrag_core.baselines.dense import DenseIndex

    loaded = settings.load()
    version = documents.corpus_version
    with tracked(context, tracking, loaded, sections=["baselines"], corpus_version=version) as run:
        corpus = warehouse.load_corpus(version)
        index = DenseIndex.build(corpus.documents, loaded.baselines, corpus_version=version)
        folder = paths.indexes_dir() / version / "dense"
        index.save(folder)
        numbers = {"passages": int(index.vectors.shape[0]), "dimensions": int(index.vectors.shape[1])}
        run.log_metrics(numbers)
    params = {"dense_encoder": loaded.baselines.dense_encoder, "dense_dimensions": numbers["dimensions"]}
    return dg.MaterializeResult(
        value=IndexHandle(version, {"passage": folder}, params),
        metadata={
            "corpus_version": version,
            "encoder": loaded.baselines.dense_encoder,
            "folder": dg.MetadataValue.path(str(folder)),
            **numbers,
            **link(run),
        },
    )


ASSETS = [bm25_index, dense_index]
