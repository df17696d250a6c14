"""`smollm2` as the model of MemoRAG's summary and KV memories, here with a tiny model in its folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "answering"))
from tiny_chat_model import instead_of_smollm2

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.local_model import LocalChatModel
from zrag_core.answering.types import Prompt
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.memorag.local_completer import LocalCompleter
from zrag_core.settings import LOCAL_MODEL, load_settings
from zrag_core.system_factory import SystemInputs

DOCUMENTS = [
    Document(f"d{i}", f"Town {i}", f"Town {i} was founded in {1200 + i} by keepers of bees.") for i in range(4)
]
QUESTIONS = [Question("q1", "Who founded Town 2?", document_ids=("d2",)), Question("q2", "When was Town 3 founded?")]


@pytest.mark.parametrize(
    "memorag",
    [
        {"memory": "summary", "light_model": "smollm2", "group_tokens": 40, "summary_tokens": 8, "page_tokens": 8},
        {"memory": "kv", "kv_model": "smollm2"},
    ],
)
def test_it_drafts_and_gives_clues_without_key_or_server(memorag, tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    instead_of_smollm2(tmp_path)
    sections = {"memorag": {**memorag, "draft_tokens": 6, "clue_tokens": 6}, "backbone": {"threads": 1}}
    corpus = Corpus("towns", tuple(DOCUMENTS), tuple(QUESTIONS))
    settings = load_settings(sections)
    inputs = SystemInputs(
        settings, corpus, [], {}, {}, tmp_path / "memorag", tmp_path / "cache", SpendingLedger(0.0), {}
    )
    from zrag_core.memorag.factory import MEMORIES

    memory = MEMORIES[memorag["memory"]].make(inputs)
    drafts = memory.draft(QUESTIONS)
    clues = memory.clues(QUESTIONS, drafts)
    assert len(drafts) == len(clues) == 2
    assert all(draft.error is None and draft.usage.cost_usd == 0.0 for draft in drafts)
    assert all(0 < each.usage.completion_tokens <= 6 for each in (*drafts, *clues))


def test_a_prompt_that_is_too_long_is_an_error_of_its_own(tmp_path):
    completer = LocalCompleter(LocalChatModel(instead_of_smollm2(tmp_path), LOCAL_MODEL, 1), 0.0)
    short, long = ([{"role": "user", "content": "word " * n}] for n in (3, 9000))
    one, two, three = completer.complete([Prompt(short, 4), Prompt(long, 4), Prompt(short, 4)])
    assert (one.text, one.error) == (three.text, three.error)
    assert "reads 8192" in two.error
    assert completer.estimate_prompts([Prompt(short, 4)]).cost_usd == 0.0
