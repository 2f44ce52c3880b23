"""Draws in proportion to weights, in fractions."""

from fractions import Fraction

from uid_order import WORD, preferred, word

#: The number of the first draw.
FIRST = 0x6A09E667F3BCC908


def uniform(draw, seed):
    return Fraction(2 * (word((FIRST + draw) % WORD, seed) >> 12) + 1, 2**53)


def resample(weights, *, n=None, how="systematic", uid=None, seed):
    w = [Fraction(float(x)) for x in weights]
    draws = len(w) if n is None else n
    if how == "systematic":
        points = [(uniform(0, seed) + j) / draws for j in range(draws)]
    else:
        points = [uniform(j, seed) for j in range(draws)]
    out = []
    for point in points:
        passed = Fraction(0)
        for i in preferred(len(w), uid=uid):
            passed += w[i]
            if point * sum(w) < passed:
                out.append(i)
                break
    return sorted(out)
