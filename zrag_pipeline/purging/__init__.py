"""Erasing a document everywhere it could stand, store by store, and proving that nothing of it is left."""
