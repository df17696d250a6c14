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

-- As in 0002, with the judge's columns at the end.
DROP VIEW leaderboard;
DROP VIEW leaderboard_all;

CREATE VIEW leaderboard_all AS
SELECT
    corpus_version, split, question_type, system, reader, budget, n_questions,
    recall_at_1, recall_at_1_low, recall_at_1_high,
    recall_at_5, recall_at_5_low, recall_at_5_high,
    recall_at_10, recall_at_10_low, recall_at_10_high,
    mrr, mrr_low, mrr_high,
    rouge_l, rouge_l_low, rouge_l_high,
    answer_coverage, answer_coverage_low, answer_coverage_high,
    evidence_tokens,
    em, em_low, em_high,
    f1, f1_low, f1_high,
    latency_p50_ms, latency_p95_ms, cost_usd, run_id, created_at,
    recall_all_at_10, grounded, notes, metric_version, git_sha, zrag_version,
    judged_correct, judged_correct_low, judged_correct_high, judge_cost_usd
FROM leaderboard_entries;

-- The newest run of each combination. An evaluation writes reader 'none' first and the answers
-- later; once a run has answers, its own 'none' row says nothing more and is hidden.
CREATE VIEW leaderboard AS
WITH newest AS (
    SELECT *
    FROM leaderboard_all
    QUALIFY row_number() OVER (
        PARTITION BY corpus_version, split, question_type, system, reader, budget
        ORDER BY created_at DESC, run_id DESC
    ) = 1
)
SELECT *
FROM newest AS entry
WHERE NOT (
    entry.reader = 'none'
    AND EXISTS (
        SELECT 1
        FROM leaderboard_all AS answered
        WHERE answered.run_id = entry.run_id
            AND answered.corpus_version = entry.corpus_version
            AND answered.split = entry.split
            AND answered.question_type = entry.question_type
            AND answered.system = entry.system
            AND answered.budget = entry.budget
            AND answered.reader <> 'none'
    )
);
