"""Questions written by an LLM become targets only where they do not train on what is evaluated."""

import json

import dagster as dg
import pytest
from faulty_server import Reply, serving

from zrag_core.corpus.audit import audit_targets
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import SettingsError
from zrag_core.settings import load_settings
from zrag_pipeline.defs.evidence.audit_report import audit_checks, audit_markdown, audit_metrics
from zrag_pipeline.defs.evidence.llm_targets import llm_targets, without_leaks

VALE = Document("vale", "Orrin Vale", "Orrin Vale was a painter. He was born in 1931 at Sorn. He died in Sorn.")
SEOUL = Document("서울", "서울", "서울은 대한민국의 수도이다. 한강이 서울을 가로지른다.")
CORPUS = Corpus(
    "c",
    (VALE, SEOUL),
    (
        Question("born", "When was Orrin Vale born?", ("1931",), ("vale",), split="test"),
        Question("river", "서울을 가로지르는 강은?", ("한강",), ("서울",), split="dev", language="ko"),
        Question("trade", "What was Orrin Vale?", ("painter",), ("vale",), split="train"),
        Question("none", "Whom did Orrin Vale marry?", split="unanswerable"),
    ),
)
WRITTEN = {
    "Orrin Vale": [
        ("Which trade did Orrin Vale follow?", "Orrin Vale was a painter."),
        ("when was ORRIN VALE born", "He died in Sorn."),
        ("Whom did Orrin Vale marry?", "He died in Sorn."),
        ("Orrin Vale's year of birth?", "He was born in 1931 at Sorn."),
        ("Orrin Vale's place of birth?", "born in 1931 at Sorn"),
        ("Orrin Vale's birth and death?", "He was born in 1931 at Sorn. He died in Sorn."),
        ("Where did Orrin Vale die?", "He died in Sorn."),
    ],
    "서울": [
        ("서울은 어느 나라의 수도인가?", "서울은 대한민국의 수도이다."),
        ("서울의 강 이름은?", "한강이 서울을 가로지른다."),
    ],
}
CLEAN = ["Which trade did Orrin Vale follow?", "Where did Orrin Vale die?", "서울은 어느 나라의 수도인가?"]


def settings(url, per_document=7, **answers):
    return load_settings(
        {
            "targets": {"llm_questions_per_document": per_document},
            "answers": {"reader": "openai", "base_url": url, "model": "writer", **answers},
        }
    )


def behave(prompt, _before):
    (title,) = (title for title in WRITTEN if f"itle: {title}" in prompt or f"제목: {title}" in prompt)
    rows = [{"question": question, "evidence": evidence} for question, evidence in WRITTEN[title]]
    return Reply(text="\n".join(json.dumps(row, ensure_ascii=False) for row in rows))


def test_what_is_evaluated_is_left_out_and_counted(tmp_path):
    with serving(behave) as server:
        targets, summary = llm_targets(CORPUS, settings(server.url), {}, tmp_path / "answers.sqlite")
    assert [target.query for target in targets] == CLEAN
    assert {(target.method, target.split) for target in targets} == {("llm", "train")}
    assert summary == ("3 questions written by writer; rejected: 2 asked in the corpus, 4 evidence held out")
    own = build_targets(CORPUS, settings(server.url).targets, 0)
    audit = audit_targets(CORPUS, [*own, *targets])
    assert audit.leaks == 0
    assert audit.llm_targets == 3


def test_the_same_sentence_in_another_document_is_no_leak():
    target = EvidenceTarget("x", "Which year?", ("서울",), "He was born in 1931 at Sorn.", "llm", "train")
    assert without_leaks([target], CORPUS) == ([target], {})


def test_an_answering_model_is_needed(tmp_path):
    with pytest.raises(SettingsError, match=r"^targets\.llm_questions_per_document: .* -> export OPENAI_API_KEY"):
        llm_targets(CORPUS, settings(None, reader="auto"), {}, tmp_path / "answers.sqlite")


def test_the_report_counts_llm_questions_and_they_can_be_trained_on():
    target = EvidenceTarget("llm-1", "Which trade?", ("vale",), "Orrin Vale was a painter.", "llm", "train")
    asked = Corpus("c", CORPUS.documents, CORPUS.questions[:1])
    audit = audit_targets(asked, [target])
    assert audit_metrics(audit)["llm_targets"] == 1
    assert "0 self-study targets; 1 questions written by an LLM" in audit_markdown(audit)
    checks = {check.check_name: check for check in audit_checks(audit)}
    assert checks["training_targets"].passed
    assert checks["no_leakage"].passed
    leaking = EvidenceTarget("llm-2", "When was Orrin Vale born", ("vale",), "He died in Sorn.", "llm", "train")
    checks = {check.check_name: check for check in audit_checks(audit_targets(asked, [leaking]))}
    assert not checks["no_leakage"].passed
    assert checks["no_leakage"].metadata["leaked_questions"] == dg.MetadataValue.int(2)
