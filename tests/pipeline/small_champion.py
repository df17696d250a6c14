"""A champion that holds a handful of short documents, written by the shipped skill, with its corpus on record."""

from datetime import UTC, datetime

from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.corpus.version import corpus_version
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.model.store.skill_folder import read_skill_config, shipped_skill
from zrag_core.settings import load_settings
from zrag_pipeline.defs.memory.separated_memory import write_memory
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, write_champion
from zrag_pipeline.platform.handles import SkillReference
from zrag_pipeline.platform.warehouse import Warehouse

TEXTS = {
    "orrin": ("Orrin Vale", "Orrin Vale was born in Kell in the year 1931. He painted the harbours of the north."),
    "tarn": ("Tarn Bridge", "Tarn Bridge spans the river Ostel. It was built by seven masons in one dry summer."),
    "mill": ("Mill of Numa", "The mill of Numa grinds rye for three villages. Its wheel was made by Bram Kilto."),
    "bees": ("Elin Venn", "Elin Venn keeps forty hives on the hill. Her honey won a medal at the fair of Pell."),
    "마을": ("하늘마을 이야기", "하늘마을은 북쪽 산에 있는 작은 마을이다. 이장은 언제나 김보람이라는 사람이다."),
}
DOCUMENTS = tuple(Document(name, title, text, source_id=name) for name, (title, text) in TEXTS.items())
QUESTIONS = (
    Question("q1", "In which town was the painter Orrin Vale born?", ("Kell",), ("orrin",), split="test"),
    Question("q2", "Which river does the bridge span?", ("Ostel",), ("tarn",), split="test"),
    Question("q3", "What did the honey win at the fair?", ("a medal",), ("bees",), split="train"),
)
CORPUS = Corpus("towns", DOCUMENTS, QUESTIONS)


def make_champion(steps: int = 0) -> Champion:
    """Write `CORPUS` and make that the champion of the data folder that is set."""
    settings = load_settings({"corpus": {"format": "almanac"}, "backbone": {"threads": 1}, "writing": {"steps": steps}})
    warehouse = Warehouse(paths.warehouse_file())
    version = corpus_version(DOCUMENTS)
    warehouse.save_corpus(version, CORPUS)
    warehouse.save_targets(version, build_targets(CORPUS, settings.targets, 0))
    folder = shipped_skill()
    skill = SkillReference(read_skill_config(folder)["skill_id"], folder, checkpoint_digest(folder))
    made = write_memory(settings, warehouse, version, skill, lambda line: None).checkpoint
    now = datetime.now(UTC).isoformat(timespec="seconds")
    champion = Champion(made.checkpoint_id, made.folder, version, CORPUS.name, {}, "cpu", now, "a test")
    write_champion(champion)
    return champion
