"""Which memory is asked: proofs of an update, promotion, and changes by command."""
