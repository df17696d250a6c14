"""Writing a corpus and asking questions in shards, by this process or by workers on many machines."""
