"""GraphGPO as its code goes: distances to success, task by task, then two normalised terms."""

import math

from graph_tables import END, by_row, episode, transitions, z


def graphgpo(
    table, rewards, *, omega=0.1, formula="code", success=None, costs=None, truncated=None, scale="std", beta_e=1.0,
    beta_g=1.0, statistics="trajectories", advantages=None, eps=1e-6,
):  # fmt: skip
    won = [r > 0 for r in rewards] if success is None else success
    moves = transitions(table, ["won" if w else "lost" for w in won], truncated)
    cost = {row: 1.0 if costs is None else costs[row] for row, _, _ in moves}
    distance = {node: 0.0 if node[1:] == (END, "won") else math.inf for _, a, b in moves for node in (a, b)}
    for _ in distance:
        for row, a, b in moves:
            distance[a] = min(distance[a], cost[row] + distance[b])
    farthest = {}
    for (task, *_), d in distance.items():
        farthest[task] = max(farthest.get(task, 0.0), d if d < math.inf else 0.0)
    distance = {node: d if d < math.inf else farthest[node[0]] + 1 for node, d in distance.items()}
    raw = {}
    for row, a, b in moves:
        if not any(node[0] == a[0] and node[1:] == (END, "won") for node in distance):
            raw[row] = 0.0
            continue
        power = distance[b] + cost[row] - {"code": 1.0, "paper": 0.0, "progress": distance[a]}[formula]
        raw[row] = 10 * omega**power
    rows = sorted(raw)
    source = {row: a for row, a, _ in moves}
    step = z([raw[row] for row in rows], [source[row] for row in rows], scale, "zero", eps=eps)
    first = episode(table, rewards, scale, statistics, advantages, eps)
    return by_row((row, beta_e * first[row] + beta_g * x) for row, x in zip(rows, step, strict=True))
