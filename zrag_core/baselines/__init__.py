"""The retrieval systems that zRAG is measured against."""
