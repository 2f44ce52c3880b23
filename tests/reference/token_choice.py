"""Choices of tokens by definition, which several oracles share. Rows are lists of lists; None where not trained."""

import hashlib
import math
from fractions import Fraction

WORD = (1 << 64) - 1


def mixed(z):
    """The finaliser of splitmix64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


def digest(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def token_hash(uid, position, seed):
    """64 bits of the id of a row, a position in it and a seed."""
    key = uid & WORD if isinstance(uid, int) else digest(repr(uid))
    row = mixed(mixed((key + 0x9E3779B97F4A7C15) & WORD) ^ digest(str(seed)))
    return mixed((row + (position + 1) * 0x9E3779B97F4A7C15) & WORD)


def how_many(n, share=None, count=None, least=0):
    """k: a product that is whole but for the rounding of the share is whole."""
    if count is not None:
        return min(count, n)
    product = Fraction(share * n)
    near = round(product)
    k = near if abs(product - near) <= Fraction(n, 2**51) else math.floor(product)
    return min(max(k, least), n)


def choose(scores, *, k=None, scope="all", ties="all", uids=None, seed=0, largest=True, **want):
    """Bools like the scores, which are None where not trained; the thresholds, how many were kept and were there."""
    uids = list(range(len(scores))) if uids is None else uids
    mask = [[False] * len(row) for row in scores]
    thresholds, kept, totals = [], [], []
    for part in [range(len(scores))] if scope == "all" else [[i] for i in range(len(scores))]:
        places = [(i, t) for i in part for t, x in enumerate(scores[i]) if x is not None]
        wanted = how_many(len(places), **want) if k is None else min(k, len(places))
        sign = 1 if largest else -1
        places.sort(key=lambda p: (-sign * scores[p[0]][p[1]], token_hash(uids[p[0]], p[1], seed)))
        limit = scores[places[wanted - 1][0]][places[wanted - 1][1]] if wanted else sign * math.inf
        taken = places[:wanted]
        if ties == "all" and wanted:
            taken = [p for p in places if sign * scores[p[0]][p[1]] >= sign * limit]
        for i, t in taken:
            mask[i][t] = True
        thresholds.append(limit)
        kept.append(len(taken))
        totals.append(len(places))
    return mask, thresholds, kept, totals


def draw(trained, *, k=None, scope="all", uids=None, seed=0, **want):
    """Those of the lowest hash, and what the highest of these is as a number in (0, 1)."""
    same = [[0.0 if x else None for x in row] for row in trained]
    mask, _, kept, totals = choose(same, k=k, scope=scope, ties="exact", uids=uids, seed=seed, **want)
    uids = list(range(len(trained))) if uids is None else uids
    numbers = [
        [((token_hash(uids[i], t, seed) >> 12) + 0.5) * 2.0**-52 for t, x in enumerate(row) if x]
        for i, row in enumerate(mask)
    ]
    parts = [[x for row in numbers for x in row]] if scope == "all" else numbers
    return mask, [max(part, default=0.0) for part in parts], kept, totals
