"""Benchmarks: ``python -m bench`` times rollmath beside peers and the strongest cheap ways, checked outputs only."""
