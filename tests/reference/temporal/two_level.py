"""Bi-level GAE, written out row by row, turn by turn."""

from definitions import after, estimate


def two_level_gae(
    rewards,
    values,
    turns,
    mask=None,
    *,
    gamma=1.0,
    lam=1.0,
    gamma_turn=0.95,
    lam_turn=None,
    bootstrap="zero",
    truncated=None,
):
    """Advantages and returns, one a token, lists of rows.

    First the turns: V of a turn is that of its last trained token, its reward the one given there. Then the tokens of
    each turn, as an episode of its own in which the last token is rewarded with the return of the turn.
    """
    mask = [[True] * len(v) for v in values] if mask is None else mask
    lam_turn = lam if lam_turn is None else lam_turn
    advantages, returns = [], []
    for i, (r, v, number, m) in enumerate(zip(rewards, values, turns, mask, strict=True)):
        members = {}
        for t in range(len(v)):
            if m[t] and number[t] >= 0:
                members.setdefault(number[t], []).append(t)
        order = sorted(members)
        last = [members[k][-1] for k in order]
        at_ends = [v[t] for t in last]
        high = estimate([r[t] for t in last], at_ends, after(i, at_ends, bootstrap, truncated), gamma_turn, lam_turn)
        row, ret = [0.0] * len(v), [0.0] * len(v)
        for k, a in zip(order, high, strict=True):
            at = members[k]
            inner = [r[t] for t in at[:-1]] + [a + v[at[-1]]]
            low = estimate(inner, [v[t] for t in at], 0.0, gamma, lam)
            for t, x in zip(at, low, strict=True):
                row[t], ret[t] = x, x + v[t]
        advantages.append(row)
        returns.append(ret)
    return advantages, returns
