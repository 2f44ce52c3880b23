"""What the oracles of the group losses share."""

import math


def log_sum(values):
    """log sum exp, -inf for none."""
    top = max(values, default=-math.inf)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(v - top) for v in values))


def rows_of_groups(ids, valid):
    """Valid rows of each group, in the order in which the groups appear."""
    return [[i for i in range(len(ids)) if ids[i] == g and (valid is None or valid[i])] for g in dict.fromkeys(ids)]


def divide(per_group, slope, counted, divisor):
    """``(F, dF/ds, F_g)``."""
    by = divisor if divisor is not None else max(counted, 1)
    return math.fsum(per_group) / by, [x / by for x in slope], per_group
