"""RewardFlow as its code goes: sweeps over the graph until nothing changes, then two normalised terms."""

from graph_tables import END, by_row, episode, transitions, z


def values_of_nodes(moves, gamma):
    value = {node: node[2] if node[1] == END else 0.0 for _, a, b in moves for node in (a, b)}
    while True:
        new = dict(value)
        for _, a, b in moves:
            new[a] = max(new[a], gamma * value[b])
        if new == value:
            return value
        value = new


def rewardflow_values(table, rewards, *, gamma=0.95, truncated=None):
    moves = transitions(table, [float(r) for r in rewards], truncated)
    v = values_of_nodes(moves, gamma)
    return by_row((row, v[a]) for row, a, _ in moves), by_row((row, v[b]) for row, _, b in moves)


def rewardflow(
    table, rewards, *, gamma=0.95, last="value", truncated=None, scale="none", weight=1.0, statistics="trajectories",
    advantages=None, eps=1e-6,
):  # fmt: skip
    here, ahead = rewardflow_values(table, rewards, gamma=gamma, truncated=truncated)
    earned = [b - a for a, b in zip(here, ahead, strict=True)]
    if last == "reward":
        for reward, one in zip(rewards, table, strict=True):
            earned[one["rows"][-1][0]] = reward
    state = {row: (one["task"], s) for one in table for row, s, _ in one["rows"]}
    step = z(earned, [state[row] for row in range(len(earned))], scale, "zero", eps=eps)
    first = episode(table, rewards, scale, statistics, advantages, eps)
    return [first[row] + weight * x for row, x in enumerate(step)]
