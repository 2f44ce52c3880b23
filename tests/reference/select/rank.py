"""The first rollouts by sorting; distances in fractions."""

from fractions import Fraction

from subsets import subset


def by(values, ids, key, reason, options):
    # Sorting is stable: equal ones stay in the order of preference.
    return subset(values, ids, lambda rows, keep: sorted(rows, key=key)[:keep], reason, what="value", **options)


def top(values, ids, **options):
    return by(values, ids, lambda i: -values[i], "not among the largest", options)


def bottom(values, ids, **options):
    return by(values, ids, lambda i: values[i], "not among the smallest", options)


def nearest(values, ids, *, target, **options):
    def distance(i):
        return abs(Fraction(float(values[i])) - Fraction(target))

    return by(values, ids, distance, "not among the nearest", options)


def random(ids, **options):
    return by(None, ids, lambda i: 0, "not drawn", options)
