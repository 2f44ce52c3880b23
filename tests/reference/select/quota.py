"""Quotas in fractions, one place after another."""

from fractions import Fraction

from uid_order import preferred


def places(k, want, sizes):
    """How many of each stratum: ``want`` and ``sizes`` by stratum."""
    strata = sorted(sizes)
    got = {}
    while True:
        rest = [s for s in strata if s not in got]
        left = k - sum(got.values())
        total = sum(want[s] for s in rest)
        weight = {
            s: Fraction(want[s], total) if total else Fraction(sizes[s], sum(sizes[t] for t in rest)) for s in rest
        }
        full = [s for s in rest if left * weight[s] >= sizes[s]]
        if not full:
            break
        got |= {s: sizes[s] for s in full}
    share = {s: left * weight[s] for s in rest}
    got |= {s: int(share[s]) for s in rest}
    rest.sort(key=lambda s: (int(share[s]) - share[s], -sizes[s], s))
    for s in rest[: k - sum(got.values())]:
        got[s] += 1
    return got


def wanted(split, keep, sizes):
    if split == "proportional":
        return sizes
    if split == "equal":
        return dict.fromkeys(sizes, 1)
    whole = all(isinstance(x, int) for x in split.values())
    asked = {s: Fraction(x, keep) if whole else Fraction(str(x)) for s, x in split.items()}
    others = sum(n for s, n in sizes.items() if s not in asked)
    left = 1 - sum(asked.values())
    # A float has 53 bits.
    if abs(left) <= Fraction(len(asked), 2**52):
        left = 0
    return {s: asked[s] if s in asked else Fraction(left * n, others) for s, n in sizes.items()}


def quota(
    ids, strata, *, keep, split="proportional", per="group", short="keep", ties=None, uid=None, seed=None, valid=None
):
    n = len(ids)
    why = {} if valid is None else {i: "not valid" for i in range(n) if not valid[i]}
    order = preferred(n, ties=ties, uid=uid, seed=seed)
    kept = []
    for group in dict.fromkeys(ids) if per == "group" else [None]:
        rows = [i for i in order if i not in why and (per == "batch" or ids[i] == group)]
        if len(rows) < keep and short == "drop":
            why |= dict.fromkeys(rows, "fewer than keep")
            continue
        sizes = {s: sum(strata[i] == s for i in rows) for s in {strata[i] for i in rows}}
        got = places(min(keep, len(rows)), wanted(split, keep, sizes), sizes) if rows else {}
        for s in sizes:
            own = [i for i in rows if strata[i] == s]
            kept += own[: got[s]]
            why |= dict.fromkeys(own[got[s] :], "over the quota of its stratum")
    return sorted(kept), why
