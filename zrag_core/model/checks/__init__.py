"""Checks of a memory: where its knowledge is, what an update or a deletion did, champion and challenger."""
