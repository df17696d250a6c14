"""MemoRAG (Qian et al. 2024, arXiv 2409.05591): a memory drafts an answer, clues are made of it, clues retrieve."""
