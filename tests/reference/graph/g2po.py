"""G2PO as its code goes: values of states, values of where steps lead, three normalised terms."""

from definitions import mean
from graph_tables import by_row, episode, returns, z


def g2po(
    table, rewards, *, gamma=0.95, terminal=None, invalid=None, invalid_penalty=0.1, scale="std", weight=1.0,
    statistics="trajectories", advantages=None, eps=1e-6,
):  # fmt: skip
    after = rewards if terminal is None else terminal
    discounted = returns(table, rewards, gamma)
    visits = {}
    for one in table:
        for row, state, _ in one["rows"]:
            visits.setdefault((one["task"], state), []).append(gamma * discounted[row])
    state_of, task_of, ahead, gain = {}, {}, {}, {}
    for i, one in enumerate(table):
        keys = [(one["task"], state) for _, state, _ in one["rows"]]
        for t, (row, _, _) in enumerate(one["rows"]):
            value = after[i] if t + 1 == len(keys) else mean(visits[keys[t + 1]])
            state_of[row], task_of[row] = keys[t], one["task"]
            gain[row] = value - mean(visits[keys[t]])
            ahead[row] = value - (invalid_penalty if invalid is not None and invalid[row] else 0.0)
    rows = sorted(gain)
    local = z([ahead[row] for row in rows], [state_of[row] for row in rows], scale, "zero", eps=eps)
    edge = z([gain[row] for row in rows], [task_of[row] for row in rows], scale, "zero", eps=eps)
    first = episode(table, rewards, scale, statistics, advantages, eps)
    return by_row((row, first[row] + weight * (a + b)) for row, a, b in zip(rows, local, edge, strict=True))
