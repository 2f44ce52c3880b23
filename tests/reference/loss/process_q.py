"""PQM: each item against its own denominator, written out."""

import math

from group_losses import divide, log_sum, rows_of_groups


def process_q(q, correct, ids, *, zeta=4.0, anchor=True, step=None, divisor=None, valid=None):
    groups, per_group, slope = rows_of_groups(ids, valid), [], [0.0] * len(ids)
    for members in groups:
        rows = sorted(members, key=lambda i: i if step is None else step[i])
        right = [i for i in rows if correct[i]]
        wrong = [i for i in rows if not correct[i]]
        items = [(None, [])] if anchor and wrong else []
        items += [(t, right[: a + 1]) for a, t in enumerate(right)]
        total = 0.0
        for t, upto in items:
            down = log_sum([0.0] + [q[c] for c in upto] + [q[w] + zeta for w in wrong])
            total += (down - (0.0 if t is None else q[t])) / len(items)
            for c in upto:
                slope[c] += math.exp(q[c] - down) / len(items)
            for w in wrong:
                slope[w] += math.exp(q[w] + zeta - down) / len(items)
            if t is not None:
                slope[t] -= 1 / len(items)
        per_group.append(total)
    return divide(per_group, slope, sum(map(bool, groups)), divisor)
