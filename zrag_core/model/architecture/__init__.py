"""The network: backbone, encoder, routers and the memory Z in front of the LLM."""
