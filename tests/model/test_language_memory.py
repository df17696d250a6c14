"""The memory of a pretrained LLM, with a small Qwen3 of random weights in its place (also in 4-bit weights)."""

import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from zrag_core.corpus.types import Document, Question
from zrag_core.model.architecture import slot_cache
from zrag_core.model.architecture.create_backbone import create_backbone, load_backbone
from zrag_core.model.architecture.create_memory import create_separated
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.memory_tables import KEYS
from zrag_core.model.architecture.sentence_features import FIRST_CHOICE, RANKING, SENTENCE_FEATURES
from zrag_core.model.architecture.slot_reader import Line
from zrag_core.model.architecture.spans import sentence_ids, span_slots
from zrag_core.model.architecture.token_codec import TokenCodec
from zrag_core.model.checks.probe import Probe, never_empty_evidence
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.decoder import rebuild
from zrag_core.model.store.checkpoint import Checkpoint, Origin, hash_rows, load_checkpoint, save_checkpoint
from zrag_core.model.store.skill_folder import load_heads
from zrag_core.model.store.update import update_memory
from zrag_core.model.store.write import write_documents
from zrag_core.sentences import split_sentences
from zrag_core.settings import (
    BackboneSettings,
    CodecSettings,
    DecodingSettings,
    LoraSettings,
    Settings,
    WritingSettings,
)

DOCUMENTS = tuple(
    Document(f"d{n}", f"Town {n}", " ".join(f"Town {n} has {word} in Tessamor." for word in words))
    for n, words in enumerate([("mills", "ponds", "inns"), ("bridges",), ("gates", "towers")])
)
QUESTIONS = [
    Question("q0", "Which town has bridges?", ("bridges",), ("d1",), "Town 1 has bridges in Tessamor.", "test"),
    Question("q1", "Where are the towers?", ("towers",), ("d2",), "Town 2 has towers in Tessamor.", "test"),
]


def settings_of(folder, **backbone):
    return Settings(
        backbone=BackboneSettings(name=str(folder), dtype="float32", lora=LoraSettings(rank=2, alpha=2), **backbone),
        codec=CodecSettings(stride=2, width=128, inner=8, key_width=16),
        writing=WritingSettings(steps=0),
        decoding=DecodingSettings(steps=1, routed_documents=3, max_new_tokens=24, read_sentences=4),
    )


def written(folder, documents=DOCUMENTS, **backbone):
    torch.set_num_threads(1)
    settings = settings_of(folder, **backbone)
    model = create_separated(create_backbone(settings.backbone, (), seed=0), settings).eval()
    torch.manual_seed(0)
    made = write_documents(model, documents, (), settings.writing)
    model.remember(documents, made.z, made.spans)
    origin = Origin("s", "d", settings.writing, hash_rows(made.studied))
    return Checkpoint("c", folder, model, tuple(documents), settings, {}, origin)


def slots_of(model, rows, spans):
    """The slots of a span of each of these documents, and which of them are there."""
    return span_slots(*model.document_slots(rows), spans)


def line_of(model, row, span):
    """A sentence as the LLM reads it."""
    (vectors,) = model.vectors(*slots_of(model, [row], [span]))
    return Line(model.titles([row])[0], vectors)


@pytest.fixture
def checkpoint(qwen3_folder):
    return written(qwen3_folder)


def test_slots_say_the_tokens_and_nothing_else_has_to(checkpoint):
    model = checkpoint.model
    assert isinstance(model, LanguageMemory)
    for row, document in enumerate(DOCUMENTS):
        sentences = sentence_ids(model.backbone, document.text)
        n = len(sentences)
        slots = slots_of(model, [row] * n, range(n))
        assert [draft[:-1] for draft in model.drafts(*slots)] == sentences
        # What the LLM reads is near the text's own embeddings.
        for vectors, ids in zip(model.vectors(*slots), sentences, strict=True):
            own = model.embed_tokens(ids)
            assert torch.cosine_similarity(vectors, own, dim=-1).min() > 0.9


def test_a_document_is_written_alone_as_beside_others(qwen3_folder, checkpoint):
    alone = written(qwen3_folder, DOCUMENTS[1:2]).model
    for name, table in checkpoint.model.held.tables.items():
        beside, own = table.select([1]).stored(name), alone.held.tables[name].stored(name)
        assert beside.keys() == own.keys()
        for column, tensor in own.items():
            if name != KEYS:
                assert torch.equal(tensor, beside[column]), column
    keys = alone.held.tables[KEYS].vectors(), checkpoint.model.held.tables[KEYS].vectors([1])
    assert torch.allclose(*keys, atol=0.02)


