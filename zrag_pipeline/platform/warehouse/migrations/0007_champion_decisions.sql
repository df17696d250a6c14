-- Whether a new checkpoint became the champion, and why. One row for each way of reading that was compared (system
-- 'zrag', 'zrag_free'); a single row with system 'none' where nothing could be compared. difference, low and high are
-- shares, challenger minus champion; margin is how far low may lie below zero.
CREATE TABLE champion_decisions (
    run_id VARCHAR,
    corpus_version VARCHAR NOT NULL,
    checkpoint_id VARCHAR NOT NULL,
    champion_id VARCHAR,
    system VARCHAR,
    n_questions INTEGER NOT NULL,
    difference DOUBLE,
    low DOUBLE,
    high DOUBLE,
    margin DOUBLE NOT NULL,
    not_inferior BOOLEAN,
    failed_checks VARCHAR[] NOT NULL,
    promoted BOOLEAN NOT NULL,
    reason VARCHAR NOT NULL,
    git_sha VARCHAR,
    zrag_version VARCHAR,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    PRIMARY KEY (run_id, checkpoint_id, system)
);
