"""The reason of each rollout and the numbers of an audit, by plain loops over groups."""

import math


def reasons(rewards, ids, advantages, *, valid, filtered, tokens, low, high):
    found = []
    for i, r in enumerate(rewards):
        mine = [rewards[j] for j in range(len(ids)) if ids[j] == ids[i] and valid[j] and math.isfinite(rewards[j])]
        if not valid[i]:
            found.append("not valid")
        elif filtered[i]:
            found.append("filtered")
        elif math.isnan(r):
            found.append("NaN reward")
        elif math.isinf(r):
            found.append("infinite reward")
        elif tokens is not None and tokens[i] == 0:
            found.append("no trained token")
        elif len(mine) == 1:
            found.append("group of one")
        elif len(set(mine)) == 1:
            if r <= low:
                found.append("zero spread: all at the bottom")
            elif r >= high:
                found.append("zero spread: all at the top")
            elif math.isfinite(low) and math.isfinite(high):  # infinite: not known
                found.append("zero spread: in between")
            else:
                found.append("zero spread")
        elif not math.isfinite(advantages[i]):
            found.append("non-finite advantage")
        elif advantages[i] == 0:
            found.append("zero advantage")
        else:
            found.append("signal")
    return found


def advantage_numbers(advantages, trains, lengths):
    """Numbers over the rollouts that train and have a finite advantage."""
    rows = [i for i, a in enumerate(advantages) if trains[i] and math.isfinite(a)]
    size = {i: abs(advantages[i]) for i in rows}
    mass, squares = sum(size.values()), sum(s * s for s in size.values())
    token_mass = sum(size[i] * lengths[i] for i in rows)
    plus = [i for i in rows if advantages[i] > 0]
    minus = [i for i in rows if advantages[i] < 0]

    def mean(x):
        return sum(x) / len(x) if x else None

    return {
        "positive": len(plus),
        "negative": len(minus),
        "zero": len(rows) - len(plus) - len(minus),
        "advantage_abs_sum": mass,
        "effective_sample_size": mass * mass / squares if squares else 0.0,
        "length_positive": mean([lengths[i] for i in plus]),
        "length_negative": mean([lengths[i] for i in minus]),
        "positive_mass": sum(size[i] for i in plus) / mass if mass else None,
        "positive_token_mass": sum(size[i] * lengths[i] for i in plus) / token_mass if token_mass else None,
    }


def length_correlation(rewards, ids, lengths, rows):
    """Pearson's correlation in each group where both vary; their mean, and how many groups."""
    found = []
    for g in dict.fromkeys(ids):
        mine = [i for i in rows if ids[i] == g]
        x, y = [rewards[i] for i in mine], [lengths[i] for i in mine]
        if len(set(x)) > 1 and len(set(y)) > 1:
            mx, my = sum(x) / len(x), sum(y) / len(y)
            cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
            found.append(cov / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)))
    return (sum(found) / len(found) if found else None), len(found)
