"""Makes or loads the local causal LLM: the embedded `zrag-tiny`, or any Hugging Face model with a LoRA adapter."""

from __future__ import annotations

import logging as logs
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from zrag_core.errors import SettingsError
from zrag_core.model.architecture.backbone import Backbone, hide_progress_bars
from zrag_core.model.architecture.merged_adapter import merge_adapter
from zrag_core.model.architecture.packaged_llms import location_of
from zrag_core.model.architecture.tokenizer import train_tokenizer
from zrag_core.settings import BackboneSettings
from zrag_core.settings.backbone import PACKAGED, TINY


def resolve_device(name: str) -> torch.device:
    """`auto` takes the GPU where there is one; `cuda` without a GPU is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "no CUDA device is available", where="backbone.device", remedy="set it to cpu, or run on a GPU machine"
        )
    return torch.device(name)


def create_backbone(settings: BackboneSettings, texts: Iterable[str], *, seed: int) -> Backbone:
    """Make the backbone that a training run starts from.

    Args:
        settings: which model, quantisation and adapter.
        texts: what `zrag-tiny` learns its tokenizer from; unused by pretrained models.
        seed: of the initial weights (tiny) or of the adapter.

    Raises:
        SettingsError: the model cannot be loaded; the message says what to do.
    """
    torch.manual_seed(seed)
    if settings.name == TINY:
        return _create_tiny(settings, texts)
    lm, tokenizer = _load_pretrained(settings, settings.name)
    from peft import LoraConfig, get_peft_model

    lora, depth = settings.lora, lm.config.num_hidden_layers
    config = LoraConfig(
        layers_to_transform=None if lora.last_layers is None else list(range(max(0, depth - lora.last_layers), depth)),
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        with _without_future_warnings():
            peft = get_peft_model(lm, config)
    except ValueError as error:
        raise SettingsError(str(error).splitlines()[0], where="backbone.lora.target_modules") from error
    return Backbone(peft.get_base_model(), tokenizer, peft, settings.name)


def load_backbone(
    settings: BackboneSettings, folder: Path, *, verbatim: bool = False, trainable: bool = False
) -> Backbone:
    """Load what `Backbone.save` wrote; a pretrained base model comes from where it came from before.

    Args:
        verbatim: no text is to be generated, so small LLMs that come with their weights may do without the transformers
            library.
        trainable: keep an adapter apart from the weights, so that it can be trained.
    """
    if verbatim and not trainable and (light := _load_light(settings, folder)) is not None:
        return light
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if settings.name in PACKAGED:
        lm, tokenizer = _load_pretrained(settings, settings.name)
        return _with_adapter(lm, tokenizer, settings, folder, trainable)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    if (folder / "backbone").is_dir():
        hide_progress_bars()
        # Trained as a whole, in float32: AdamW's small updates vanish in bfloat16 weights.
        dtype = torch.float32 if settings.dtype == "auto" else _dtype(settings)
        whole: Any = AutoModelForCausalLM.from_pretrained(folder / "backbone", dtype=dtype)
        return Backbone(whole.to(resolve_device(settings.device)), tokenizer, None, settings.name)
    lm, _ = _load_pretrained(settings, settings.name)
    return _with_adapter(lm, tokenizer, settings, folder, trainable)


def _load_light(settings: BackboneSettings, folder: Path) -> Backbone | None:
    """The backbone without the transformers library; None where only that can read it."""
    from zrag_core.model.architecture.light_decoder import LightDecoder, LightTokenizer, can_read

    device = resolve_device(settings.device)
    if settings.name == TINY and settings.dtype in ("auto", "float32"):
        if not can_read(folder / "backbone"):
            return None
        tiny = LightDecoder.load(folder / "backbone", torch.float32).to(device)
        return Backbone(tiny, LightTokenizer(folder / "tokenizer"), None, settings.name)
    if settings.name not in PACKAGED or settings.quantization != "none":
        return None
    location = Path(location_of(settings.name))
    with _converted(settings.name, location):
        if not can_read(location):
            return None
        lm = LightDecoder.load(location, _dtype(settings)).to(device)
        tokenizer = LightTokenizer(location)
    merged = merge_adapter(lm, folder / "adapter")
    return None if merged is None else Backbone(lm, tokenizer, None, settings.name, merged)


@contextmanager
def _converted(name: str, location: Path) -> Iterator[None]:
    """Say which folder is damaged where a packaged LLM cannot be read; it is no part of a checkpoint or skill."""
    try:
        yield
    except Exception as error:  # of no kind in particular where the tokenizer cannot be read
        raise SettingsError(
            f"the converted model of '{name}' cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})",
            where=str(location),
            remedy="delete this folder; it is made again from the installed packages",
        ) from error


def _with_adapter(lm: Any, tokenizer: Any, settings: BackboneSettings, folder: Path, trainable: bool) -> Backbone:
    if not trainable and settings.quantization == "none":
        merged = merge_adapter(lm, folder / "adapter")
        if merged is not None:
            return Backbone(lm, tokenizer, None, settings.name, merged)
    from peft import PeftModel

    with _without_future_warnings():
        peft = PeftModel.from_pretrained(lm, str(folder / "adapter"))
    return Backbone(peft.get_base_model(), tokenizer, peft, settings.name)


def _create_tiny(settings: BackboneSettings, texts: Iterable[str]) -> Backbone:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tiny = settings.tiny
    tokenizer = train_tokenizer(texts, tiny.vocabulary)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=tiny.hidden_size,
        intermediate_size=3 * tiny.hidden_size,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=max(1, tiny.heads // 2),
        head_dim=tiny.hidden_size // tiny.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    lm: Any = Qwen3ForCausalLM(config)
    return Backbone(lm.to(resolve_device(settings.device)), tokenizer, None, TINY)


def _refuse_unreadable(lm: Any, tokenizer: Any, name: str) -> None:
    """Refuse models whose likelihoods would be wrong here: the LM head is applied to chosen positions only."""
    config = lm.config.get_text_config()
    for field, neutral in (("final_logit_softcapping", None), ("logit_scale", 1.0), ("logits_scaling", 1.0)):
        if getattr(config, field, neutral) not in (None, neutral):
            raise SettingsError(
                f"'{name}' rescales its logits ({field}), which is not supported",
                where="backbone.name",
                remedy="choose another causal LM, for instance one of the Qwen3 family",
            )
    if tokenizer.eos_token_id is None:
        raise SettingsError(
            f"the tokenizer of '{name}' has no end-of-sequence token",
            where="backbone.name",
            remedy="set eos_token in its tokenizer_config.json",
        )


@contextmanager
def _without_future_warnings() -> Iterator[None]:
    """PEFT asks transformers for a property by its former name; nobody who runs this can change that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _dtype(settings: BackboneSettings) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.bfloat16 if multiplies_bfloat16(resolve_device(settings.device)) else torch.float32
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on GPUs, and on processors with instructions for it."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _load_pretrained(settings: BackboneSettings, name: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    # On a CPU it warns about kernels that it does without, whether 4-bit weights are asked for or not.
    logs.getLogger("bitsandbytes").setLevel(logs.ERROR)
    device, dtype = resolve_device(settings.device), _dtype(settings)
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}}
    if settings.quantization == "nf4":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    location = location_of(name)
    # What lies on this machine is loaded in a second; what comes from the hub keeps its bar.
    if Path(location).is_dir():
        hide_progress_bars()
    else:
        logging.enable_progress_bar()
    try:
        with _converted(name, Path(location)) if name in PACKAGED else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(location)
            lm = AutoModelForCausalLM.from_pretrained(location, **options)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot load the backbone '{name}' ({str(error).splitlines()[0]})",
            where="backbone.name",
            remedy="give a Hugging Face causal LM that this machine can reach, a local folder, or zrag-tiny",
        ) from error
    _refuse_unreadable(lm, tokenizer, name)
    if settings.quantization == "nf4":
        from peft import prepare_model_for_kbit_training

        lm = prepare_model_for_kbit_training(lm, use_gradient_checkpointing=device.type == "cuda")
    for parameter in lm.parameters():
        parameter.requires_grad_(False)
    return lm, tokenizer
