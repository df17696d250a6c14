"""From questions to evidence: routing, decoding and the memory as an evidence system."""
