-- How a checkpoint was read when it was judged: who promotes it by hand reads it the same way.
ALTER TABLE champion_decisions ADD COLUMN decoding JSON;
ALTER TABLE champion_decisions ADD COLUMN backbone_device VARCHAR;

-- Where the memory of each corpus stood after the last run that made everything afresh: drift is counted from there.
CREATE TABLE drift_baselines (
    run_id VARCHAR,
    corpus VARCHAR PRIMARY KEY,
    corpus_version VARCHAR NOT NULL,
    routing_margin DOUBLE,
    probe_coverage DOUBLE,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
