"""Benchmarks: ``python -m bench`` times rollmath beside peers and beside the strongest cheap ways, checked outputs only."""
