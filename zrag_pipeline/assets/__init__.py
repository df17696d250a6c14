"""Assets by lineage group: corpus, evidence, model, baselines, evaluation, answers, benchmarks."""
