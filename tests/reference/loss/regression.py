"""A*-PO and TBRM, response by response."""

from group_losses import divide, rows_of_groups


def a_star_po(s, rewards, values, ids, *, beta2=1e-3, divisor=None, valid=None):
    names, groups = list(dict.fromkeys(ids)), rows_of_groups(ids, valid)
    per_group, slope = [0.0] * len(names), [0.0] * len(ids)
    for g, rows in enumerate(groups):
        for i in rows:
            v = values[i] if len(values) == len(ids) else values[g]
            gap = beta2 * s[i] + v - rewards[i]
            per_group[g] += gap**2
            slope[i] = 2 * gap * beta2
    return divide(per_group, slope, sum(map(len, groups)), divisor)


def tbrm(s, first_lse, rewards, reference, ids, *, beta, divisor=None, valid=None):
    groups = rows_of_groups(ids, valid)
    per_group, slope = [0.0] * len(groups), [0.0] * len(ids)
    for g, rows in enumerate(groups):
        for i in rows:
            residual = first_lse[i] + s[i] - rewards[i] / beta - reference[i]
            per_group[g] += residual**2
            slope[i] = 2 * residual
    return divide(per_group, slope, sum(map(len, groups)), divisor)
