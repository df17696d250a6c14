-- Every table: created_at in UTC, and the commit and version of the code that wrote the row.

CREATE TABLE corpora (
    corpus_version VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    notes VARCHAR[] NOT NULL,
    n_documents INTEGER NOT NULL,
    n_questions INTEGER NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE documents (
    corpus_version VARCHAR,
    document_id VARCHAR,
    position INTEGER NOT NULL,
    title VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    content_hash VARCHAR NOT NULL,
    n_tokens INTEGER NOT NULL,
    source_id VARCHAR NOT NULL,
    source_start INTEGER NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (corpus_version, document_id)
);

CREATE TABLE questions (
    corpus_version VARCHAR,
    question_id VARCHAR,
    position INTEGER NOT NULL,
    question VARCHAR NOT NULL,
    golden_answers VARCHAR[] NOT NULL,
    document_ids VARCHAR[] NOT NULL,
    evidence VARCHAR,
    split VARCHAR NOT NULL,
    question_type VARCHAR NOT NULL,
    language VARCHAR NOT NULL,
    fact_id VARCHAR NOT NULL,
    metadata JSON NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (corpus_version, question_id)
);

CREATE TABLE evidence_targets (
    corpus_version VARCHAR,
    target_id VARCHAR,
    position INTEGER NOT NULL,
    query VARCHAR NOT NULL,
    document_ids VARCHAR[] NOT NULL,
    evidence VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (corpus_version, target_id)
);

-- document_ids and scores: the ranked documents. source_*: one entry for each verbatim piece of
-- the evidence, characters source_start to source_end of the document's text.
CREATE TABLE evidence (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    checkpoint_id VARCHAR,
    system VARCHAR,
    budget INTEGER,
    question_id VARCHAR,
    evidence VARCHAR NOT NULL,
    document_ids VARCHAR[],
    scores DOUBLE[],
    source_document_ids VARCHAR[],
    source_start INTEGER[],
    source_end INTEGER[],
    answerable BOOLEAN,
    confidence DOUBLE,
    evidence_tokens INTEGER,
    latency_ms DOUBLE,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, system, budget, question_id)
);

CREATE TABLE answers (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    evidence_run_id VARCHAR,
    system VARCHAR,
    budget INTEGER,
    question_id VARCHAR,
    reader VARCHAR,
    model VARCHAR,
    answer VARCHAR,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost_usd DOUBLE,
    latency_ms DOUBLE,
    cached BOOLEAN,
    prompt_hash VARCHAR,
    error VARCHAR,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, system, budget, question_id, reader)
);

-- reader 'none': evidence measured, nothing answered (em and f1 are NULL).
-- cluster: the document group that the bootstrap resamples.
CREATE TABLE scores (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    evidence_run_id VARCHAR,
    split VARCHAR NOT NULL,
    question_type VARCHAR NOT NULL,
    system VARCHAR,
    budget INTEGER,
    question_id VARCHAR,
    reader VARCHAR,
    cluster VARCHAR,
    recall_at_1 DOUBLE,
    recall_at_5 DOUBLE,
    recall_at_10 DOUBLE,
    recall_all_at_10 DOUBLE,
    reciprocal_rank DOUBLE,
    rouge_l DOUBLE,
    answer_coverage DOUBLE,
    grounded DOUBLE,
    em DOUBLE,
    f1 DOUBLE,
    metric_version VARCHAR,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, system, budget, question_id, reader)
);

CREATE TABLE leaderboard_entries (
    run_id VARCHAR,
    corpus_version VARCHAR,
    split VARCHAR,
    question_type VARCHAR,
    system VARCHAR,
    reader VARCHAR,
    budget INTEGER,
    n_questions INTEGER NOT NULL,
    recall_at_1 DOUBLE,
    recall_at_1_low DOUBLE,
    recall_at_1_high DOUBLE,
    recall_at_5 DOUBLE,
    recall_at_5_low DOUBLE,
    recall_at_5_high DOUBLE,
    recall_at_10 DOUBLE,
    recall_at_10_low DOUBLE,
    recall_at_10_high DOUBLE,
    mrr DOUBLE,
    mrr_low DOUBLE,
    mrr_high DOUBLE,
    rouge_l DOUBLE,
    rouge_l_low DOUBLE,
    rouge_l_high DOUBLE,
    answer_coverage DOUBLE,
    answer_coverage_low DOUBLE,
    answer_coverage_high DOUBLE,
    evidence_tokens DOUBLE,
    em DOUBLE,
    em_low DOUBLE,
    em_high DOUBLE,
    f1 DOUBLE,
    f1_low DOUBLE,
    f1_high DOUBLE,
    latency_p50_ms DOUBLE,
    latency_p95_ms DOUBLE,
    cost_usd DOUBLE,
    recall_all_at_10 DOUBLE,
    grounded DOUBLE,
    notes VARCHAR,
    metric_version VARCHAR,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, corpus_version, split, question_type, system, reader, budget)
);

-- parameter: the value swept over (alpha, number of documents, m); NULL where nothing is swept.
CREATE TABLE memory_checks (
    run_id VARCHAR NOT NULL,
    checkpoint_id VARCHAR,
    check_name VARCHAR NOT NULL,
    parameter DOUBLE,
    value DOUBLE,
    threshold DOUBLE,
    passed BOOLEAN,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE benchmarks (
    run_id VARCHAR NOT NULL,
    benchmark VARCHAR NOT NULL,
    system VARCHAR,
    n_documents INTEGER,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    unit VARCHAR,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
