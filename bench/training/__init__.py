"""Proof by training: every method from one checkpoint, on one budget of sampled tokens. ``docs/evidence.md`` is the outcome."""
