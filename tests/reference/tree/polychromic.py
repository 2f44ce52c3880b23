"""Polychromic advantages, set by set."""

import math


def polychromic(returns, signatures, sets, *, states=None, diversity=None):
    states = [0] * len(returns) if states is None else list(states)
    scores = []
    for k, members in enumerate(sets):
        d = len({signatures[i] for i in members}) / len(members) if diversity is None else diversity[k]
        scores.append(math.fsum(returns[i] for i in members) / len(members) * d)
    shared = []
    for members, f in zip(sets, scores, strict=True):
        rivals = [g for others, g in zip(sets, scores, strict=True) if states[others[0]] == states[members[0]]]
        shared.append(f - math.fsum(rivals) / len(rivals))
    out = []
    for i in range(len(returns)):
        own = [a for members, a in zip(sets, shared, strict=True) if i in list(members)]
        out.append(math.fsum(own) / len(own) if own else 0.0)
    return out, shared, scores


def polychromic_window(base, advantages, branch, *, width=5):
    return [
        [a if b >= 0 and b <= t <= b + width else x for t, x in enumerate(row)]
        for row, a, b in zip(base, advantages, branch, strict=True)
    ]
