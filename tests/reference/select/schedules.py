"""Schedules, in fractions as far as that goes."""

import math
from fractions import Fraction


def linear_schedule(progress, *, start, end):
    at = Fraction(progress)
    return float((1 - at) * Fraction(start) + at * Fraction(end))


def cosine_schedule(progress, *, start, end):
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
