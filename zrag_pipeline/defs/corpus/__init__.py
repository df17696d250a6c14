"""Corpus: preflight, the observed source, documents and questions."""
