"""Filters of whole groups by their definitions: which rollouts are kept, and how many are dropped for each reason."""

import math

from definitions import mean, members


def taking_part(rewards, ids, valid, nan):
    """Members of each group by its id, and the reasons of those that take no part."""
    r = [float(v) for v in rewards]
    seen = [True] * len(r) if valid is None else [bool(v) for v in valid]
    why = {i: "not valid" for i in range(len(r)) if not seen[i]}
    why |= {i: "missing reward" for i in range(len(r)) if seen[i] and nan == "omit" and math.isnan(r[i])}
    return r, members(r, ids, seen, nan), why


def nonzero_spread(rewards, ids, *, tol=0.0, nan="raise", valid=None):
    r, groups, why = taking_part(rewards, ids, valid, nan)
    for rows in groups:
        values = [r[i] for i in rows]
        if len(values) == 1:
            why |= dict.fromkeys(rows, "group of one")
        elif values and max(values) - min(values) <= tol:
            why |= dict.fromkeys(rows, "no spread")
    return [i for i in range(len(r)) if i not in why], why


def mean_band(rewards, ids, *, low, high, inclusive=False, nan="raise", valid=None):
    r, groups, why = taking_part(rewards, ids, valid, nan)
    for rows in groups:
        if not rows:
            continue
        m = r[rows[0]] if len({r[i] for i in rows}) == 1 else mean([r[i] for i in rows])
        if m < low or (m == low and not inclusive):
            why |= dict.fromkeys(rows, "mean too low")
        elif m > high or (m == high and not inclusive):
            why |= dict.fromkeys(rows, "mean too high")
    return [i for i in range(len(r)) if i not in why], why


def pivot(rewards, ids, *, below, nan="raise", valid=None):
    r, groups, why = taking_part(rewards, ids, valid, nan)
    for rows in groups:
        values = [r[i] for i in rows]
        if len(values) == 1:
            why |= dict.fromkeys(rows, "group of one")
        elif values and max(values) == min(values):
            why |= dict.fromkeys(rows, "no spread")
        elif values and mean(values) >= below:
            why |= dict.fromkeys(rows, "mean too high")
    return [i for i in range(len(r)) if i not in why], why
