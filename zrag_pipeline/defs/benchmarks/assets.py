"""Benchmarks: figures that are written down, not tested."""

import dagster as dg

from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, table_metadata
from zrag_pipeline.platform.handles import CorpusHandle, SkillHandle

GROUP = "benchmarks"


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
    from zrag_pipeline.defs.benchmarks.routing_quality import measure_routing, rows_for_warehouse

    settings = platform.settings
    version, run_id = evidence_targets.corpus_version, context.run.run_id
    with platform.tracked(context, "corpus", "joint", "evaluation", corpus_version=version) as run:
        frame = measure_routing(settings, platform.warehouse, version, context.log.info)
        for row in frame.to_dict("records"):
            run.log_metrics({f"{row['system']}/{row['metric']}": row["value"]})
        run.log_table(frame, "routing")
    rows = rows_for_warehouse(frame, run_id, version)
    platform.warehouse.replace_rows("benchmarks", rows, {"run_id": run_id, "benchmark": "routing"})
    return dg.MaterializeResult(metadata={**table_metadata(frame), **link(run)})


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

    from zrag_pipeline.defs.benchmarks.memory_quality import measure_memory, rows_for_warehouse, summary

    settings, run_id = platform.settings, context.run.run_id
    with platform.tracked(context, "separated", "writing", "decoding", "benchmark") as run:
        made = skill.required()
        frame = measure_memory(settings, made.folder, context.log.info)
        short = summary(frame)
        for row in short.to_dict("records"):
            name = f"{row['language']}/{row['n_documents']}/{row['system']}/{row['metric']}"
            run.log_metrics({f"{name}/{end}": row[end] for end in ("mean", "lowest", "highest")})
        run.log_table(frame, "memory_benchmark")
        run.log_table(short, "memory_benchmark_summary")
    context.log.info("\n" + short.to_string(index=False, float_format="{:.3f}".format))
    rows = rows_for_warehouse(frame, run_id)
    platform.warehouse.replace_rows("benchmarks", rows, {"run_id": run_id, "benchmark": "memory"})
    return dg.MaterializeResult(metadata={**table_metadata(short), **link(run)})


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
    from zrag_pipeline.defs.benchmarks.memory_quality import rows_for_warehouse, summary
    from zrag_pipeline.defs.benchmarks.update_cost import measure_updates

    settings, run_id = platform.settings, context.run.run_id
    with platform.tracked(context, "separated", "writing", "decoding", "benchmark") as run:
        made = skill.required()
        frame = measure_updates(settings, made, context.log.info)
        short = summary(frame)
        for row in short.to_dict("records"):
            run.log_metrics({f"{row['language']}/{row['n_documents']}/{row['system']}/{row['metric']}": row["mean"]})
        run.log_table(frame, "update_benchmark")
    context.log.info("\n" + short.to_string(index=False, float_format="{:.3f}".format))
    rows = rows_for_warehouse(frame, run_id, "update")
    platform.warehouse.replace_rows("benchmarks", rows, {"run_id": run_id, "benchmark": "update"})
    return dg.MaterializeResult(metadata={**table_metadata(short), **link(run)})


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
    from zrag_pipeline.defs.benchmarks.client_cost import REQUESTS, measure_client, rows_for_warehouse

    run_id = context.run.run_id
    with platform.tracked(
        context,
    ) as run:
        frame = measure_client(REQUESTS)
        run.log_params({"requests": REQUESTS})
        run.log_metrics({f"{row.system}/{row.metric}": row.value for row in frame.itertuples()})
    context.log.info("\n" + frame.to_string(index=False, float_format="{:.2f}".format))
    platform.warehouse.replace_rows(
        "benchmarks", rows_for_warehouse(frame, run_id), {"run_id": run_id, "benchmark": "client"}
    )
    return dg.MaterializeResult(metadata={**table_metadata(frame), **link(run)})


ASSETS = [routing_benchmark, memory_benchmark, update_benchmark, client_benchmark]
