"""Sets of trajectories: combinations, or the first members of random orders."""

from itertools import combinations

from draws import pcg, permutation


def trajectory_sets(states, *, size=4, count=None, seed=None):
    families = [[i for i, s in enumerate(states) if s == state] for state in dict.fromkeys(states)]
    families = [f for f in families if len(f) >= size]
    if count is None:
        return [list(c) for f in families for c in combinations(f, size)]
    copies = [(k, i) for k, f in enumerate(f for f in families for _ in range(count)) for i in f]
    out = [[] for _ in range(len(families) * count)]
    for row in permutation(pcg(seed), len(copies)):
        k, i = copies[row]
        if len(out[k]) < size:
            out[k].append(i)
    return [sorted(members) for members in out]
