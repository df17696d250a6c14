"""The section `backbone`."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from zrag_core.settings.section import Positive, Section, Share

AUTO = "auto"
"""The corpus' language decides; of threads: the machine."""
TINY = "zrag-tiny"
"""The embedded backbone."""
SMOLLM2 = "smollm2"
"""SmolLM2-135M-Instruct, from a package of the index."""
GEMMA3 = "gemma3"
"""Gemma 3 270M for Korean, from packages of the index."""
PACKAGED = (SMOLLM2, GEMMA3)
MOST_THREADS = 8
"""More than so many find little to do in one question to a small LLM."""


class LoraSettings(Section):
    """The adapter theta of a pretrained backbone (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Positive = Field(32, description="rank r")
    alpha: Positive = Field(64, description="scale alpha")
    dropout: Share = Field(0.05, description="dropout on the adapter's input")
    last_layers: Positive | None = Field(None, description="how many of the last layers are adapted; left out: all")
    target_modules: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), description="adapted layers")


class TinySettings(Section):
    """Architecture of the embedded backbone (a small Qwen3)."""

    hidden_size: Positive = Field(128, description="width of the hidden states")
    layers: Positive = Field(4, description="transformer layers")
    heads: Positive = Field(4, description="attention heads; half as many key/value heads")
    vocabulary: Positive = Field(2048, description="byte-level BPE tokens, learned from the corpus")


class BackboneSettings(Section):
    """The local causal LLM."""

    name: str = Field(
        "zrag-tiny",
        description="`auto` (smollm2 for English, gemma3 for Korean text, where they are installed, else zrag-tiny), "
        "`zrag-tiny`, `smollm2`, `gemma3`, or a Hugging Face name or local path of a causal LM",
    )
    quantization: Literal["none", "nf4"] = Field("none", description="nf4: 4-bit weights by bitsandbytes (QLoRA)")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where GPU or processor multiply it, else float32"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    threads: Positive | Literal["auto"] = Field(
        "auto", description=f"CPU threads; auto: OMP_NUM_THREADS, else one for each core, at most {MOST_THREADS}"
    )
    lora: LoraSettings = LoraSettings()
    tiny: TinySettings = TinySettings()

    @property
    def cpu_threads(self) -> int:
        """How many threads `threads` are on this machine."""
        return own_threads() if isinstance(self.threads, str) else self.threads


def own_threads() -> int:
    """How many threads a small LLM is computed with where nothing else is said."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    from joblib import cpu_count  # heavy; knows limits of containers and processes, and two threads of one core

    return min(int(cpu_count(only_physical_cores=True)), MOST_THREADS)
