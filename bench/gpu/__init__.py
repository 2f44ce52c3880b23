"""Benchmarks on a GPU: one command, outputs checked against float64 before they are timed."""
