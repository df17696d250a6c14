"""Self-study: queries that a corpus asks about itself, so that every sentence can be learned without questions.

A query is the document's title and some words of one sentence, shuffled; its target is that sentence.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from zrag_core.corpus.splits import split_by_hash
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.sentences import split_sentences
from zrag_core.settings import SplitSettings
from zrag_core.text import comparison_key, detect_language, words

# Words stay together across the marks inside them: Jean-Luc, O'Neill, 3.14, U.S.
_TOKEN = re.compile(r"\w+(?:[-'’.,]\w+)*")
_FUNCTION_WORDS = frozenset(
    "a about after all also am an and any are as at be because been before being both but by can could did do does "
    "during each for from had has have he her hers him his how i if in into is it its itself may me more most my no "
    "nor not of on one only or other our out over own same she should so some such than that the their theirs them "
    "then there these they this those through to too under until up very was we were what when where which while who "
    "whom whose why will with would you your".split()
)
_SHARE = (0.3, 0.7)  # of a sentence's content words that a query holds
_NO_TITLE, _PARTIAL_TITLE = 0.15, 0.25  # how often the title is left out, or some of its words are
_LEAST_WORDS = 4  # content words that a sentence needs to be asked about in evaluation


def self_study_query(document: Document, sentence: str, rng: random.Random) -> str:
    """Make one query for a sentence of a document: its title (mostly) and 30 to 70% of the content words, shuffled.

    Without a title, the most salient phrase of the document takes its place.

    Raises:
        ValueError: the sentence holds no word (see `distinct_sentences`).
    """
    title = _TOKEN.findall(document.title) or list(_salient_phrase(document.text))
    known = {word.casefold() for word in title}
    content = [word for word in _content_words(sentence) if word.casefold() not in known] or _content_words(sentence)
    if not content:
        raise ValueError(f"no word in the sentence {sentence!r} of document '{document.id}'")
    chosen = rng.sample(content, max(1, round(len(content) * rng.uniform(*_SHARE))))
    draw = rng.random()
    if draw < _NO_TITLE:
        title = []
    elif draw < _NO_TITLE + _PARTIAL_TITLE:
        kept = set(rng.sample(range(len(title)), (len(title) + 1) // 2))
        title = [word for position, word in enumerate(title) if position in kept]
    return " ".join([*title, *chosen])


def self_study_queries(
    document: Document, per_sentence: int, rng: random.Random, *, skip: Collection[str] = ()
) -> list[EvidenceTarget]:
    """Make up to `per_sentence` different queries for every sentence of a document, as training targets.

    Args:
        document: where the sentences come from.
        per_sentence: queries for each; a sentence with few words gets fewer, since repeats are left out.
        rng: decides words and order.
        skip: sentences that are held out for evaluation, however they are written.
    """
    targets: list[EvidenceTarget] = []
    skipped = {comparison_key(sentence) for sentence in skip}
    for number, sentence in enumerate(distinct_sentences(document)):
        if comparison_key(sentence) in skipped:
            continue
        queries = dict.fromkeys(self_study_query(document, sentence, rng) for _ in range(per_sentence))
        targets += (
            EvidenceTarget(f"study:{document.id}:{number}:{n}", query, (document.id,), sentence, "self_study", "train")
            for n, query in enumerate(queries)
        )
    return targets


def distinct_sentences(document: Document) -> list[str]:
    """The different sentences of a document that hold at least one word, in order."""
    return list(dict.fromkeys(span.text for span in split_sentences(document.text) if words(span.text)))


def held_out_sentences(questions: Iterable[Question]) -> dict[str, set[str]]:
    """Map document ids to the sentences that synthetic questions hold out: self-study must not train on them."""
    held: dict[str, set[str]] = {}
    for question in questions:
        if is_synthetic(question) and question.evidence is not None:
            for document_id in question.document_ids:
                held.setdefault(document_id, set()).add(question.evidence)
    return held


def is_synthetic(question: Question) -> bool:
    """Whether a question was made by `synthetic_questions`."""
    return question.metadata.get("self_study") is True


def synthetic_questions(corpus: Corpus, seed: int, splits: SplitSettings | None = None) -> list[Question]:
    """Make dev and test questions for a corpus that has none, so that routing and reading can be measured.

    Sentences, chosen by a hash in the shares of `splits`, are held out from self-study and asked about by a
    self-study query of their own. The golden answer is the rarest content word of the sentence that the query does
    not hold: copying the query never earns coverage. Only sentences that stand once in the corpus are used. They
    measure memory, not understanding: such a query is no question that a person asks.

    Args:
        corpus: documents; its questions are ignored.
        seed: decides which sentences, and the words of the queries.
        splits: shares of the sentences for dev and test; the default settings if left out.
    """
    places = [(document, sentence) for document in corpus.documents for sentence in distinct_sentences(document)]
    occurrences = Counter(comparison_key(sentence) for _, sentence in places)
    frequency = Counter(word for document in corpus.documents for word in set(words(document.contents)))
    usable: dict[str, tuple[Document, str]] = {}
    for document, sentence in places:
        if occurrences[comparison_key(sentence)] == 1 and len(_content_words(sentence)) >= _LEAST_WORDS:
            digest = hashlib.sha256(f"{document.id}\x1f{sentence}".encode()).hexdigest()[:12]
            usable[f"study-{digest}"] = (document, sentence)
    queries = _distinct_queries(usable, seed)
    questions: list[Question] = []
    for question_id, split in split_by_hash(list(queries), splits or SplitSettings(), seed).items():
        if split == "train":
            continue
        document, sentence = usable[question_id]
        query, held_back = queries[question_id]
        rarest = min(held_back, key=lambda word: max(frequency[part] for part in words(word)))
        questions.append(
            Question(
                id=question_id,
                question=query,
                golden_answers=(rarest,),
                document_ids=(document.id,),
                evidence=sentence,
                split=split,
                language=detect_language(sentence),
                metadata={"self_study": True},
            )
        )
    return questions


def _distinct_queries(usable: Mapping[str, tuple[Document, str]], seed: int) -> dict[str, tuple[str, list[str]]]:
    """A query for each sentence and the words that it holds back; none where there are no such words, or a repeat."""
    found: dict[str, tuple[str, list[str]]] = {}
    asked: set[str] = set()
    for question_id in sorted(usable):
        document, sentence = usable[question_id]
        query = self_study_query(document, sentence, random.Random(f"{seed}:{question_id}"))
        held_back = _held_back(document, sentence, query)
        if held_back and comparison_key(query) not in asked:
            asked.add(comparison_key(query))
            found[question_id] = query, held_back
    return found


def _held_back(document: Document, sentence: str, query: str) -> list[str]:
    """Content words of the sentence that stand neither in the query nor in the title."""
    given = set(words(query)) | set(words(document.title))
    return [word for word in _content_words(sentence) if words(word) and not given & set(words(word))]


def _content_words(sentence: str) -> list[str]:
    """The different words of a sentence without function words (all words, if it has no others)."""
    tokens = list(dict.fromkeys(_TOKEN.findall(sentence)))
    return [token for token in tokens if token.casefold() not in _FUNCTION_WORDS] or tokens


@lru_cache(maxsize=8192)
def _salient_phrase(text: str) -> tuple[str, ...]:
    """The most frequent run of two or more capitalised words, else the first three content words."""
    runs: Counter[tuple[str, ...]] = Counter()
    for sentence in split_sentences(text):
        run: list[str] = []
        for token in [*_TOKEN.findall(sentence.text), ""]:
            if token[:1].isupper() and token.casefold() not in _FUNCTION_WORDS:
                run.append(token)
                continue
            if len(run) > 1:
                runs[tuple(run)] += 1
            run = []
    return runs.most_common(1)[0][0] if runs else tuple(_content_words(text)[:3])
