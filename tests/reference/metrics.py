"""Metrics at k by their definitions: the mean over all ways to draw k of the samples of a group, in exact fractions."""

import itertools
from collections import Counter
from fractions import Fraction


def draws(n, k, replacement):
    return itertools.product(range(n), repeat=k) if replacement else itertools.combinations(range(n), k)


def _mean(values):
    values = list(values)
    return float(sum(values, Fraction(0)) / len(values)) if values else float("nan")


def _per_group(ids, valid, value):
    keep = range(len(ids)) if valid is None else [i for i in range(len(ids)) if valid[i]]
    return [value([i for i in keep if ids[i] == group]) for group in dict.fromkeys(ids)]


def best_at_k(scores, ids, k, *, valid=None, replacement=False, pick=max):
    x = [Fraction(float(v)) for v in scores]
    return _per_group(
        ids, valid, lambda rows: _mean(pick(x[rows[i]] for i in d) for d in draws(len(rows), k, replacement))
    )


def worst_at_k(scores, ids, k, **options):
    return best_at_k(scores, ids, k, pick=min, **options)


def pass_at_k(correct, ids, k, **options):
    return best_at_k(correct, ids, k, **options)


def maj_at_k(answers, scores, ids, k, *, valid=None, replacement=False, ties="split"):
    def vote(rows, drawn):
        counts = Counter(answers[rows[i]] for i in drawn)
        most = max(counts.values())
        tied = [answer for answer, count in counts.items() if count == most]
        if ties == "zero" and len(tied) > 1:
            return Fraction(0)
        members = [[Fraction(float(scores[i])) for i in rows if answers[i] == answer] for answer in tied]
        return sum((sum(m) / len(m) for m in members), Fraction(0)) / len(tied)

    return _per_group(ids, valid, lambda rows: _mean(vote(rows, d) for d in draws(len(rows), k, replacement)))
