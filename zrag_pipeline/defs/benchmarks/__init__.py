"""Benchmarks: figures that are written down, not tested."""
