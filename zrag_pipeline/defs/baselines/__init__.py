"""Indexes of the retrieval systems."""
