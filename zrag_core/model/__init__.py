"""The memory Z, its router and reader, training and checkpoints."""
