"""Groups in which all rollouts fail, or all succeed, one after another."""

from definitions import members


def all_fail(rewards, ids, *, threshold=0.0, nan="raise", valid=None):
    r = [float(v) for v in rewards]
    return [bool(rows) and all(r[i] <= threshold for i in rows) for rows in members(r, ids, valid, nan)]


def all_pass(rewards, ids, *, threshold=0.0, nan="raise", valid=None):
    r = [float(v) for v in rewards]
    return [bool(rows) and all(r[i] > threshold for i in rows) for rows in members(r, ids, valid, nan)]
