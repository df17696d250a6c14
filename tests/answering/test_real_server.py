"""The client at a server that other people wrote: `transformers serve` on loopback with a tiny model made here."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.choice import choose_judge
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.judge import JudgeRequest
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

# What `transformers[serving]` adds to what zRAG needs anyway.
MISSING = [name for name in ("fastapi", "uvicorn", "pydantic", "openai") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}"),
]
START_S = 180
REQUESTS = [
    AnswerRequest(f"q{i}", "bm25", question, "The Harbour was built in 1804. 항구는 1804년에 지어졌다.", language)
    for i, (question, language) in enumerate([("When was it built?", "en"), ("언제 지어졌는가?", "ko")] * 3)
]


@dataclass(frozen=True)
class Served:
    url: str
    model: str


def save_tiny_model(folder: Path) -> None:
    """A Qwen3 of a few thousand weights, never trained, with a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["evidence question answer"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        eos_token_id=0,
        pad_token_id=1,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder)
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "error"]
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + START_S
            while not _healthy(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"transformers serve did not start: {(folder / 'server.log').read_text()[-2000:]}")
                time.sleep(0.1)
            yield Served(f"http://127.0.0.1:{port}/v1", str(folder))
        finally:
            process.kill()
            process.wait(timeout=10)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except (OSError, urllib.error.URLError):
        return False


def settings_for(served: Served, **values) -> AnswerSettings:
    return AnswerSettings(model=served.model, base_url=served.url, max_answer_tokens=8, concurrency=3, **values)


def test_answers_come_with_the_servers_own_token_counts_and_only_once(served, tmp_path):
    with AnswerCache(tmp_path / "c") as cache:
        reader = OpenAIReader(settings_for(served), "none", cache=cache)
        answers = reader.answer(REQUESTS)
        again = OpenAIReader(settings_for(served), "none", cache=cache).answer(REQUESTS)
        assert len(cache) == 2, "two questions, asked three times each"
    assert {answer.error for answer in answers} <= {None, "the model returned no text"}
    for answer in answers:
        assert 0 < answer.completion_tokens <= 8
        assert answer.prompt_tokens > 100
        assert answer.cost_usd == 0.0
    assert [answer.answer for answer in again] == [answer.answer for answer in answers]
    assert all(answer.cached for answer in again)
    # Greedy decoding: without the cache, the same answers once more.
    fresh = OpenAIReader(settings_for(served), "none").answer(REQUESTS)
    assert [answer.answer for answer in fresh] == [answer.answer for answer in answers]


def test_a_streamed_answer_is_the_one_that_comes_at_once(served):
    reader = OpenAIReader(settings_for(served), "none")
    for request in REQUESTS[:2]:
        pieces = []
        (whole,) = reader.answer([request])
        streamed = reader.answer_streamed(request, AnswerStream(pieces.append))
        assert "".join(pieces) == streamed.answer
        # Bytes that make no character end differently; the model was never trained.
        assert streamed.answer.replace("\ufffd", "")[:-8] == whole.answer.replace("\ufffd", "")[:-8]
        assert replace(streamed, answer="", latency_ms=0.0) == replace(whole, answer="", latency_ms=0.0)


def test_an_untrained_judge_gives_no_verdict_and_says_so(served):
    judge = choose_judge(settings_for(served, judge={"model": served.model}), {})
    (judged,) = judge.judge([JudgeRequest("q", "s", "When?", ("1804",), "1804")])
    assert judged.verdict is None
    assert judged.error


def test_a_model_that_is_not_served_is_one_clear_line(served):
    settings = settings_for(served).model_copy(update={"model": "no/such-model", "max_retries": 0})
    with pytest.raises(AnsweringError) as raised:
        OpenAIReader(settings, "none").answer(
            [*REQUESTS] + [AnswerRequest(str(i), "s", f"{i}?", "") for i in range(20)]
        )
    assert "\n" not in str(raised.value)
    assert served.url in str(raised.value)


def test_it_has_no_batch_api(served, tmp_path):
    with (
        AnswerCache(tmp_path / "c") as cache,
        pytest.raises(AnsweringError, match=r"no Batch API.*set answers\.batch to false"),
    ):
        OpenAIReader(settings_for(served, batch=True), "none", cache=cache).answer(REQUESTS)
