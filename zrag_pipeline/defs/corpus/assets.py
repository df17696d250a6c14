"""Corpus: preflight, the observed source, and the documents and questions read from it."""

import warnings

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import (
    OWNERS,
    PlatformParam,
    SettingsParam,
    lineage_asset,
    link,
    table_metadata,
)
from zrag_pipeline.platform.handles import CorpusHandle
from zrag_pipeline.platform.markdown_text import markdown_text

GROUP = "corpus"

# Observable source assets and data versions are the documented ways to say which data an asset was made from.
warnings.filterwarnings("ignore", message=".*(observable_source_asset|data_version).*", category=dg.BetaWarning)


@lineage_asset(
    GROUP,
    "python",
    description="Checks settings, files, disk, GPU and keys, and reports every problem at once before anything "
    "expensive starts.",
)
def preflight(context: dg.AssetExecutionContext, settings: SettingsParam) -> None:
    """Fail with the list of all problems, or pass."""
    import os

    from zrag_core.errors import ProblemList
    from zrag_core.model.architecture.backbone_choice import calibration_warning, choose_backbone
    from zrag_pipeline.defs.corpus.preflight import find_problems
    from zrag_pipeline.defs.corpus.state import observation, readable_fingerprint
    from zrag_pipeline.platform.run_processes import process_tags

    # Should the process be killed, the sensor and `zrag remove --purge` can tell.
    context.instance.add_run_tags(context.run_id, process_tags(context.run_id))
    if not os.environ.get("DAGSTER_HOME"):
        context.log.warning("DAGSTER_HOME is not set: this run is not kept and the UI will not show it")
    problems = find_problems(settings)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ProblemList(f"the run cannot start: {count}", problems, limit=50)
    given = settings.load()
    chosen, choice = choose_backbone(given)
    context.log.info("settings, files, disk and keys are fine" + (f"; {choice}" if choice else ""))
    if warning := calibration_warning(chosen):
        context.log.warning(warning)
    if dg.AssetKey("documents") in context.job_def.asset_layer.executable_asset_keys:
        content = readable_fingerprint(given.corpus)
        if content is not None:
            # The documents that are read after this are recorded as made from this content.
            context.log_event(observation(content))


@dg.observable_source_asset(
    group_name=GROUP,
    description="The raw corpus where it lies (a folder, a file, a data set, or the built-in almanac generator). "
    "Observing it hashes its content and the changes made by command, so that everything made from it shows as stale "
    "when they change.",
)
def raw_corpus(settings: SettingsParam) -> dg.DataVersion:
    """Data version: a hash of the source's bytes, and of what `zrag add` and `zrag remove` changed."""
    from zrag_pipeline.defs.corpus.state import corpus_fingerprint

    return dg.DataVersion(corpus_fingerprint(settings.load().corpus))


@dg.multi_asset(
    name="read_corpus",
    group_name=GROUP,
    outs={
        "documents": dg.AssetOut(
            owners=OWNERS,
            kinds={"duckdb", "python"},
            code_version="1",
            description="One row for each passage: table `documents`, under the corpus version that "
            "fingerprints their content.",
        ),
        "questions": dg.AssetOut(
            owners=OWNERS,
            kinds={"duckdb", "python"},
            code_version="1",
            description="Questions with golden answers, gold documents, split and type: table `questions`.",
        ),
    },
    deps=[preflight, raw_corpus],
)
def read_corpus_assets(
    context: dg.AssetExecutionContext,
    platform: PlatformParam,
):
    """Read, check, cut into passages, split, and store the corpus."""
    from dataclasses import replace

    from zrag_core.corpus.overlay import apply_overlay, load_overlay
    from zrag_core.corpus.read import read_corpus, with_facts_apart
    from zrag_core.corpus.source import corpus_key
    from zrag_core.corpus.version import corpus_version, questions_version
    from zrag_pipeline.defs.corpus.frames import corpus_frames
    from zrag_pipeline.defs.corpus.state import read_tags, readable_fingerprint

    settings = platform.settings
    with platform.tracked(context, "corpus", name="documents") as run:
        before = readable_fingerprint(settings.corpus)
        corpus = replace(read_corpus(settings.corpus), name=corpus_key(settings.corpus))
        changed = apply_overlay(corpus, load_overlay(paths.overlay_dir(corpus.name)))
        corpus = corpus if changed is corpus else with_facts_apart(changed, corpus)
        # The sensor learns from the tags of runs which content has arrived.
        context.instance.add_run_tags(context.run_id, read_tags(settings.corpus, before))
        version = corpus_version(corpus.documents)
        run.set_tags({"zrag.corpus_version": version})
        for note in corpus.notes:
            context.log.info(note)
        platform.warehouse.save_corpus(version, corpus)
        documents, questions = corpus_frames(corpus)
        splits = questions.groupby("split").size().to_dict()
        source = settings.corpus.location or settings.corpus.format
        sizes = {"documents": len(documents), "questions": len(questions)}
        run.log_dataset(corpus.name, version, {**sizes, "splits": splits}, source=source)
        by_split = {f"questions_{split}": n for split, n in splits.items()}
        run.log_metrics({**sizes, "document_tokens_mean": float(documents["n_tokens"].mean()), **by_split})
    handle = CorpusHandle(version, questions_version(corpus.questions), corpus.name, source)
    notes = dg.MetadataValue.md(
        "\n".join(f"- {markdown_text(note)}" for note in corpus.notes) or "nothing was left out"
    )
    common = {"corpus_version": version, "notes": notes, **link(run)}
    yield dg.Output(
        handle,
        "documents",
        metadata={**table_metadata(documents), "tokens": int(documents["n_tokens"].sum()), **common},
        data_version=dg.DataVersion(version),
    )
    yield dg.Output(
        handle,
        "questions",
        metadata={**table_metadata(questions), **{f"split: {k}": int(v) for k, v in splits.items()}, **common},
        data_version=dg.DataVersion(handle.questions_version),
    )


ASSETS = [preflight, raw_corpus, read_corpus_assets]
