"""Jobs: parts of the lineage that are run by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import UPDATE_TAG

_LINEAGE = dg.AssetSelection.groups("corpus", "evidence", "model", "baselines", "evaluation", "answers")


def run_config(name: str | Path) -> dict[str, Any]:
    """A run configuration from `dagster_home/configs/` (by file name), or from a path."""
    with (paths.CONFIGS / name).open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def own_config(location: str, name: str, backbone: str | None = None) -> dict[str, Any]:
    """`own.yaml` for the documents at a location, whose memory has this name."""
    config = run_config("own.yaml")
    settings = config["resources"]["settings"]["config"]
    settings["corpus"] |= {"location": location, "name": name}
    if backbone:
        settings["backbone"]["name"] = backbone
    return config


demo = dg.define_asset_job(
    "demo",
    _LINEAGE,
    config=run_config("demo.yaml"),
    description="The whole lineage on the built-in almanac: CPU, no network, no key, never spends money.",
)
full = dg.define_asset_job("full", _LINEAGE, description="The whole lineage, corpus to scored answers.")
train = dg.define_asset_job(
    "train",
    dg.AssetSelection.groups("corpus", "evidence", "model"),
    description="Corpus, evidence targets and the checkpoint.",
)
update_memory = dg.define_asset_job(
    "update_memory",
    dg.AssetSelection.groups("corpus", "evidence", "model"),
    tags={UPDATE_TAG: "true"},
    description="Brings the memory up to the corpus as it is now: writes what is new or changed, deletes what is gone, "
    "leaves the rest as it is, proves it, and compares the new checkpoint with the champion.",
)
ingest = dg.define_asset_job(
    "ingest",
    dg.AssetSelection.groups("corpus", "evidence", "model"),
    tags={UPDATE_TAG: "true"},
    config=run_config("own.yaml"),
    description="A memory of your own documents, the one that is asked from then on: reads what is new or changed in "
    "$ZRAG_CORPUS, writes it, checks it and makes it the champion. `zrag ingest FOLDER` does the same.",
)
evaluate = dg.define_asset_job(
    "evaluate",
    dg.AssetSelection.groups("baselines", "evaluation") | dg.AssetSelection.assets("preflight"),
    description="Baselines and evaluation on the newest checkpoint and corpus.",
)
answers = dg.define_asset_job(
    "answers",
    dg.AssetSelection.groups("answers") | dg.AssetSelection.assets("preflight"),
    description="Answers and their scores from the newest evidence; costs money where a model is configured.",
)
pretrain_tiny = dg.define_asset_job(
    "pretrain_tiny",
    dg.AssetSelection.assets("preflight", "skill"),
    config=run_config("pretrain_tiny.yaml"),
    description="The skill of zrag-tiny from random weights: hours on a CPU, minutes on a GPU; resumes where it was.",
)
pretrain_smollm2 = dg.define_asset_job(
    "pretrain_smollm2",
    dg.AssetSelection.assets("preflight", "skill"),
    config=run_config("pretrain_smollm2.yaml"),
    description="The skill of SmolLM2-135M on prose: hours on a CPU, minutes on a GPU; every stage resumes.",
)
pretrain_gemma3 = dg.define_asset_job(
    "pretrain_gemma3",
    dg.AssetSelection.assets("preflight", "skill"),
    config=run_config("pretrain_gemma3.yaml"),
    description="The skill of Gemma 3 270M for Korean: hours on a CPU, minutes on a GPU; every stage resumes.",
)
benchmark = dg.define_asset_job(
    "benchmark",
    dg.AssetSelection.assets("preflight", "skill", "scale_benchmark", "training_benchmark"),
    config=run_config("benchmark.yaml"),
    description="What a question costs from 1,000 to 1,000,000 documents, beside BM25 and Faiss, and training beside "
    "the naive recipe: table `benchmarks`.",
)

benchmark_routing = dg.define_asset_job(
    "benchmark_routing",
    dg.AssetSelection.groups("corpus", "evidence") | dg.AssetSelection.assets("routing_benchmark"),
    description="Routing by the memory, untrained and trained, against BM25: table `benchmarks`.",
)

benchmark_memory = dg.define_asset_job(
    "benchmark_memory",
    dg.AssetSelection.assets("preflight", "skill", "memory_benchmark"),
    config=run_config("benchmark_memory.yaml"),
    description="The separated memory on fresh almanacs, mean and worst over seeds: table `benchmarks`.",
)

benchmark_update = dg.define_asset_job(
    "benchmark_update",
    dg.AssetSelection.assets("preflight", "skill", "update_benchmark"),
    config=run_config("benchmark_update.yaml"),
    description="Adding to and removing from a memory, beside writing it afresh: table `benchmarks`.",
)

benchmark_codec = dg.define_asset_job(
    "benchmark_codec",
    dg.AssetSelection.assets("preflight", "skill", "codec_benchmark"),
    description="Coverage by bytes per document, for slots of other strides and widths: table `benchmarks`.",
)

benchmark_client = dg.define_asset_job(
    "benchmark_client",
    dg.AssetSelection.assets("preflight", "client_benchmark"),
    description="What the answer client costs per request, at a server that answers at once: table `benchmarks`.",
)

JOBS = [
    demo,
    full,
    train,
    update_memory,
    ingest,
    evaluate,
    answers,
    pretrain_tiny,
    pretrain_smollm2,
    pretrain_gemma3,
    benchmark,
    benchmark_routing,
    benchmark_memory,
    benchmark_update,
    benchmark_codec,
    benchmark_client,
]
