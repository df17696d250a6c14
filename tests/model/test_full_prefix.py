"""All of Z as one prefix: the cache changes nothing, a single span is read as it always is, and limits are named."""

import pytest
import torch
from memory_fixtures import louder, slots_of

from zrag_core.corpus.types import Document, Question
from zrag_core.errors import SettingsError
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.inference import full_prefix
from zrag_core.model.inference import prefix as prefixes
from zrag_core.model.inference.decoder import generate
from zrag_core.model.inference.full_prefix import FullPrefixSystem
from zrag_core.model.inference.prefix import Prefix, decode
from zrag_core.model.store.checkpoint import Checkpoint

ASKED = ("Where was Orla Venn born?", "How deep is Lake Munar, and what nests there?", "서린도는 어디에 있나?")
QUESTIONS = [Question(f"q{n}", text) for n, text in enumerate(ASKED)]


@pytest.fixture
def separated(writer, documents):
    """Untrained, but loud; one document has no sentence."""
    documents = (*documents, Document("e", "Empty", ""))
    louder(writer)
    with torch.no_grad():
        writer.remember(documents, *writer.encode([sentence_ids(writer.backbone, d.text) for d in documents]))
    return writer


@pytest.fixture
def joint(model):
    return louder(model)


@pytest.fixture(params=["separated", "joint"])
def either(request):
    return request.getfixturevalue(request.param)


def uncached(model, query, limit):
    """Greedy ids without any cache: the whole sequence is read again for each token.

    Each span sees itself alone (causally), what follows sees everything before it.
    """
    z, spans = model.document_slots()
    units = [(row, span) for row in range(len(z)) for span in range(int(spans[row].max()) + 1)]
    parts, places, owners = [], [], []
    for number, (row, span) in enumerate(units):
        embeds, _, own = model.prompt(*slots_of(z[row], spans[row], span), [query])
        p = slots_of(z[row], spans[row], span)[0].shape[1]
        parts.append(embeds[:, :p])
        places.append(own[:, :p])
        owners += [number] * p
    width = max(int((spans == s).sum(1).max()) for s in range(int(spans.max()) + 1))
    behind, _, own = model.prompt(torch.zeros(1, width, z.shape[2]), torch.ones(1, width).bool(), [query])
    embeds = torch.cat([*parts, behind[:, width:]], 1)
    places = torch.cat([*places, own[:, width:]], 1)
    owners += [-1] * (embeds.shape[1] - len(owners))
    ids = []
    while len(ids) < limit:
        owner = torch.tensor(owners)
        sees = (owner[:, None] == owner) | (owner[:, None] == -1)
        mask = (sees & torch.ones(len(owner), len(owner)).tril().bool())[None, None]
        token = int(model.backbone.logits(model.backbone.hidden(embeds, mask, places)[0, -1]).argmax())
        if token == model.backbone.eos_id:
            break
        ids.append(token)
        embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([[token]]))], 1)
        places, owners = torch.cat([places, places[:, -1:] + 1], 1), [*owners, -1]
    return ids


@torch.no_grad()
def test_decoding_behind_the_cached_prefix_is_decoding_without_a_cache(either, monkeypatch):
    monkeypatch.setattr(prefixes, "_SPANS", 3)  # the prefix is made in several parts
    queries = [either.backbone.encode(text) for text in ASKED]
    expected = [uncached(either, query, 8) for query in queries]
    assert len({tuple(ids) for ids in expected}) > 1
    prefix = Prefix.read(either)
    assert prefix.slots == int((either.document_slots()[1] >= 0).sum())
    assert decode(either, prefix, queries, 8) == [either.backbone.decode(ids) for ids in expected]


@torch.no_grad()
def test_the_prefix_serves_many_questions_and_stays_as_it_is(either):
    queries = [either.backbone.encode(text) for text in ASKED]
    prefix = Prefix.read(either)
    before = [part.clone() for layer in prefix.layers for part in layer]
    together = decode(either, prefix, queries, 6)
    assert [decode(either, prefix, [query], 6)[0] for query in queries] == together
    assert decode(either, prefix, queries, 6) == together
    assert all(torch.equal(*pair) for pair in zip(before, (p for layer in prefix.layers for p in layer), strict=True))


@torch.no_grad()
def test_a_memory_of_a_single_span_is_read_as_it_always_is(writer):
    louder(writer)
    documents = (Document("d", "Orla Venn", "Orla Venn was born in Tessamor."),)
    writer.remember(documents, *writer.encode([sentence_ids(writer.backbone, documents[0].text)]))
    queries = [writer.backbone.encode(text) for text in ASKED]
    z, used = (part.expand(3, *part.shape[1:]) for part in slots_of(*(own[0] for own in writer.document_slots()), 0))
    written = decode(writer, Prefix.read(writer), queries, 8)
    assert written == generate(writer, z, used, queries, 8)
    assert len(set(written)) > 1


@torch.no_grad()
def test_every_slot_has_a_part_in_what_is_written(joint):
    query = [joint.backbone.encode(ASKED[0])]
    before = decode(joint, Prefix.read(joint), query, 8)
    for row in range(len(joint.z)):
        kept = joint.z[row].clone()
        joint.z[row] = 30 * torch.randn(kept.shape, generator=torch.Generator().manual_seed(row))
        assert decode(joint, Prefix.read(joint), query, 8) != before, row
        joint.z[row] = kept


def test_as_a_system_it_writes_and_ranks_nothing(separated, skill_settings, documents, tmp_path, monkeypatch):
    checkpoint = Checkpoint("s", tmp_path, separated, (*documents, Document("e", "Empty", "")), skill_settings, {})
    decoding = skill_settings.decoding.model_copy(update={"max_new_tokens": 6})
    system = FullPrefixSystem("zrag_full_prefix", checkpoint, decoding, threads=1)
    found = system.retrieve(QUESTIONS)
    assert [item.question_id for item in found] == ["q0", "q1", "q2"]
    assert all(item.text and item.latency_ms > 0 for item in found)
    assert all(item.document_ids == item.segments == () and item.confidence is None for item in found)
    # One at a time, where the copies of a batch would take too much memory.
    monkeypatch.setattr(full_prefix, "_BATCH_BYTES", 1)
    assert [item.text for item in system.retrieve(QUESTIONS)] == [item.text for item in found]


@torch.no_grad()
def test_a_memory_without_a_sentence_is_read_as_an_empty_slot(writer):
    documents = (Document("e", "Empty", ""),)
    writer.remember(documents, *writer.encode([[]]))
    assert Prefix.read(writer).slots == 1
    assert len(decode(writer, Prefix.read(writer), [writer.backbone.encode("Where?")], 4)) == 1


def test_too_large_a_memory_is_one_clear_line(separated, monkeypatch):
    monkeypatch.setattr(prefixes, "MOST_SLOTS", 5)
    with pytest.raises(SettingsError, match=r"evaluation.systems: .*at most 5 are read at once -> leave it out"):
        Prefix.read(separated)
