"""Covariances of log-probability and advantage, exactly, and the tokens chosen by them."""

from fractions import Fraction

from token_choice import choose, draw, how_many


def covariances(logprobs, advantages):
    """Exact rationals; None where not trained."""
    pairs = [
        [None if x is None else (Fraction(x), Fraction(a)) for x, a in zip(*rows, strict=True)]
        for rows in zip(logprobs, advantages, strict=True)
    ]
    seen = [pair for row in pairs for pair in row if pair]
    means = [sum(column) / len(seen) for column in zip(*seen, strict=True)] if seen else [0, 0]
    return [[pair and (pair[0] - means[0]) * (pair[1] - means[1]) for pair in row] for row in pairs]


def high_covariance_tokens(logprobs, advantages, *, bounds=None, ties="exact", uids=None, seed=0, **want):
    found = covariances(logprobs, advantages)
    if bounds is None:
        return choose(found, ties=ties, uids=uids, seed=seed, **want)
    inside = [[x is not None and bounds[0] < x < bounds[1] for x in row] for row in found]
    n = sum(x is not None for row in found for x in row)
    return draw(inside, k=how_many(n, **want), uids=uids, seed=seed)
