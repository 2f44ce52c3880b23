"""Subsets of each group, or of the batch, by a rule that sees rows in the order of preference."""

import math

from uid_order import preferred


def subset(
    values,
    ids,
    rule,
    reason,
    *,
    what="reward",
    keep,
    per="group",
    short="keep",
    ties=None,
    uid=None,
    seed=None,
    nan="raise",
    valid=None,
):
    """Rows kept, and of each other one the reason. ``rule(rows, keep)`` returns those to keep of more than ``keep``."""
    n = len(ids)
    why = {} if valid is None else {i: "not valid" for i in range(n) if not valid[i]}
    if nan == "omit":
        why |= {i: f"missing {what}" for i in range(n) if i not in why and math.isnan(values[i])}
    order = [i for i in preferred(n, ties=ties, uid=uid, seed=seed) if i not in why]
    kept = []
    for group in dict.fromkeys(ids) if per == "group" else [None]:
        rows = [i for i in order if per == "batch" or ids[i] == group]
        if len(rows) < keep and short == "drop":
            why |= dict.fromkeys(rows, "fewer than keep")
            continue
        own = rule(rows, keep) if len(rows) > keep else rows
        kept += own
        why |= dict.fromkeys(set(rows) - set(own), reason)
    return sorted(kept), why
