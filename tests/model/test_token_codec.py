"""The token codec."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.model.architecture.token_codec import TokenCodec, Vocabulary, quantise, slot_scales
from zrag_core.model.training.codec_training import codec_accuracy, train_codec
from zrag_core.settings import CodecSettings

VOCABULARY, HIDDEN = 200, 32


def vocabulary():
    return Vocabulary(torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1)))


def slots_of(stride, n=300):
    return torch.randint(VOCABULARY, (n, stride), generator=torch.Generator().manual_seed(2))


def test_untrained_and_wide_it_is_the_identity():
    torch.manual_seed(0)
    for stride in (1, 2, 3):
        codec = TokenCodec(HIDDEN, stride * HIDDEN, stride, 8)
        tokens = slots_of(stride)
        units = F.normalize(vocabulary().embeddings[tokens], dim=-1)
        vectors, nearest = codec.read(codec.write(units), vocabulary())
        assert torch.equal(nearest, tokens)
        # What the LLM reads is close to the token's own embedding, not only nearest to it.
        assert F.cosine_similarity(vectors, vocabulary().embeddings[tokens], dim=-1).min() > 0.95


def test_training_makes_room_in_narrow_slots():
    torch.manual_seed(0)
    codec = TokenCodec(HIDDEN, 12, 2, 64)
    tokens = slots_of(1, 4000).flatten()
    before = codec_accuracy(codec, vocabulary(), slots_of(2))
    settings = CodecSettings(stride=2, width=12, inner=64, steps=250, batch_size=128, lr=5e-3)
    result = train_codec(codec, vocabulary(), tokens, tokens[:400], settings, fingerprint="t")
    after = codec_accuracy(codec, vocabulary(), slots_of(2))
    assert before < 0.5
    assert after > before + 0.25
    assert result.accuracy > 0.7


def test_a_resumed_codec_is_that_of_one_run(tmp_path):
    from zrag_core.model.training.progress import TrainingHooks

    tokens = slots_of(1, 1000).flatten()
    settings = CodecSettings(stride=2, width=8, inner=16, steps=40, batch_size=32, save_every=25)
    codecs = []
    for folder in (None, tmp_path / "state"):
        torch.manual_seed(0)
        codec = TokenCodec(HIDDEN, 8, 2, 16)
        if folder is not None:
            with contextlib.suppress(KeyboardInterrupt):
                train_codec(codec, vocabulary(), tokens, tokens, settings, fingerprint="f", hooks=Stop(folder))
            torch.manual_seed(7)
            codec = TokenCodec(HIDDEN, 8, 2, 16)
        hooks = TrainingHooks(folder)
        train_codec(codec, vocabulary(), tokens, tokens, settings, fingerprint="f", hooks=hooks)
        codecs.append(codec)
    for one, other in zip(codecs[0].parameters(), codecs[1].parameters(), strict=True):
        assert torch.equal(one, other)


def Stop(folder):
    from zrag_core.model.training.progress import TrainingHooks

    def stop(progress):
        if progress.step >= 30:
            raise KeyboardInterrupt

    return TrainingHooks(folder, None, stop, 40)


@given(st.integers(0, 5), st.integers(1, 9), st.integers(0, 2**31))
def test_slots_are_multiples_of_their_scale_and_stay_so(n, width, seed):
    slots = quantise(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) * 3)
    again = quantise(slots)
    assert torch.equal(slots, again)
    numbers = (slots / slot_scales(slots)).round()
    assert numbers.abs().max() <= 127 if n else True
    assert torch.equal(numbers.to(torch.int8).float() * slot_scales(slots), slots)


@pytest.mark.parametrize("size", [5, 127, 1000])
def test_the_nearest_tokens_are_those_of_a_full_search(size):
    generator = torch.Generator().manual_seed(size)
    embeddings = torch.randn(size, 12, generator=generator)
    embeddings[1] = 0.0  # a token that was never trained
    vectors = torch.randn(40, 12, generator=generator)
    values, tokens = Vocabulary(embeddings).nearest(vectors)
    likeness = vectors @ (embeddings / embeddings.norm(dim=-1, keepdim=True).clamp(min=1e-6)).T
    expected = likeness.topk(min(16, size), -1)
    assert torch.allclose(values, expected.values, atol=1e-5)
    assert torch.equal(tokens, expected.indices)
