"""A small Qwen3 of random weights with a tokenizer of its own, as a folder: what stands for a pretrained LLM."""

from pathlib import Path


def save_small_qwen3(folder: Path, texts, **shape) -> Path:
    """Write it to `folder`; `shape` replaces fields of its configuration."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from zrag_core.model.architecture.tokenizer import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(texts, 300)
    usual = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **(usual | shape),
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
