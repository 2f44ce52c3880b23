"""DisCO, its trust region, and DRPO, from their definitions."""

import math

from group_losses import divide, log_sum, rows_of_groups


def contrast(s, correct, ids, weight, tau, unpaired, divisor, valid):
    """``weight(rows)`` gives the weights of the correct rows of a group."""
    groups, per_group, slope, paired = rows_of_groups(ids, valid), [], [0.0] * len(ids), 0
    for rows in groups:
        right = [i for i in rows if correct[i]]
        wrong = [i for i in rows if not correct[i]]
        if not right or not wrong:
            per_group.append(0.0)
            continue
        paired += 1
        w = weight(right)
        if math.isinf(tau):
            rival, share = math.fsum(s[j] for j in wrong) / len(wrong), [1 / len(wrong)] * len(wrong)
        else:
            total = log_sum([s[j] / tau for j in wrong])
            rival = tau * (total - math.log(len(wrong)))
            share = [math.exp(s[j] / tau - total) for j in wrong]
        per_group.append(rival - math.fsum(a * s[i] for a, i in zip(w, right, strict=True)))
        for a, i in zip(w, right, strict=True):
            slope[i] = -a
        for a, j in zip(share, wrong, strict=True):
            slope[j] = a
    return divide(per_group, slope, paired if unpaired == "skip" else sum(map(bool, groups)), divisor)


def disco(s, correct, ids, *, tau=10.0, unpaired="count", divisor=None, valid=None):
    def weight(right):
        return [1 / len(right)] * len(right)

    return contrast(s, correct, ids, weight, tau, unpaired, divisor, valid)


def drpo(s, correct, lengths, ids, *, max_length, lam=0.1, tau=10.0, unpaired="count", divisor=None, valid=None):
    def weight(right):
        e = [(1 - lengths[i] / max_length) / lam for i in right]
        return [math.exp(x - log_sum(e)) for x in e]

    return contrast(s, correct, ids, weight, tau, unpaired, divisor, valid)


def disco_constraint(kl, lengths, *, delta=1e-4, beta=1e3, form="squared", valid=None):
    rows = [i for i in range(len(kl)) if valid is None or valid[i]]
    tokens = math.fsum(lengths[i] for i in rows)
    mean = math.fsum(lengths[i] * kl[i] for i in rows) / tokens if rows else 0.0
    excess = max(mean - delta, 0.0)
    loss = beta * excess * mean if form == "product" else beta / 2 * excess**2
    slope = [beta * excess * lengths[i] / tokens if i in rows else 0.0 for i in range(len(kl))]
    return loss, slope, mean
