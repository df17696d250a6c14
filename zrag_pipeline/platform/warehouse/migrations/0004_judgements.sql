-- Verdicts of the LLM that judges answers; verdict is NULL where error says why there is none.
CREATE TABLE judgements (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    system VARCHAR,
    budget INTEGER,
    question_id VARCHAR,
    reader VARCHAR,
    judge_model VARCHAR NOT NULL,
    verdict VARCHAR,
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

ALTER TABLE scores ADD COLUMN judged_correct DOUBLE;
ALTER TABLE leaderboard_entries ADD COLUMN judged_correct DOUBLE;
ALTER TABLE leaderboard_entries ADD COLUMN judged_correct_low DOUBLE;
ALTER TABLE leaderboard_entries ADD COLUMN judged_correct_high DOUBLE;
ALTER TABLE leaderboard_entries ADD COLUMN judge_cost_usd DOUBLE;
