"""The skill of a pretrained LLM, stage by stage: codec, questions, reading, keys of meaning, relevance, calibration.

Each stage keeps a resumable state of its own, and a stage that was finished is not run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from zrag_core.corpus.almanac.names import Language
from zrag_core.corpus.prose.asked import AskedSentence, WrittenQuestions, written_questions, written_version
from zrag_core.corpus.prose.sources import prose_documents, prose_name
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.inference.language_system import sentences_read_first
from zrag_core.model.training.codec_training import train_codec
from zrag_core.model.training.key_distillation import fit_keys, teacher_vectors
from zrag_core.model.training.language_calibration import calibrate_language
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.model.training.question_writing import write_questions
from zrag_core.model.training.reading_data import AskedPiece, ReadingSource
from zrag_core.model.training.reading_training import train_reading
from zrag_core.model.training.relevance_training import fit_relevance
from zrag_core.model.training.skill_data import AlmanacSkill
from zrag_core.model.training.state import SavedProgress, Trained, save_state
from zrag_core.sentences import split_sentences
from zrag_core.settings import Settings
from zrag_core.settings.backbone import GEMMA3
from zrag_core.text import detect_language

_HELD_OUT = 20_000  # tokens that measure the codec
_KEY_TEXTS = 16_000  # sentences that keys are distilled on
_OWN = 600  # questions that the LLM writes itself
_ALMANAC = 600  # generated documents, with questions in people's words
_SHARES = (0.5, 0.25, 0.25)  # of the training questions: written for it, by the LLM itself, about generated documents
_READ_AT_CALIBRATION = 9_600  # sentences; 600 questions where 16 are read for each
_CALIBRATED = 1_500  # documents
_SECOND_SHARE = 12  # every twelfth text is enough of a second language

StageHooks = Callable[[str], TrainingHooks]
"""Hooks of a stage by its name."""


def train_language_skill(
    model: LanguageMemory, settings: Settings, folder: Path, hooks: StageHooks, log: Callable[[str], None]
) -> dict[str, float]:
    """Train the skill in place.

    Args:
        model: without documents.
        folder: of the states, and of the questions that were written.

    Returns:
        Figures by name.
    """
    korean = settings.backbone.name == GEMMA3
    prose, written = _texts(korean)
    log(f"prose: {len(prose):,} texts of {prose_name()}, and {len(written.documents)} written ones")
    metrics = _train_codec(model, prose, settings, hooks("codec"))
    kept = {item.document_id for item in written.calibrated}
    documents = [document for document in (*written.documents, *prose) if document.id not in kept]
    if korean:  # Gemma, which was not taught to follow instructions, writes no questions; the English ones stand in
        own = [item for item in written.trained if detect_language(item.question) == "en"]
        asked = [item for item in written.trained if detect_language(item.question) == "ko"]
    else:
        own = write_questions(model.backbone, documents, _OWN, folder / "questions.jsonl", log=log)
        asked = list(written.trained)
    if settings.skill.steps:
        source = _reading_source(documents, (asked, own), "ko" if korean else "en")
        metrics |= _train_reading(model, source, settings, hooks("reading"))
    _round(model.backbone.trainable())
    model.backbone.merge()
    questions = [item.question for item in (*asked, *own)]
    metrics["key_cosine"] = _distil_keys(model, documents, questions, _KEY_TEXTS // 3 if korean else _KEY_TEXTS, log)
    return metrics | _fit_judgement(model, prose, written, settings, log)


def refit_language_skill(model: LanguageMemory, settings: Settings, log: Callable[[str], None]) -> dict[str, float]:
    """Fit what judges (relevance, ranking, confidence) anew, in place; codec, adapter and keys stay as they are.

    Returns:
        Figures by name.
    """
    return _fit_judgement(model, *_texts(settings.backbone.name == GEMMA3), settings, log)


def _fit_judgement(
    model: LanguageMemory,
    prose: Sequence[Document],
    written: WrittenQuestions,
    settings: Settings,
    log: Callable[[str], None],
) -> dict[str, float]:
    documents = (*written.documents, *prose)
    korean = [item for item in written.trained if detect_language(item.question) == "ko"]
    fit_relevance(model, korean or written.trained, {document.id: document for document in documents}, log)
    _round(model.head_parameters())
    model.confidence.zero_()  # what judged before is no reason to look again
    return calibrate_on_prose(model, documents, written.calibrated, settings, log)


def _texts(korean: bool) -> tuple[list[Document], WrittenQuestions]:
    """Prose of packages, and the documents that were written with their questions.

    Args:
        korean: Korean comes first, so of the English prose little more is taken than what questions are about.
    """
    prose = prose_documents()
    written = written_questions(prose, korean=korean)
    if korean:
        asked_about = {item.document_id for item in written.trained}
        prose = [document for n, document in enumerate(prose) if n % _SECOND_SHARE == 0 or document.id in asked_about]
    return prose, written


def calibrate_on_prose(
    model: LanguageMemory,
    documents: Sequence[Document],
    asked: Sequence[AskedSentence],
    settings: Settings,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Fit routing, ranking and confidence on a memory of prose, a sample of the questions."""
    most = _READ_AT_CALIBRATION // sentences_read_first(settings.decoding, settings.backbone.name)
    sample = set(hash_order((item.question for item in asked), 0, "calibration")[:most])
    asked = [item for item in asked if item.question in sample]
    wanted = {item.document_id for item in asked}
    titles = {document.title for document in documents if document.id in wanted}
    # Parts of the same texts first: what a question is easily mistaken for.
    near = [d for d in documents if d.title in titles and d.id not in wanted]
    far = [d for d in documents if d.title not in titles]
    pool = [d for d in documents if d.id in wanted] + near + far
    one_step = settings.decoding.model_copy(update={"steps": 1, "routed_documents": 10})
    settings = settings.model_copy(update={"decoding": one_step})
    found = calibrate_language(model, pool[: max(_CALIBRATED, len(wanted))], asked, settings, log=log)
    return {f"skill_documents_{name}": value for name, value in asdict(found).items()}


