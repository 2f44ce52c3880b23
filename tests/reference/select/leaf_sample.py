"""Leaves of each tree or prompt, drawn one after another."""

from draws import pcg, permutation


def leaf_sample(groups, families, *, k, seed, spread="leaves", correct=None):
    """``groups`` and ``families`` (which parent) of each rollout; the rollouts kept."""
    bits, n = pcg(seed), len(groups)
    order, among = permutation(bits, n), permutation(bits, n)
    sure = {}
    if correct is not None:
        for i in permutation(bits, n):
            if correct[i]:
                sure.setdefault(groups[i], i)
    kept = []
    for group in dict.fromkeys(groups):
        first = [sure[group]] if group in sure else []
        rest = first + [i for i in order if groups[i] == group and i not in first]
        if spread == "parents":
            turn = {}
            for family in {families[i] for i in rest}:
                own = [i for i in first if families[i] == family]
                own += [i for i in among if groups[i] == group and families[i] == family and i not in own]
                turn |= {i: t for t, i in enumerate(own)}
            rest.sort(key=turn.__getitem__)
        kept += rest[:k]
    return sorted(kept)
