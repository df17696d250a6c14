"""Writing documents into Z, updating it, and checkpoints and skills as folders."""
