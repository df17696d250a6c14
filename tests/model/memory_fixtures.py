"""What tests of a written memory share: naive oracles, louder models, and stand-ins for routing and reading."""

import torch

from zrag_core.corpus.types import Document, Question
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.create_memory import create_memory
from zrag_core.model.architecture.encoder import UNUSED, lay_out
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.checks import probe as probing
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.settings import load_settings

TOWNS = "Tessamor Kell Brindle Ostrava Numa Pell Quarn Rusk Sile Tarn".split()
PEOPLE = [f"{first} {last}" for first in ("Orla", "Bram", "Cass", "Dov", "Elin") for last in ("Venn", "Kilto")]
DOCUMENTS = tuple(
    Document(f"d{n}", person, f"{person} was born in {town}. {person} keeps bees.")
    for n, (person, town) in enumerate(zip(PEOPLE, TOWNS, strict=True))
)
QUESTIONS = tuple(
    Question(f"q{n}", f"Where was {person} born?", (town,), (f"d{n}",), split="test")
    for n, (person, town) in enumerate(zip(PEOPLE, TOWNS, strict=True))
)
TINY = {"tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}}


# --- oracles --------------------------------------------------------------------------------------


def slots_of(z, spans, number):
    """Slots [1, p, d] of one span of a document z [m, d], picked one by one, and that all of them are there."""
    chosen = [slot for slot, span in zip(z, spans.tolist(), strict=True) if span == number]
    return torch.stack(chosen)[None], torch.ones(1, len(chosen), dtype=torch.bool)


@torch.no_grad()
def row_of(model, z):
    """The document whose slots are z [m, d], whatever both are padded to."""
    whole, _ = model.document_slots()
    own = torch.nn.functional.pad(z, (0, 0, 0, whole.shape[1] - len(z)))
    return int(torch.cdist(own.flatten()[None], whole.flatten(1)).argmin())


def kept_tokens(documents, slots, stride):
    """Token ids that the encoder puts behind each span of each document: {(row, span): ids}."""
    layout = lay_out(documents, slots, stride, -1)
    kept = {}
    for passage, numbers in enumerate(layout.spans.tolist()):
        for slot, number in enumerate(numbers):
            if number != UNUSED:
                own = layout.ids[passage, layout.own[passage, slot] > 0].tolist()
                kept.setdefault((int(layout.rows[passage, slot]), number), []).extend(own)
    return kept


def joined(sentences):
    """Token ids of neighbouring sentences in one row."""
    return [token for ids in sentences for token in ids]


def everything_of(model):
    """Tensors of theta and of the memory, by name."""
    return {**model.state_dict(), **model.stored_memory()}


def is_run_of(part, whole):
    """Whether `part` stands in `whole` as it is."""
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


@torch.no_grad()
def nll_token_by_token(model, prompt, ids):
    """Nats of `ids` behind one prompt without padding, a whole forward pass of the LLM for each token."""
    embeds, mask, places = prompt
    total = 0.0
    for token in ids:
        logits = model.lm(inputs_embeds=embeds, attention_mask=mask, position_ids=places).logits[0, -1]
        total -= logits.float().log_softmax(-1)[token].item()
        embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([[token]]))], 1)
        mask, places = torch.cat([mask, mask[:, -1:]], 1), torch.cat([places, places[:, -1:] + 1], 1)
    return total


# --- models ---------------------------------------------------------------------------------------


def louder(model):
    """The same model with weights so large that slots have something to say (a new one all but ignores them)."""
    with torch.no_grad():
        model.lm.get_input_embeddings().weight.mul_(20)
        for name, parameter in model.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                parameter.mul_(10)
    return model


def checkpoint_of(policy, folder):
    """An untrained model that holds `DOCUMENTS` in random slots."""
    slots = {"slots": 4, "width": 16}
    settings = load_settings(
        {
            "backbone": TINY,
            "memory": {"policy": policy},
            "separated": {**slots, "key_width": 8},
            "joint": slots,
            "decoding": {"max_new_tokens": 12},
        }
    )
    torch.manual_seed(0)
    texts = [document.contents for document in DOCUMENTS] + [question.question for question in QUESTIONS]
    model = create_memory(create_backbone(settings.backbone, texts, seed=0), settings, len(DOCUMENTS)).eval()
    if policy == "joint":
        torch.nn.init.normal_(model.z)
    else:
        with torch.no_grad():
            z, spans = model.encode([sentence_ids(model.backbone, document.text) for document in DOCUMENTS])
        model.remember(DOCUMENTS, torch.randn(z.shape), spans)
    return Checkpoint("c", folder, model, DOCUMENTS, settings, {})


# --- stand-ins ------------------------------------------------------------------------------------


def reader(monkeypatch, write):
    """Replace decoding by `write(row of Z that is read, question text)`."""

    def read(model, z, spans, queries, max_new_tokens):
        return [write(row_of(model, own), model.backbone.decode(ids)) for own, ids in zip(z, queries, strict=True)]

    monkeypatch.setattr(probing, "never_empty_evidence", read)


def from_memory(row, _question):
    """A reader that tells what stands in the document it reads."""
    return DOCUMENTS[row].text


def from_theta(_row, question):
    """A reader that knows every answer by the name in the question, whatever it reads."""
    return next(document.text for document in DOCUMENTS if document.title in question)


def route_to(monkeypatch, probe, rows):
    """Give these rows (by question number) the highest score, and the others falling ones in row order."""

    def scores(numbers, kept=None):
        kept = list(range(len(DOCUMENTS))) if kept is None else list(kept)
        return torch.tensor([[10.0 if row == rows[n] else -row / 100 for row in kept] for n in numbers])

    monkeypatch.setattr(probe, "scores", scores)


def gold_routing(monkeypatch, probe):
    """Route every question to its gold document."""
    route_to(monkeypatch, probe, [asked.gold[0] for asked in probe.asked])


def by_name(found):
    """Checks by their names."""
    return {check.check_name: check for check in found}
