"""Slow, clear float64 aggregation of token losses: a loop over the units of the whole step."""

import math


def Aggregation(losses, rollouts, prompts=None, *, unit, within="mean", divisor=1.0, empty="exclude"):
    """``losses``: one list of trained tokens a row; ``rollouts`` and ``prompts``: an id of each row."""
    units = {}
    for row, tokens in enumerate(losses):
        of = {"row": row, "rollout": rollouts[row], "prompt": prompts and prompts[row], "batch": None}
        if unit == "token":
            units |= {(row, t): [loss] for t, loss in enumerate(tokens)}
        else:
            units.setdefault(of[unit], []).extend(tokens)
    counted = [tokens for tokens in units.values() if tokens or empty == "include"]
    if not any(counted):
        return 0.0
    each = [math.fsum(tokens) / (max(len(tokens), 1) if within == "mean" else 1) for tokens in counted]
    return math.fsum(each) / ((1 if unit == "batch" else len(counted)) * divisor)


def weights(trained, rollouts, prompts=None, **options):
    """The weight of a trained token of each row: what a loss of 1 there alone adds; 0 in a row that has none."""
    out = []
    for row, n in enumerate(trained):
        losses = [[0.0] * k for k in trained]
        if n:
            losses[row][0] = 1.0
        out.append(Aggregation(losses, rollouts, prompts, **options))
    return out
