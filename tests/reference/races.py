"""Draws without replacement as races, one prompt after another."""

import math
from fractions import Fraction


def first(weights, prompts, able, keep, words):
    """Of the prompts ``able``, the ``keep`` that arrive first: at ``-log(u) / weight``, which may be past float64."""
    times = {i: Fraction(-math.log((words[i] // 2**12 + 0.5) / 2**52)) / Fraction(float(weights[i])) for i in able}
    return sorted(sorted(able, key=lambda i: (times[i], prompts[i]))[:keep])
