"""A multilingual LLM without the tokens of languages that are not read says the same of those that are."""

import pytest
import torch

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.vocabulary_pruning import is_korean_or_ascii, keep_tokens

TEXTS = ["관리비는 매달 25일까지 납부해 주세요.", "Rent is due on the 25th.", "Счёт нужно оплатить до 25 числа."] * 3


@pytest.fixture
def whole(tmp_path):
    """A small Gemma 3 of random weights with a tokenizer of its kind: spaces as ▁, bytes for what it lacks."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    codes = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*special, *codes])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(tmp_path / "whole")
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return Gemma3ForCausalLM(config).eval(), AutoTokenizer.from_pretrained(tmp_path / "whole")


def test_fewer_tokens_say_the_same(whole, tmp_path):
    lm, tokenizer = whole
    before = {text: lm(torch.tensor([tokenizer(text)["input_ids"]])).logits for text in TEXTS[:2]}
    tokens = {text: tokenizer.tokenize(text) for text in TEXTS}
    old = tokenizer.get_vocab()
    small = keep_tokens(lm, tokenizer, is_korean_or_ascii, tmp_path / "small")
    kept = small.get_vocab()
    assert kept.keys() < old.keys()
    assert len(kept) == len(small) == lm.config.vocab_size == lm.lm_head.weight.shape[0]
    for text in TEXTS[:2]:
        assert small.tokenize(text) == tokens[text]
        order = torch.tensor([old[token] for token in sorted(kept, key=kept.__getitem__)])
        now = lm(torch.tensor([small(text)["input_ids"]])).logits
        torch.testing.assert_close(now, before[text][..., order])
    # What has no tokens any more is spelled in bytes.
    assert small.tokenize(TEXTS[2]) != tokens[TEXTS[2]]
    assert small.decode(small(TEXTS[2])["input_ids"], skip_special_tokens=True) == TEXTS[2]
    assert (lm.config.pad_token_id, lm.config.eos_token_id) == (small.pad_token_id, small.eos_token_id)


@pytest.mark.parametrize(
    ("token", "number", "kept"),
    [
        ("▁관리", 200_000, True),
        ("the", 300, True),
        ("▁Danilo", 150_000, False),
        ("Z", 240_000, True),
        ("<0xE6>", 250, True),
        ("—", 200_000, True),
        ("東京", 300, False),
        ("Счёт", 300, False),
        ("é", 300, False),
    ],
)
def test_which_tokens_korean_needs(token, number, kept):
    assert is_korean_or_ascii(token, number) is kept


def test_a_text_begins_as_the_llm_expects(whole):
    lm, tokenizer = whole
    backbone = Backbone(lm, tokenizer, None, "gemma3")
    assert backbone.start_ids == [tokenizer.bos_token_id]
    every = torch.arange(len(tokenizer))
    torch.testing.assert_close(backbone.token_embeddings, backbone.embed(every))  # Gemma's are scaled