def test_a_checkpoint_comes_back_and_reads_the_same(checkpoint, tmp_path):
    folder = tmp_path / "memory"
    save_checkpoint(
        folder,
        checkpoint.model,
        DOCUMENTS,
        checkpoint.settings,
        checkpoint_id="m",
        metrics={},
        origin=checkpoint.origin,
    )
    again = load_checkpoint(folder)
    stored, restored = checkpoint.model.stored_memory(), again.model.stored_memory()
    assert stored.keys() == restored.keys()
    for name, tensor in stored.items():
        assert restored[name].dtype == tensor.dtype
        assert torch.equal(restored[name], tensor), name
    answers = []
    for own in (checkpoint, again):
        for free in (False, True):
            found = create_system("zrag", own, own.settings.decoding, free=free, threads=1).retrieve(QUESTIONS)
            answers.append([(item.document_ids, [s.text for s in item.segments], item.text) for item in found])
    assert answers[:2] == answers[2:]


def test_what_is_read_ranks_the_sentences(checkpoint):
    """The question's likelihood is that of the LLM behind the sentence's slots, and ranks where it is weighed."""
    model = checkpoint.model
    model.ranking.zero_()
    model.ranking[:, FIRST_CHOICE, SENTENCE_FEATURES.index("find")] = 1.0
    model.ranking[:, RANKING, SENTENCE_FEATURES.index("likelihood")] = 1.0
    system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=1)
    for question, found in zip(QUESTIONS, system.retrieve(QUESTIONS), strict=True):
        scores = [segment.score for segment in found.segments]
        assert scores == sorted(scores, reverse=True)
        query = model.backbone.encode(question.question)
        best = found.segments[0]
        row = [d.id for d in DOCUMENTS].index(best.document_id)
        texts = [s.strip() + "." for s in DOCUMENTS[row].text.rstrip(".").split(". ")]
        expected, _ = model.read_questions([[line_of(model, row, texts.index(best.text))]], [query])
        assert scores[0] == pytest.approx(float(expected) / 10, abs=1e-3)


@torch.no_grad()
def test_a_second_step_ranks_by_what_is_read_after_the_best_sentence(checkpoint):
    """The first sentence is that of one step; the others come in the order of the path's likelihood."""
    model = checkpoint.model
    model.ranking.zero_()
    model.ranking[:, FIRST_CHOICE, SENTENCE_FEATURES.index("find")] = 1.0
    model.ranking[:, RANKING, SENTENCE_FEATURES.index("likelihood")] = 1.0
    decoding = checkpoint.settings.decoding.model_copy(update={"read_sentences": 20})
    one = create_system("zrag", checkpoint, decoding, threads=1).retrieve(QUESTIONS)
    two = create_system("zrag", checkpoint, decoding.model_copy(update={"steps": 2}), threads=1).retrieve(QUESTIONS)
    for question, first, found in zip(QUESTIONS, one, two, strict=True):
        assert found.segments[0] == first.segments[0]
        assert found.document_ids[0] == first.document_ids[0]
        places = {s.text: (row, n) for row, d in enumerate(DOCUMENTS) for n, s in enumerate(split_sentences(d.text))}
        assert {s.text for s in found.segments} == set(places), "every sentence is ranked once"
        assert len(found.segments) == len(places)
        query = model.backbone.encode(question.question)
        lead = line_of(model, *places[found.segments[0].text])
        paths = [[lead, line_of(model, *places[s.text])] for s in found.segments[1:]]
        likelihoods = [float(model.read_questions([path], [query])[0]) for path in paths]
        assert likelihoods == pytest.approx(sorted(likelihoods, reverse=True), abs=1e-3)


@torch.no_grad()
def test_relevance_is_read_from_the_question_behind_the_sentence_and_may_rank(checkpoint):
    """Whatever else is in the batch and whether all layers run or the first ones, the states are the same."""
    model = checkpoint.model
    for layer in (model.relevance.units, model.relevance.score):
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    model.ranking.zero_()
    model.ranking[:, FIRST_CHOICE, SENTENCE_FEATURES.index("find")] = 1.0
    model.ranking[:, RANKING, SENTENCE_FEATURES.index("relevance")] = 1.0
    places = {s.text: (row, n) for row, d in enumerate(DOCUMENTS) for n, s in enumerate(split_sentences(d.text))}
    system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=1)
    for question, found in zip(QUESTIONS, system.retrieve(QUESTIONS), strict=True):
        query = model.backbone.encode(question.question)
        for segment in found.segments:
            line = line_of(model, *places[segment.text])
            alone = model.relevance(model.relevance_features([[line]], [query]))
            assert segment.score == pytest.approx(float(alone), abs=1e-2)
        scores = [segment.score for segment in found.segments]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > scores[-1]


