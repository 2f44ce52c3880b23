"""FlowRL, response by response."""

import math

from group_losses import divide, rows_of_groups


def flowrl(s, log_z, rewards, reference, ids, *, beta=15.0, log_ratios=None, clip=0.2, divisor=None, valid=None):
    groups, by_group = rows_of_groups(ids, valid), len(log_z) < len(ids)
    per_group, slope, z_slope = [0.0] * len(groups), [0.0] * len(ids), [0.0] * len(log_z)
    for g, rows in enumerate(groups):
        for i in rows:
            at = g if by_group else i
            w = 1.0 if log_ratios is None else math.exp(log_ratios[i])
            if clip is not None:
                w = min(max(w, 1 - clip), 1 + clip)
            delta = log_z[at] + s[i] - beta * rewards[i] - reference[i]
            per_group[g] += w * delta**2
            slope[i] = 2 * w * delta
            z_slope[at] += 2 * w * delta
    counted = sum(map(len, groups))
    by = divisor if divisor is not None else max(counted, 1)
    return (*divide(per_group, slope, counted, divisor), [x / by for x in z_slope])
