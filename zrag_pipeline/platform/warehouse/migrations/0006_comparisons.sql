-- Every system against the references, on the held-out questions of one run. difference, low and high are shares as
-- the measures are, system minus reference; p_adjusted is Holm's over all pairs of the same measure and questions.
-- reader 'none': measures of the evidence. verdict: the outcome in words, in points.
CREATE TABLE comparisons (
    run_id VARCHAR,
    corpus_version VARCHAR,
    split VARCHAR,
    question_type VARCHAR,
    budget INTEGER,
    reader VARCHAR,
    measure VARCHAR,
    system VARCHAR,
    reference VARCHAR,
    difference DOUBLE NOT NULL,
    low DOUBLE,
    high DOUBLE,
    confidence DOUBLE NOT NULL,
    p_value DOUBLE NOT NULL,
    p_adjusted DOUBLE NOT NULL,
    mcnemar_p DOUBLE,
    n_questions INTEGER NOT NULL,
    n_left_out INTEGER NOT NULL,
    n_documents INTEGER NOT NULL,
    verdict VARCHAR NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, corpus_version, split, question_type, budget, reader, measure, system, reference)
);
