"""zRAG's library: corpora, the memory model, baselines, measures and answering.

Nothing in this package imports dagster, mlflow or duckdb; `zrag_pipeline` does that.
Importing a module of this package is cheap: torch, transformers and scikit-learn are
imported inside the functions and modules that need them.
"""

__version__ = "0.1.0"
