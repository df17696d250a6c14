"""Evidence targets and their audit."""
