"""The local reader with the real SmolLM2: it copies plain facts from the evidence."""

import pytest

from zrag_core.answering.choice import choose_reader
from zrag_core.answering.local_process import serving
from zrag_core.answering.types import AnswerRequest
from zrag_core.model.architecture.packaged_llms import SMOLLM2
from zrag_core.settings import LOCAL_MODEL, AnswerSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SMOLLM2.is_available(), reason=f"needs SmolLM2: {SMOLLM2.install}"),
]
EVIDENCE = "The Orla Observatory stands on Mount Brenn. It was founded in 1904 by the astronomer Ida Falk."


def test_it_answers_from_the_evidence_and_refuses_without_any():
    asked = ["Who founded the Orla Observatory?", "When was the Orla Observatory founded?"]
    requests = [AnswerRequest(str(i), "bm25", question, EVIDENCE) for i, question in enumerate(asked)]
    with serving(SMOLLM2.model_folder(), LOCAL_MODEL, threads=1) as server:
        reader = choose_reader(AnswerSettings(reader="local", base_url=server.base_url), {})
        answers = reader.answer([*requests, AnswerRequest("none", "bm25", asked[0], " ")])
    assert [answer.error for answer in answers] == [None] * 3
    for answer, fact in zip(answers, ["Falk", "1904", "not in the evidence"], strict=True):
        assert fact in answer.answer
        assert '"' not in answer.answer
