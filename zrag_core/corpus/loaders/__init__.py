"""Corpus loaders: one file per format."""
