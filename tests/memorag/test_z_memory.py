"""The memory Z drafts with its best line, and its clues follow from what else it remembers."""

from __future__ import annotations

import pytest
import torch

from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved
from zrag_core.memorag.clue_memory import Draft
from zrag_core.memorag.z_memory import ZMemory
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.training.joint_training import initialise
from zrag_core.settings import load_settings
from zrag_core.text import words

QUESTIONS = [
    Question("q0", "Where is the prize of Orla Venn awarded?"),
    Question("q1", "한소율의 상은 어디에서 주나?", language="ko"),
]


class Remembering:
    """Answers each question with given text, and counts how often it is asked."""

    name = "remembering"

    def __init__(self, *texts: str | None, answerable: bool = True):
        self.texts, self.answerable, self.asked = texts, answerable, 0

    def retrieve(self, questions):
        self.asked += len(questions)
        texts = dict(zip([question.id for question in QUESTIONS], self.texts, strict=True))
        return [Retrieved(q.id, text=texts[q.id], answerable=self.answerable) for q in questions]


def test_the_best_line_is_the_draft_and_the_others_are_spans_to_look_for():
    english = "Orla Venn won the Halden Prize.\nThe Halden Prize is awarded in May.\n\nHerons nest.\nPell weaves."
    system = Remembering(english, "한소율은 해림상을 받았다.\n해림상은 서린도에서 준다.")
    memory = ZMemory(system)
    drafts = memory.draft(QUESTIONS)
    clues = memory.clues(QUESTIONS, drafts)
    assert [draft.text for draft in drafts] == ["Orla Venn won the Halden Prize.", "한소율은 해림상을 받았다."]
    assert clues[0].lines == (
        "Where is the prize of Orla Venn awarded? Orla Venn won the Halden Prize.",
        "The Halden Prize is awarded in May.",
        "Herons nest.",
    )
    assert clues[1].lines == ("한소율의 상은 어디에서 주나? 한소율은 해림상을 받았다.", "해림상은 서린도에서 준다.")
    assert system.asked == 2  # decoded once for both
    assert drafts[0].usage.cost_usd == 0.0


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_nothing_remembered_gives_no_clue(text):
    memory = ZMemory(Remembering(text, "서린도"))
    drafts = memory.draft(QUESTIONS)
    assert drafts[0].text == ""
    assert memory.clues(QUESTIONS, drafts)[0].lines == ()


def test_a_refused_question_is_not_guessed_at():
    memory = ZMemory(Remembering("Orla Venn.", "서린도.", answerable=False))
    assert [draft.text for draft in memory.draft(QUESTIONS)] == ["", ""]


def test_clues_without_drafting_first():
    memory = ZMemory(Remembering("Orla Venn.\nPell.", "서린도."))
    (clues,) = memory.clues(QUESTIONS[:1], [Draft("She won the Halden Prize.")])
    assert clues.lines == ("Where is the prize of Orla Venn awarded? She won the Halden Prize.", "Orla Venn.", "Pell.")


def test_a_system_that_does_not_write_is_refused():
    with pytest.raises(ValueError, match="'remembering' does not decode freely"):
        ZMemory(Remembering(None, None)).draft(QUESTIONS)


def test_what_a_real_memory_writes_becomes_draft_and_clues(tmp_path):
    documents = (
        Document("d0", "Orla Venn", "Orla Venn is a painter. In 1931 she won the Halden Prize."),
        Document("d1", "한소율", "한소율은 시인이다. 그는 해림상을 받았다."),
        Document("d2", "Pell", "Pell is a village of weavers."),
    )
    settings = load_settings(
        {
            "backbone": {"tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
            "memory": {"policy": "joint"},
            "joint": {"slots": 2, "width": 64},
            "decoding": {"routed_documents": 2, "max_new_tokens": 12, "batch_size": 3},
        }
    )
    torch.manual_seed(0)
    texts = [document.contents for document in documents] + [question.question for question in QUESTIONS]
    model = initialise(create_backbone(settings.backbone, texts, seed=0), settings.joint, documents, seed=0).eval()
    checkpoint = Checkpoint("c", tmp_path, model, documents, settings, {})
    system = create_system("zrag_free", checkpoint, settings.decoding, free=True, threads=1)
    memory = ZMemory(system)
    drafts = memory.draft(QUESTIONS)
    clues = memory.clues(QUESTIONS, drafts)
    for question, found, draft, own in zip(QUESTIONS, system.retrieve(QUESTIONS), drafts, clues, strict=True):
        assert found.text
        lines = [line.strip() for line in found.text.splitlines() if line.strip()]
        assert draft.text == lines[0]
        # The model is untrained: what it writes may hold no word, and then it is no clue.
        first = [f"{question.question} {draft.text}"] if words(draft.text) else []
        assert own.lines == tuple(first + [line for line in lines[1:] if words(line)])
