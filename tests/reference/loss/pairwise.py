"""REBEL and CoPG as sums over pairs, GVPO as a sum over responses."""

from group_losses import divide, rows_of_groups


def over_pairs(x, rate, ids, norm, divisor, valid):
    """``norm(k)`` times the sum over the pairs of a group of their squared difference in ``x``, whose slope is rate."""
    groups, per_group, slope = rows_of_groups(ids, valid), [], [0.0] * len(ids)
    for rows in groups:
        total = 0.0
        for a, i in enumerate(rows):
            for j in rows[:a]:
                total += norm(len(rows)) * (x[i] - x[j]) ** 2
                slope[i] += norm(len(rows)) * 2 * (x[i] - x[j]) * rate
                slope[j] -= norm(len(rows)) * 2 * (x[i] - x[j]) * rate
        per_group.append(total)
    return divide(per_group, slope, sum(len(rows) > 1 for rows in groups), divisor)


def rebel(s, rewards, ids, *, eta=1.0, target="reward", divisor=None, valid=None):
    inner, outer = (1 / eta, 1.0) if target == "reward" else (1.0, eta)
    x = [inner * a - outer * r for a, r in zip(s, rewards, strict=True)]
    return over_pairs(x, inner, ids, lambda k: 2 / (k * (k - 1)), divisor, valid)


def copg(s, rewards, ids, *, beta, divisor=None, valid=None):
    x = [r - beta * a for a, r in zip(s, rewards, strict=True)]
    return over_pairs(x, -beta, ids, lambda k: 1 / (k - 1), divisor, valid)


def gvpo(s, rewards, ids, *, beta=0.1, ddof=1, divisor=None, valid=None):
    groups, per_group, slope = rows_of_groups(ids, valid), [], [0.0] * len(ids)
    for rows in groups:
        k, total = len(rows), 0.0
        for i in rows if k > 1 else []:
            implicit = beta * (s[i] - sum(s[j] for j in rows) / k)
            actual = rewards[i] - sum(rewards[j] for j in rows) / k
            total += (implicit - actual) ** 2 / (2 * (k - ddof))
            slope[i] = beta * (implicit - actual) / (k - ddof)
        per_group.append(total)
    return divide(per_group, slope, sum(len(rows) > 1 for rows in groups), divisor)