@torch.no_grad()
def test_checks_read_nothing_from_a_document_without_text(qwen3_folder):
    model = written(qwen3_folder, (Document("e", "Empty", ""), *DOCUMENTS)).model
    query = model.backbone.encode(QUESTIONS[0].question)
    assert never_empty_evidence(model, *model.document_slots([0]), [query], 8) == [""]
    empty, full = never_empty_evidence(model, *model.document_slots([0, 1]), [query] * 2, 8)
    assert empty == ""
    assert full


@torch.no_grad()
def test_checks_read_the_spans_that_make_the_question_likely(checkpoint):
    """Best first, by the likelihood of each alone; what is not there is left out."""
    model = checkpoint.model
    query = model.backbone.encode(QUESTIONS[1].question)
    z, spans = model.document_slots()
    found = model.best_spans([query] * 3, z, spans)
    for row, own in enumerate(found.tolist()):
        n = int(spans[row].max()) + 1
        alone = [
            model.read_questions([[line_of(model, row, s)._replace(title=torch.zeros(0))]], [query])[0]
            for s in range(n)
        ]
        order = sorted(range(n), key=lambda s: -float(alone[s]))
        assert own == order[:4] + [-1] * (len(own) - n)


@torch.no_grad()
def test_what_was_read_is_read_again_once_forgotten(checkpoint, monkeypatch):
    """Which slots are read at once may decide the last bit of what they say: a shard of questions begins with none."""
    model = checkpoint.model
    whole, _ = model.document_slots()
    calls = []
    monkeypatch.setattr(model.codec, "read", lambda z, v: calls.append(len(z)) or TokenCodec.read(model.codec, z, v))
    model._read(whole[:1, :4])
    model._read(whole[:1, :4])
    model.forget_readings()
    model._read(whole[:1, :4])
    assert calls == [4, 4]


@torch.no_grad()
def test_what_was_read_is_kept_while_the_codec_stays(checkpoint, monkeypatch):
    """Whatever is asked for in which order, it is what the codec says; other weights say something else at once."""
    monkeypatch.setattr(slot_cache, "_KEPT", 5)
    model = checkpoint.model
    whole, _ = model.document_slots()
    calls = []
    monkeypatch.setattr(model.codec, "read", lambda z, v: calls.append(len(z)) or TokenCodec.read(model.codec, z, v))

    def same(z):
        for own, fresh in zip(model._read(z), TokenCodec.read(model.codec, z, model.vocabulary), strict=True):
            assert torch.equal(own, fresh)

    for z in (whole[:1, :4], whole[:1, :4].flip(1), whole[:2, :2], whole, whole[:, :1]):
        same(z)
    assert len(model._kept_slots._kept) == 5
    calls.clear()
    for _ in range(3):
        same(whole[:1, :3])
    assert sum(calls) <= 3
    model.codec.up.weight.mul_(-1.0)
    same(whole[:1, :3])
    assert sum(calls) > 3


@torch.no_grad()
def test_whether_something_answers_is_what_the_llm_does_not_refuse(checkpoint):
    """As if it were asked to quote and its first token looked at."""
    model = checkpoint.model
    system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=1)
    ((_, features, _),) = system.candidates([QUESTIONS[0].question])
    judged = features[:, SENTENCE_FEATURES.index("answers")]
    found, routed, queries = system._route_and_read([QUESTIONS[0].question])
    places = [(int(routed.rows[0, s.place]), s.span) for s in found[0].spans[:4]]
    lines = [model.vectors(*slots_of(model, [row], [span]))[0] for row, span in places]
    prompt = model.quote_prompt([lines], [queries[0][0]])
    logits = model.backbone.lm(
        inputs_embeds=prompt.embeds, attention_mask=prompt.mask, position_ids=prompt.position_ids
    ).logits[0, -1]
    refused = torch.softmax(logits.float(), -1)[model.backbone.eos_id]
    assert judged.tolist() == pytest.approx([float(torch.log1p(-refused))] * len(judged), abs=1e-5)
    assert len(lines) == 4


