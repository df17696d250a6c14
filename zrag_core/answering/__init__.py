"""Readers: whatever turns a question and evidence into an answer."""
