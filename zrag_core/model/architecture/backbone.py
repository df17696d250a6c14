"""The local causal LLM: the embedded `zrag-tiny`, or any Hugging Face model with a LoRA adapter."""

from __future__ import annotations

import logging as logs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.errors import SettingsError
from zrag_core.model.architecture import smollm2
from zrag_core.model.architecture.tokenizer import train_tokenizer
from zrag_core.settings import BackboneSettings
from zrag_core.settings.backbone import SMOLLM2, TINY

_POSITIONS = 4096  # whose logits are held at once


@dataclass
class Backbone:
    """A causal LM with its tokenizer, ready to be trained.

    Attributes:
        lm: a `transformers` causal LM; with LoRA layers inside it where `peft` is set.
        tokenizer: its tokenizer.
        peft: the PEFT wrapper around `lm` that saves the adapter, or None where `lm` itself is trained.
        source: what the weights came from (`zrag-tiny`, a hub name or a local path).
    """

    lm: Any
    tokenizer: Any
    peft: Any | None
    source: str

    @property
    def hidden_size(self) -> int:
        """Width H of the hidden states."""
        return int(self.lm.get_input_embeddings().weight.shape[1])

    @property
    def decoder(self) -> Any:
        """The transformer without its LM head."""
        return self.lm.base_model

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        device: torch.device = self.lm.get_input_embeddings().weight.device
        return device

    @property
    def pad_id(self) -> int:
        """Token that fills up batches (always masked)."""
        token = self.tokenizer.pad_token_id
        return self.eos_id if token is None else int(token)

    @property
    def eos_id(self) -> int:
        """Token that ends every training target."""
        return int(self.tokenizer.eos_token_id)

    @property
    def mask_id(self) -> int:
        """Token that stands for a hidden one in reconstruction."""
        token = self.tokenizer.mask_token_id
        return self.pad_id if token is None else int(token)

    def encode(self, text: str, limit: int | None = None) -> list[int]:
        """Token ids without special tokens, cut to `limit`."""
        return list(self.tokenizer.encode(text, add_special_tokens=False)[:limit])

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings [..., H] of token ids [...]."""
        embeddings: torch.Tensor = self.lm.get_input_embeddings()(ids)
        return embeddings

    def hidden(
        self, embeds: torch.Tensor, mask: torch.Tensor, position_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Last hidden states [B, T, H]; the LM head is left to the caller (few positions need it).

        Args:
            embeds: [B, T, H] input vectors.
            mask: [B, T], 1 at real positions (attention is causal), or bool [B, 1, T, T]: who sees whom.
            position_ids: [B, T]; left out, padding is not counted, wherever it stands.
        """
        if position_ids is None:
            position_ids = positions(mask)
        output = self.decoder(inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids, use_cache=False)
        states: torch.Tensor = output.last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 vocabulary logits [..., V] of hidden states [..., H]."""
        logits: torch.Tensor = self.lm.get_output_embeddings()(hidden).float()
        return logits

    def nll(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """NLL [P] of `labels` [P] under hidden states [P, H], a chunk at a time: float32 logits of a large vocabulary
        (152 thousand for Qwen3) at every position at once would not fit beside the model."""
        parts = [
            F.cross_entropy(self.logits(states), wanted, reduction="none")
            for states, wanted in zip(hidden.split(_POSITIONS), labels.split(_POSITIONS), strict=True)
        ]
        return torch.cat(parts)

    def trainable(self) -> list[nn.Parameter]:
        """Parameters of theta."""
        return [p for p in self.lm.parameters() if p.requires_grad]

    def merge(self) -> None:
        """Add the adapter into the weights, so that reading costs what it costs without one; `save` still finds it.

        Quantised weights cannot take it in without a loss and stay as they are.
        """
        if self.peft is not None and not getattr(self.lm, "is_quantized", False):
            self.peft.merge_adapter()

    def save(self, folder: Path) -> None:
        """Write tokenizer and weights (adapter/ or backbone/) below `folder`, as safetensors.

        An adapter that was rounded to half precision takes half the space.
        """
        if self.source != SMOLLM2:  # its tokenizer stands beside its weights
            self.tokenizer.save_pretrained(folder / "tokenizer")
        if self.peft is not None:
            from peft import get_peft_model_state_dict

            adapter = get_peft_model_state_dict(self.peft)
            if all(torch.equal(value.half().to(value.dtype), value) for value in adapter.values()):
                adapter = {name: value.half() for name, value in adapter.items()}
            for config in self.peft.peft_config.values():  # by its name, and not by where it lies on this machine
                config.base_model_name_or_path = self.source
            self.peft.save_pretrained(folder / "adapter", safe_serialization=True, state_dict=adapter)
            (folder / "adapter" / "README.md").unlink(missing_ok=True)  # an unfilled form
        else:
            _hide_progress_bars()
            self.lm.save_pretrained(folder / "backbone", safe_serialization=True)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids [B, T] that do not count padding, wherever it stands (as `generate` does)."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


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
        peft = get_peft_model(lm, config)
    except ValueError as error:
        raise SettingsError(str(error).splitlines()[0], where="backbone.lora.target_modules") from error
    return Backbone(peft.get_base_model(), tokenizer, peft, settings.name)


def load_backbone(settings: BackboneSettings, folder: Path, *, verbatim: bool = False) -> Backbone:
    """Load what `Backbone.save` wrote; a pretrained base model comes from where it came from before.

    Args:
        verbatim: no text is to be generated, so `zrag-tiny` may do without the transformers library.
    """
    if verbatim and settings.name == TINY and settings.dtype in ("auto", "float32"):
        from zrag_core.model.architecture.tiny_decoder import TinyDecoder, TinyTokenizer, can_read

        if can_read(folder / "backbone"):
            decoder = TinyDecoder.load(folder / "backbone").to(resolve_device(settings.device))
            return Backbone(decoder, TinyTokenizer(folder / "tokenizer"), None, settings.name)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if settings.name == SMOLLM2:
        lm, tokenizer = _load_pretrained(settings, settings.name)
        return _with_adapter(lm, tokenizer, settings, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    if (folder / "backbone").is_dir():
        _hide_progress_bars()
        # Trained as a whole, in float32: AdamW's small updates vanish in bfloat16 weights.
        dtype = torch.float32 if settings.dtype == "auto" else _dtype(settings)
        whole: Any = AutoModelForCausalLM.from_pretrained(folder / "backbone", dtype=dtype)
        return Backbone(whole.to(resolve_device(settings.device)), tokenizer, None, settings.name)
    lm, _ = _load_pretrained(settings, settings.name)
    return _with_adapter(lm, tokenizer, settings, folder)


def _with_adapter(lm: Any, tokenizer: Any, settings: BackboneSettings, folder: Path) -> Backbone:
    from peft import PeftModel

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


def _hide_progress_bars() -> None:
    """A model of a few megabytes needs no bar for each of its files; those of the hub keep theirs."""
    from transformers.utils import logging

    logging.disable_progress_bar()


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
    logging.enable_progress_bar()
    location = smollm2.location_of(name)
    try:
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
