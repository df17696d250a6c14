-- How MemoRAG came to its passages. found: for the question (first) and each clue the ids of the documents that it
-- retrieved, best first; passages: the same merged. Tokens and cost: of draft and clues (0 for local models and cached
-- replies; cost NULL where the price is unknown). error: why there is no draft or no clue.
CREATE TABLE memorag_traces (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    question_id VARCHAR,
    memory VARCHAR NOT NULL,
    draft VARCHAR NOT NULL,
    clues VARCHAR[] NOT NULL,
    found JSON NOT NULL,
    passages VARCHAR[] NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_usd DOUBLE,
    error VARCHAR,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, question_id)
);
