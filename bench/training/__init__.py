"""Proof by training: every method from one checkpoint, on one budget of sampled tokens; see ``docs/evidence.md``."""
