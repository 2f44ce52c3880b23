"""REINFORCE over steps, with the rows of each baseline written out."""

from definitions import lone, mean
from step_tables import place, returns, reward_of_rows


def step_reinforce(
    table, rewards=None, *, step_rewards=None, gamma=1.0, baseline="task", leave_one_out=False, singleton="zero"
):
    trajectory, step = table["trajectory"], table["step"]
    g = returns(trajectory, step, reward_of_rows(trajectory, step, rewards, step_rewards), gamma)
    if baseline == "none":
        return g
    at = [at for _, at in place(trajectory, step)]
    keys = [
        (table["groups"][i], {"task": 0, "position": at[i], "state": table["state"][i]}[baseline])
        for i in range(len(g))
    ]
    out = []
    for i, key in enumerate(keys):
        rows = [j for j, k in enumerate(keys) if k == key]
        if leave_one_out:
            rows = [j for j in rows if trajectory[j] != trajectory[i]]
        none_else = not rows if leave_one_out else len(rows) == 1
        out.append(lone(g[i], singleton) if none_else else g[i] - mean([g[j] for j in rows]))
    return out
