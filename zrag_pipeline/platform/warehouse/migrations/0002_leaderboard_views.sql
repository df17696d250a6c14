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
    recall_all_at_10, grounded, notes, metric_version, git_sha, zrag_version
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
