"""A multiple of samples, by trying every set of rollouts to drop."""

from itertools import combinations

from uid_order import preferred


def round_to_multiple(
    ids, multiple, *, selection=None, samples=None, drop="last", ties=None, uid=None, seed=None, valid=None
):
    """Of at most a dozen rollouts."""
    n = len(ids)
    size = [1] * n if samples is None else [int(x) for x in samples]
    why = {} if valid is None else {i: "not valid" for i in range(n) if not valid[i]}
    if selection is not None:
        why |= {i: "not selected" for i in range(n) if not selection[i] and i not in why}
    there = [i for i in range(n) if i not in why]
    order = preferred(n, ties=ties, uid=uid, seed=None if drop == "last" else seed)
    of_group = {g: [i for i in order if i in there and ids[i] == g] for g in set(ids)}

    def level(i):
        """0: another of its group is preferred to it; 1: none is; 2: there is no other."""
        own = of_group[ids[i]]
        return 0 if own[0] != i else 1 if len(own) > 1 else 2

    def turn(i):
        """The lowest goes first."""
        return (-of_group[ids[i]].index(i) if drop == "largest_group" else 0, -order.index(i))

    kinds = sorted({(level(i), -size[i]) for i in there})

    def price(gone):
        levels = [level(i) for i in gone]
        in_kinds = [sum((level(i), -size[i]) == kind for i in gone) for kind in kinds]
        turns = [sorted(turn(i) for i in gone if (level(i), -size[i]) == kind) for kind in kinds]
        return levels.count(2), levels.count(1), sum(size[i] for i in gone), len(gone), [-k for k in in_kinds], turns

    total = sum(size[i] for i in there)
    choices = [gone for k in range(len(there) + 1) for gone in combinations(there, k)]
    gone = min((c for c in choices if (total - sum(size[i] for i in c)) % multiple == 0), key=price)
    reason = f"over the multiple of {multiple}"
    if len(gone) == len(there):
        reason = (
            f"fewer than {multiple} samples" if total < multiple else f"no multiple of {multiple} in whole rollouts"
        )
    why |= dict.fromkeys(gone, reason)
    return [i for i in there if i not in gone], why
