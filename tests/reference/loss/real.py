"""REAL: a classification with an anchor of value 0 in both sums."""

import math

from group_losses import divide, log_sum, rows_of_groups


def real(s, correct, ids, *, tau=0.5, one_sided="keep", divisor=None, valid=None):
    groups, per_group, slope = rows_of_groups(ids, valid), [], [0.0] * len(ids)
    for rows in groups:
        right = [i for i in rows if correct[i]]
        wrong = [i for i in rows if not correct[i]]
        if one_sided == "drop" and not (right and wrong):
            per_group.append(0.0)
            continue
        up = log_sum([0.0] + [-s[i] / tau for i in right])
        down = log_sum([0.0] + [s[i] / tau for i in wrong])
        per_group.append(up + down)
        for i in right:
            slope[i] = -math.exp(-s[i] / tau - up) / tau
        for i in wrong:
            slope[i] = math.exp(s[i] / tau - down) / tau
    return divide(per_group, slope, sum(map(bool, groups)), divisor)
