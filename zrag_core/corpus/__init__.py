"""Corpora: reading, splitting, generating and auditing them."""