def _train_codec(
    model: LanguageMemory, documents: Sequence[Document], settings: Settings, hooks: TrainingHooks
) -> dict[str, float]:
    ids = [token for document in documents for token in model.backbone.encode(document.contents)]
    tokens = torch.tensor(ids)
    fingerprint = f"codec {settings.backbone.name} {settings.codec.model_dump_json()} {prose_name()}"
    result = train_codec(
        model.codec,
        model.vocabulary,
        tokens[_HELD_OUT:],
        tokens[:_HELD_OUT],
        settings.codec,
        fingerprint=fingerprint,
        hooks=hooks,
    )
    _keep(
        hooks,
        dict(model.codec.named_parameters()),
        fingerprint,
        SavedProgress(settings.codec.steps, {}, result.seconds),
    )
    return {f"codec_{name}": value for name, value in asdict(result).items()}


def _keep(
    hooks: TrainingHooks, parameters: dict[str, torch.nn.Parameter], fingerprint: str, done: SavedProgress
) -> None:
    """Save the state of a stage that is finished; training itself saves those before."""
    if hooks.state_folder is not None:
        save_state(hooks.state_folder, Trained(parameters, [], fingerprint), done)


def _reading_source(
    documents: Sequence[Document], asked: Sequence[Sequence[AskedSentence]], language: Language
) -> ReadingSource:
    """Documents with groups of questions about them, and generated ones in a language with theirs."""
    rows = {document.id: row for row, document in enumerate(documents)}
    split = [split_sentences(document.text) for document in documents]
    places = [{span.text: number for number, span in enumerate(own)} for own in split]
    pieces = [(d.title, [span.reading for span in own]) for d, own in zip(documents, split, strict=True)]

    def about(item: AskedSentence) -> AskedPiece:
        row = rows[item.document_id]
        return AskedPiece(item.question, row, places[row][item.sentence] if item.sentence else None)

    groups = [[about(item) for item in group] for group in asked]
    generated = []
    for made in AlmanacSkill((language,)).draw(random.Random("reading"), _ALMANAC, 3):
        sentences = [span.reading for span in split_sentences(made.document.text)]
        generated += [AskedPiece(q, len(pieces), sentences.index(e)) for q, e in made.asked if e in sentences]
        pieces.append((made.document.title, sentences))
    return ReadingSource(pieces, list(zip(_SHARES, [*groups, generated], strict=True)))


def _train_reading(
    model: LanguageMemory, source: ReadingSource, settings: Settings, hooks: TrainingHooks
) -> dict[str, float]:
    own = f"{settings.skill.model_dump_json()} {settings.codec.model_dump_json()}"
    fingerprint = f"reading {own} {prose_name()} {written_version()}"
    found = train_reading(model, source, settings.skill, fingerprint=fingerprint, hooks=hooks)
    adapter = {name: value for name, value in model.lm.named_parameters() if value.requires_grad}
    losses = {name: value for name, value in found.items() if name != "seconds"}
    _keep(hooks, adapter, fingerprint, SavedProgress(settings.skill.steps, losses, found["seconds"]))
    return {f"reading_{name}": value for name, value in found.items()}


def _distil_keys(
    model: LanguageMemory,
    documents: Sequence[Document],
    questions: Sequence[str],
    n: int,
    log: Callable[[str], None],
) -> float:
    """Fit the keys on the questions and n sentences; the mean cosine with the teacher."""
    rng = random.Random("keys")
    sentences = []
    for document in documents:
        for span in split_sentences(document.text):
            if 20 < len(span.text) < 400:
                # With the title, as keys are made, and without, as questions come.
                sentences.append(f"{document.title}: {span.text}" if rng.random() < 0.5 else span.text)
    texts = rng.sample(sentences, min(n, len(sentences))) + list(questions)
    log(f"distilling keys of meaning on {len(texts):,} sentences and questions")
    return fit_keys(model, texts, teacher_vectors(texts))


@torch.no_grad()
def _round(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Make parameters what they will be after they were stored in half precision."""
    for parameter in parameters:
        parameter.copy_(parameter.half())
