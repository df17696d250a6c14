"""Baselines: the indexes of the retrieval systems that the memory is measured against."""

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link
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
    platform: PlatformParam,
):
    """Build and store both indexes; only where a system of the run reads them."""
    from zrag_core.baselines.bm25 import Bm25Index
    from zrag_core.systems import indexes_read

    settings = platform.settings
    version = documents.corpus_version
    if "bm25" not in indexes_read(settings):
        return _left_out(context, version)
    folders, numbers = {}, {}
    with platform.tracked(context, "baselines", corpus_version=version) as run:
        corpus = platform.warehouse.load_corpus(version)
        for unit in ("passage", "sentence"):
            index = Bm25Index.build(corpus.documents, settings.baselines, unit=unit, corpus_version=version)
            folder = paths.indexes_dir() / version / f"bm25-{unit}"
            index.save(folder)
            folders[unit] = folder
            numbers[f"{unit}s"] = len(index.pieces)
        run.log_metrics(numbers)
    params = {"bm25_k1": settings.baselines.bm25_k1, "bm25_b": settings.baselines.bm25_b}
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
    platform: PlatformParam,
):
    """Encode and store the passages; only where a system of the run reads them."""
    from zrag_core.baselines.dense import DenseIndex
    from zrag_core.systems import indexes_read

    settings = platform.settings
    version = documents.corpus_version
    if "dense" not in indexes_read(settings):
        return _left_out(context, version)
    with platform.tracked(context, "baselines", corpus_version=version) as run:
        corpus = platform.warehouse.load_corpus(version)
        ledger = platform.ledger(context)
        index = DenseIndex.build(corpus.documents, settings.baselines, corpus_version=version, ledger=ledger)
        folder = paths.indexes_dir() / version / "dense"
        index.save(folder)
        numbers = {"passages": int(index.vectors.shape[0]), "dimensions": int(index.vectors.shape[1])}
        run.log_metrics(numbers)
    params = {"dense_encoder": settings.baselines.dense_encoder, "dense_dimensions": numbers["dimensions"]}
    return dg.MaterializeResult(
        value=IndexHandle(version, {"passage": folder}, params),
        metadata={
            "corpus_version": version,
            "encoder": settings.baselines.dense_encoder,
            "folder": dg.MetadataValue.path(str(folder)),
            **numbers,
            **link(run),
        },
    )


def _left_out(context: dg.AssetExecutionContext, version: str) -> dg.MaterializeResult:
    reason = "not built: no system of this run reads it"
    context.log.info(reason)
    return dg.MaterializeResult(value=IndexHandle(version, left_out=reason), metadata={"left_out": reason})


ASSETS = [bm25_index, dense_index]