def test_other_slots_are_read_instead(checkpoint):
    """Free evidence follows the slots that are read, not the question's document."""
    probe = Probe(checkpoint, QUESTIONS, as_given=True)
    model = checkpoint.model
    other = slots_of(model, [0], [0])
    assert model.drafts(*other) != model.drafts(*slots_of(model, [1], [0]))
    assert len(probe.free_texts([(0, 1), (0, 0)])) == 2


@pytest.mark.parametrize("order", [0, 1, 2])
def test_an_update_writes_what_writing_afresh_would(qwen3_folder, checkpoint, order):
    rng = random.Random(order)
    changed = [
        replace(DOCUMENTS[0], text="Town 0 has lanes in Tessamor. Town 0 has many more towers than it had ever before.")
    ]
    new = [Document("n", "New", "New has wells."), *changed, *DOCUMENTS[1:]][order:]
    rng.shuffle(new)
    updated = update_memory(checkpoint, new, (), checkpoint.settings.writing)
    fresh = written(qwen3_folder, new).model
    fresh.router.load_state_dict(checkpoint.model.router.state_dict())
    fresh.codec.load_state_dict(checkpoint.model.codec.state_dict())
    made = write_documents(fresh, new, (), checkpoint.settings.writing)
    fresh.remember(new, made.z, made.spans)
    for name, tensor in fresh.stored_memory().items():
        own = updated.model.stored_memory()[name]
        if name.startswith("keys"):
            assert torch.allclose(own.float(), tensor.float(), atol=1.5), name  # other batches round otherwise
        else:
            assert torch.equal(own, tensor), name


def test_four_bit_weights_read_and_write(qwen3_folder):
    pytest.importorskip("bitsandbytes")
    own = written(qwen3_folder, quantization="nf4")
    model = own.model
    texts = rebuild(model, *slots_of(model, [1], [0]), 8)
    assert len(texts) == 1
    found = create_system("zrag", own, own.settings.decoding, threads=1).retrieve(QUESTIONS)
    assert all(item.segments for item in found)


def test_all_of_the_memory_stands_before_the_question(checkpoint):
    from zrag_core.model.inference.full_prefix import FullPrefixSystem
    from zrag_core.model.inference.language_prefix import read_prefix

    prefix = read_prefix(checkpoint.model)
    text_tokens = sum(len(ids) for d in DOCUMENTS for ids in sentence_ids(checkpoint.model.backbone, d.text))
    assert prefix.slots > text_tokens
    found = FullPrefixSystem("full", checkpoint, checkpoint.settings.decoding, threads=1).retrieve(QUESTIONS)
    assert [item.question_id for item in found] == ["q0", "q1"]


def test_documents_without_title_or_sentence_are_kept_and_not_found(qwen3_folder, tmp_path):
    odd = (Document("bare", "", "Nothing but mills."), Document("dots", "Dots", "..."), *DOCUMENTS[:1])
    own = written(qwen3_folder, odd)
    save_checkpoint(tmp_path / "m", own.model, odd, own.settings, checkpoint_id="m", metrics={}, origin=own.origin)
    again = load_checkpoint(tmp_path / "m")
    found = create_system("zrag", again, own.settings.decoding, threads=1).retrieve(QUESTIONS)
    assert all({"bare", "d0"} <= set(item.document_ids) for item in found)


def test_only_the_last_layers_are_adapted(qwen3_folder):
    for last, layers in ((1, {1}), (None, {0, 1}), (5, {0, 1})):
        settings = BackboneSettings(name=str(qwen3_folder), lora=LoraSettings(rank=2, alpha=2, last_layers=last))
        lm = create_backbone(settings, (), seed=0).lm
        adapted = {name.split(".layers.")[1].split(".")[0] for name, _ in lm.named_parameters() if "lora_A" in name}
        assert adapted == {str(layer) for layer in layers}


