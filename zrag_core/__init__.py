"""zRAG's library: corpora, the memory model, baselines, measures and answering.

Nothing in this package imports dagster, mlflow or duckdb; `zrag_pipeline` does that.
Importing a module of this package is cheap: torch, transformers and scikit-learn are
imported inside the functions and modules that need them.
"""

import os

# Read by GNU's OpenMP when torch is loaded: how often a waiting thread looks before it sleeps. By default it looks for
# milliseconds on end, which on a core that another program wants makes a small model's step a hundred times slower
# (docs/benchmarks.md, "Threads beside other programs"); sleeping at once costs a small one half its speed.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
