"""The audit of evidence targets: what they cover, how long they are, what is doubtful about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zrag_core.corpus.offsets import holds_answer, unsupported_text
from zrag_core.corpus.splits import form_wordings, wording_keys
from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.text import comparison_key, evidence_tokens

_EXAMPLES = 5
_PERCENTILES = (5, 25, 50, 75, 95, 100)


@dataclass(frozen=True, slots=True)
class Finding:
    """How often something doubtful occurs, with the ids of the first cases."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetAudit:
    """What `audit_targets` found.

    Attributes:
        questions: answerable questions per split.
        unanswerable: questions without an answer, which need no target.
        coverage: split -> method -> share of its answerable questions with such a target; "any" is the sum.
        self_study_targets: self-study queries beside the questions.
        llm_targets: questions written by an LLM beside the questions; they are trained on like self-study queries.
        length_percentiles: of the questions' targets, in evidence tokens, keys "p5" to "p100"; empty without any.
        without_target: answerable questions that have none.
        duplicate_questions: questions whose words an earlier one has.
        duplicate_targets: targets with the query and evidence of an earlier one.
        leaked_questions: questions, and questions written by an LLM, whose words stand in another split as well
            (see `wording_keys`); those without an answer are held against written ones alone.
        leaked_evidence: targets of these whose (document, evidence) is a target of another split as well; for
            synthetic questions self-study targets count, which otherwise cover every sentence on purpose.
        leaked_facts: answerable questions whose `fact_id` stands in another split as well.
        answer_not_in_evidence: targets of questions that do not hold an answer (yes/no ones left out).
        evidence_not_in_documents: targets of questions with words that none of their documents has in that place.
    """

    questions: Mapping[str, int]
    unanswerable: int
    coverage: Mapping[str, Mapping[str, float]]
    self_study_targets: int
    llm_targets: int
    length_percentiles: Mapping[str, float]
    without_target: Finding
    duplicate_questions: Finding
    duplicate_targets: Finding
    leaked_questions: Finding
    leaked_evidence: Finding
    leaked_facts: Finding
    answer_not_in_evidence: Finding
    evidence_not_in_documents: Finding

    @property
    def leaks(self) -> int:
        """All cases of leakage between splits; 0 is what evaluation needs."""
        return self.leaked_questions.count + self.leaked_evidence.count + self.leaked_facts.count


def audit_targets(corpus: Corpus, targets: Sequence[EvidenceTarget]) -> TargetAudit:
    """Examine the targets of a corpus.

    Args:
        corpus: its questions have their splits.
        targets: what `build_targets` made, and questions that an LLM wrote (method "llm").
    """
    by_id = {question.id: question for question in corpus.questions}
    written = [target for target in targets if target.method == "llm"]
    asked = [target for target in targets if target.id in by_id and target.method != "llm"]
    study = [target for target in targets if target.id not in by_id and target.method == "self_study"]
    answerable = [question for question in corpus.questions if question.split != "unanswerable"]
    have = {target.id for target in asked}
    texts = {document.id: document.text for document in corpus.documents}
    return TargetAudit(
        questions=dict(sorted(Counter(question.split for question in answerable).items())),
        unanswerable=len(corpus.questions) - len(answerable),
        coverage=_coverage(answerable, asked),
        self_study_targets=len(study),
        llm_targets=len(written),
        length_percentiles=_percentiles([evidence_tokens(target.evidence) for target in asked]),
        without_target=_finding(question.id for question in answerable if question.id not in have),
        duplicate_questions=_finding(_repeats((q.id, comparison_key(q.question)) for q in corpus.questions)),
        duplicate_targets=_finding(
            _repeats((t.id, (comparison_key(t.query), comparison_key(t.evidence))) for t in targets)
        ),
        leaked_questions=_finding(_leaked_questions(corpus.questions, written)),
        leaked_evidence=_finding(_leaked_evidence(asked, study, written)),
        leaked_facts=_finding(_leaks((q.id, q.split, [q.fact_id] if q.fact_id else []) for q in answerable)),
        answer_not_in_evidence=_finding(t.id for t in asked if _lacks_answer(t, by_id[t.id])),
        evidence_not_in_documents=_finding(t.id for t in asked if _lacks_source(t, texts)),
    )


def _finding(ids: Iterable[str]) -> Finding:
    found = list(ids)
    return Finding(len(found), tuple(found[:_EXAMPLES]))


def _coverage(questions: Sequence[Question], targets: Sequence[EvidenceTarget]) -> dict[str, dict[str, float]]:
    totals = Counter(question.split for question in questions)
    counts = Counter((target.split, target.method) for target in targets)
    coverage: dict[str, dict[str, float]] = {}
    for split, total in sorted(totals.items()):
        methods = {method: n / total for (of, method), n in sorted(counts.items()) if of == split}
        coverage[split] = {**methods, "any": sum(n for (of, _), n in counts.items() if of == split) / total}
    return coverage


def _percentiles(lengths: Sequence[int]) -> dict[str, float]:
    if not lengths:
        return {}
    values = np.percentile(lengths, _PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(_PERCENTILES, values, strict=True)}


def _repeats(keyed: Iterable[tuple[str, Hashable]]) -> list[str]:
    seen: set[Hashable] = set()
    repeats = []
    for item_id, key in keyed:
        if key in seen:
            repeats.append(item_id)
        seen.add(key)
    return repeats


def _leaks(items: Iterable[tuple[str, str, Sequence[Hashable]]]) -> list[str]:
    """Ids of (id, split, keys) items one of whose keys occurs in another split."""
    listed = list(items)
    sides: dict[Hashable, set[str]] = defaultdict(set)
    for _, split, keys in listed:
        for key in keys:
            sides[key].add(split)
    return [item_id for item_id, _, keys in listed if any(len(sides[key]) > 1 for key in keys)]


def _leaked_questions(questions: Sequence[Question], written: Sequence[EvidenceTarget]) -> list[str]:
    forms = form_wordings(questions)
    own = [(q.id, q.split, wording_keys(q.question, q.document_ids, forms)) for q in questions]
    new = [(target.id, target.split, wording_keys(target.query, target.document_ids, forms)) for target in written]
    # No training question has the words of an unanswerable one by its own doing; a written one must not.
    answerable = [item for item in own if item[1] != "unanswerable"]
    refused = [item for item in own if item[1] == "unanswerable"]
    leaked = {*_leaks([*answerable, *new]), *_leaks([*refused, *new])}
    return [item_id for item_id, _, _ in (*own, *new) if item_id in leaked]


def _leaked_evidence(
    asked: Sequence[EvidenceTarget], study: Sequence[EvidenceTarget], written: Sequence[EvidenceTarget]
) -> list[str]:
    synthetic = [target for target in asked if target.method == "self_study"]
    human = [target for target in asked if target.method != "self_study"]
    leaked = set(_leaks(map(_placed, [*human, *written])))
    leaked |= set(_leaks(map(_placed, [*synthetic, *study, *written])))
    return [target.id for target in (*asked, *written) if target.id in leaked]


def _placed(target: EvidenceTarget) -> tuple[str, str, list[Hashable]]:
    evidence = comparison_key(target.evidence)
    return target.id, target.split, [(document_id, evidence) for document_id in target.document_ids]


def _lacks_answer(target: EvidenceTarget, question: Question) -> bool:
    return holds_answer(target.evidence, question.golden_answers, question.language) is False


def _lacks_source(target: EvidenceTarget, texts: Mapping[str, str]) -> bool:
    return bool(unsupported_text(target.evidence, [texts[document_id] for document_id in target.document_ids]))