@pytest.mark.parametrize("rounded", [True, False])
def test_an_adapter_is_stored_in_the_cheapest_numbers_that_lose_nothing(qwen3_folder, tmp_path, rounded):
    settings = settings_of(qwen3_folder).backbone
    backbone = create_backbone(settings, (), seed=0)
    with torch.no_grad():
        for parameter in backbone.trainable():
            parameter.normal_(std=0.05)
            if rounded:
                parameter.copy_(parameter.half())
    own = {name: p.clone() for name, p in backbone.lm.named_parameters() if p.requires_grad}
    backbone.merge()  # what is stored is the adapter, wherever it is
    backbone.save(tmp_path)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16 if rounded else torch.float32}
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    again = dict(load_backbone(settings, tmp_path, trainable=True).lm.named_parameters())
    assert own
    for name, value in own.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loaded_adapter_is_in_the_weights_as_peft_would_put_it_there(qwen3_folder, tmp_path, dtype):
    settings = settings_of(qwen3_folder).backbone.model_copy(update={"dtype": dtype})
    backbone = create_backbone(settings, (), seed=0)
    with torch.no_grad():
        for parameter in backbone.trainable():
            parameter.normal_(std=0.1)
    backbone.save(tmp_path / "one")
    slow = load_backbone(settings, tmp_path / "one", trainable=True)
    slow.merge()
    quick = load_backbone(settings, tmp_path / "one")
    ids = torch.arange(12)[None]
    expected, found, untouched = (
        one.logits(one.hidden(one.embed(ids), torch.ones_like(ids)))
        for one in (slow, quick, create_backbone(settings, (), seed=0))
    )
    assert torch.equal(found, expected)
    assert not torch.allclose(found, untouched, atol=1e-2)
    quick.save(tmp_path / "two")
    for file in (tmp_path / "one" / "adapter").iterdir():
        assert (tmp_path / "two" / "adapter" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("cut", [0, 200])
def test_a_damaged_adapter_is_refused(qwen3_folder, tmp_path, cut):
    settings = settings_of(qwen3_folder).backbone
    create_backbone(settings, (), seed=0).save(tmp_path)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors"):
        load_backbone(settings, tmp_path)


def test_keys_are_those_of_the_layers_however_often_they_are_made(checkpoint):
    """Oracle: the hidden states that the decoder itself returns, before anything else asked for them."""
    model = checkpoint.model
    texts = [model.backbone.encode("Town 1 has bridges."), model.backbone.encode("Where?")]
    ids = torch.tensor([texts[0]])
    states = model.backbone.decoder(input_ids=ids, output_hidden_states=True).hidden_states
    expected = states[1][0, 1:].mean(0)  # of two layers, both shares are the first one
    for _ in range(3):
        found = model.features(texts)
        # The first layer is the last one that is run, whose states are normed.
        normed = model.backbone.decoder.norm(states[1])[0, 1:].mean(0)
        assert torch.allclose(found[0], torch.cat([normed, normed]), atol=1e-4)
    assert not torch.allclose(expected, normed)


@pytest.mark.parametrize("damage", ["ranking of a newer version", "no relevance beside a weight for it"])
def test_heads_that_do_not_fit_are_no_older_version(damage, checkpoint):
    """Nothing is cut off, and nothing that is weighed is left at zero, in silence."""
    model = checkpoint.model
    heads = {name: value.clone() for name, value in model.head_state().items()}
    if damage.startswith("ranking"):
        heads["ranking"] = torch.cat([heads["ranking"], heads["ranking"][..., :1]], -1)
    else:
        heads = {name: value for name, value in heads.items() if not name.startswith("relevance.")}
    with pytest.raises((ValueError, RuntimeError), match=r"ranking|relevance"):
        load_heads(model, heads)


@pytest.mark.parametrize(("bias", "read"), [(-10.0, 4), (10.0, 2), (0.0, 2)])
def test_what_leaves_it_unsure_is_a_reason_to_read_more(checkpoint, bias, read):
    checkpoint.model.confidence.zero_()
    checkpoint.model.confidence[-1] = bias  # all zero: never fitted
    few = checkpoint.settings.decoding.model_copy(update={"read_sentences": 2})
    own, wider = (
        create_system("zrag", checkpoint, decoding).candidates(["Where are the towers?", "Is there an inn?"])
        for decoding in (few, few.model_copy(update={"read_sentences": read}))
    )
    for (segments, features, _), (others, expected, _) in zip(own, wider, strict=True):
        assert len(segments) == read
        # Every sentence is ranked and judged as if all had been read at once (the wider one looks again, too).
        texts = [segment.text for segment in segments]
        kept = [n for n, segment in enumerate(others) if segment.text in texts]
        assert texts == [others[n].text for n in kept]
        judged = SENTENCE_FEATURES.index("answers")  # of the best ones, whichever were read
        mine, theirs = features.clone(), expected[kept].clone()
        mine[:, judged] = theirs[:, judged] = 0
        torch.testing.assert_close(mine, theirs)
