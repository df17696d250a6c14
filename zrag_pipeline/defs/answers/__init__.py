"""Answers from every system's evidence, and their scores."""
