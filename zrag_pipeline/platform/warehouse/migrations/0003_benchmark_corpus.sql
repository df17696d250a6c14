-- Figures of different corpora must be told apart.
ALTER TABLE benchmarks ADD COLUMN corpus_version VARCHAR;
