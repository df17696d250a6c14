"""Benchmarks: figures that are written down, not tested."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from zrag_pipeline.platform.asset_helpers import PlatformParam, image, lineage_asset, link, table_metadata
from zrag_pipeline.platform.handles import CorpusHandle, SkillHandle

if TYPE_CHECKING:
    from zrag_pipeline.defs.benchmarks.measurement import Measurement

GROUP = "benchmarks"
_ALMANACS = ("separated", "writing", "decoding", "benchmark")  # settings that tell one run from another


def _record(
    context: dg.AssetExecutionContext,
    platform: PlatformParam,
    measure: Callable[[], "Measurement"],
    *sections: str,
    corpus_version: str | None = None,
) -> dg.MaterializeResult:
    """Measure, and write the figures into the table `benchmarks`, MLflow and the log."""
    run_id = context.run.run_id
    benchmark = context.asset_key.to_user_string().removesuffix("_benchmark")
    with platform.tracked(context, *sections, corpus_version=corpus_version) as run:
        found = measure()
        run.log_params(dict(found.params))
        run.log_metrics(dict(found.metrics))
        for name, table in found.tables.items():
            run.log_table(table, name)
        for name, plot in found.plots.items():
            run.log_figure(plot, name)
    context.log.info("\n" + found.shown.to_string(index=False, float_format="{:.3f}".format))
    rows = found.rows.assign(run_id=run_id, benchmark=benchmark)
    platform.warehouse.replace_rows("benchmarks", rows, {"run_id": run_id, "benchmark": benchmark})
    plots = {name: image(plot, name) for name, plot in found.plots.items()}
    return dg.MaterializeResult(metadata={**table_metadata(found.shown), **plots, **link(run)})


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    deps=["evidence_audit"],
    description="Recall of the memory's router on held-out questions, untrained and trained on the corpus' own "
    "training questions, beside BM25 on the same questions: table `benchmarks`.",
)
def routing_benchmark(
    context: dg.AssetExecutionContext,
    evidence_targets: CorpusHandle,
    platform: PlatformParam,
):
    """Train the router alone (evidence and reconstruction losses off) and measure it."""
    from zrag_pipeline.defs.benchmarks.routing_quality import measure_routing

    def measure() -> "Measurement":
        return measure_routing(platform.settings, platform.warehouse, version, context.log.info)

    version = evidence_targets.corpus_version
    return _record(context, platform, measure, "corpus", "joint", "evaluation", corpus_version=version)


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    description="The separated memory on fresh almanacs (`benchmark.seeds`, sizes and languages): routing, coverage by "
    "budget, constrained and free, refusal, two-hop questions, shuffled slots, speed of writing, beside "
    "`bm25_sentence`: table `benchmarks`.",
)
def memory_benchmark(
    context: dg.AssetExecutionContext,
    skill: SkillHandle,
    platform: PlatformParam,
):
    """Write and question every almanac with the skill, theta frozen."""
    from zrag_pipeline.defs.benchmarks.memory_quality import measure_memory

    def measure() -> "Measurement":
        return measure_memory(platform.settings, skill.required().folder, context.log.info)

    return _record(context, platform, measure, *_ALMANACS)


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    description="Documents added to a memory and removed from it (`benchmark.updated` of `benchmark.documents`): "
    "seconds beside those of writing all afresh, coverage of new and old documents, and what the checks of an update "
    "find: table `benchmarks`.",
)
def update_benchmark(
    context: dg.AssetExecutionContext,
    skill: SkillHandle,
    platform: PlatformParam,
):
    """Write every almanac but its last documents, add these, and remove as many others."""
    from zrag_pipeline.defs.benchmarks.update_cost import measure_updates

    def measure() -> "Measurement":
        return measure_updates(platform.settings, skill.required(), context.log.info)

    return _record(context, platform, measure, *_ALMANACS)


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    description="What slots of other strides and widths (`benchmark.codecs`) cost on disk, and what they are worth: "
    "tokens that come back, coverage of dev questions of the corpus, verbatim and free: table `benchmarks`.",
)
def codec_benchmark(
    context: dg.AssetExecutionContext,
    skill: SkillHandle,
    platform: PlatformParam,
):
    """Train each codec on prose, write the corpus with it and ask."""
    from zrag_pipeline.defs.benchmarks.codec_price import measure_codecs

    def measure() -> "Measurement":
        return measure_codecs(platform.settings, skill.required().folder, context.log.info)

    return _record(context, platform, measure, "corpus", "codec", "benchmark")


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    description="What a question costs as the documents grow (`benchmark.sizes`): routing, whole questions, opening, "
    "memory and bytes, beside rank-bm25, bm25s, dense vectors and Faiss on the same documents: table `benchmarks`.",
)
def scale_benchmark(
    context: dg.AssetExecutionContext,
    skill: SkillHandle,
    platform: PlatformParam,
):
    """Write an almanac, repeat its rows, and time questions."""
    from zrag_pipeline.defs.benchmarks.scale import measure_scale

    def measure() -> "Measurement":
        return measure_scale(platform.settings, skill.required(), context.log.info)

    return _record(context, platform, measure, *_ALMANACS)


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    deps=["preflight"],
    description="Training a joint memory (`joint.steps`) against the naive recipe, in which all of Z stands before "
    "every question: evidence tokens a second, and largest memory of a process: table `benchmarks`.",
)
def training_benchmark(
    context: dg.AssetExecutionContext,
    platform: PlatformParam,
):
    """Train with both recipes, each in a process of its own."""
    from zrag_pipeline.defs.benchmarks.training_cost import measure_training

    def measure() -> "Measurement":
        return measure_training(platform.settings, context.log.info)

    return _record(context, platform, measure, "backbone", "joint", "benchmark")


@lineage_asset(
    GROUP,
    "openai",
    "duckdb",
    deps=["preflight"],
    description="What the answer client costs for each request, wall time and CPU time, at a server on loopback that "
    "answers at once: table `benchmarks`.",
)
def client_benchmark(
    context: dg.AssetExecutionContext,
    platform: PlatformParam,
):
    """Ask the server questions, one after the other and sixteen at once."""
    from zrag_pipeline.defs.benchmarks.client_cost import REQUESTS, measure_client

    return _record(context, platform, lambda: measure_client(REQUESTS))


ASSETS = [
    routing_benchmark,
    memory_benchmark,
    update_benchmark,
    codec_benchmark,
    scale_benchmark,
    training_benchmark,
    client_benchmark,
]
