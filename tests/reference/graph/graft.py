"""GRAFT as its paper goes: the Bellman equation, solved in fractions, and its Graph GAE by sets of nodes."""

from fractions import Fraction

from definitions import mean
from graph_tables import END, by_row, transitions, z


def values_of_nodes(moves, gamma):
    """V of each node; the value of an end is what it is called."""
    value = {b: Fraction(b[2]) for _, _, b in moves if len(b) == 3 and b[1] == END}
    reaches = set(value)
    while True:
        more = {a for _, a, b in moves if b in reaches} - reaches
        if not more:
            break
        reaches |= more
    free = [a for a in dict.fromkeys(a for _, a, _ in moves) if a in reaches]
    # (1 - gamma P) V = gamma P V(ends), by elimination.
    system = []
    for a in free:
        to = [b for _, source, b in moves if source == a]
        row = {a: Fraction(1)}
        for b in to:
            share = Fraction(gamma) / len(to)
            if b in value:
                row[None] = row.get(None, 0) + share * value[b]
            elif b in reaches:
                row[b] = row.get(b, 0) - share
        system.append(row)
    for i, a in enumerate(free):
        pivot = next(k for k in range(i, len(free)) if system[k].get(a, 0) != 0)
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = {k: v / system[i][a] for k, v in system[i].items()}
        for k in range(len(free)):
            factor = system[k].get(a, 0) if k != i else 0
            if factor:
                keys = system[k].keys() | system[i].keys()
                system[k] = {key: system[k].get(key, 0) - factor * system[i].get(key, 0) for key in keys}
    solved = {a: float(system[i].get(None, 0)) for i, a in enumerate(free)}
    known = {node: float(v) for node, v in value.items()} | solved
    return {node: known.get(node, 0.0) for _, a, b in moves for node in (a, b)}


def graft_values(table, rewards, *, gamma=0.99, truncated=None):
    moves = transitions(table, [float(r) for r in rewards], truncated)
    v = values_of_nodes(moves, gamma)
    return by_row((row, v[a]) for row, a, _ in moves), by_row((row, v[b]) for row, _, b in moves)


def graft(
    table, rewards, *, gamma=0.99, lam=None, values=None, truncated=None, scale="std", singleton="abs", eps=1e-6
):  # fmt: skip
    moves = transitions(table, [float(r) for r in rewards], truncated)
    if values is None:
        v = values_of_nodes(moves, gamma)
    else:
        v = {b: b[2] if len(b) == 3 else 0.0 for _, _, b in moves}
        v |= {a: mean([values[row] for row, other, _ in moves if other == a]) for _, a, _ in moves}
    residual = {row: gamma * v[b] - v[a] for row, a, b in moves}
    source, target = ({row: move[k] for row, *move in moves} for k in (0, 1))
    out = dict(residual)
    for one in table if lam is not None else []:
        rows = [row for row, _, _ in one["rows"]]
        for t, row in enumerate(rows):
            nodes = {target[row]}
            for k in range(1, len(rows) - t):
                edges = [other for other in residual if source[other] in nodes]
                if edges:
                    out[row] += (gamma * lam) ** k * mean([residual[other] for other in edges])
                nodes = {target[other] for other in edges}
    rows = sorted(out)
    if scale == "none":
        return [out[row] for row in rows]
    return z([out[row] for row in rows], [source[row] for row in rows], "std", singleton, eps=eps)
