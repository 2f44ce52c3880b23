"""HGPO, level by level and row by row."""

from step_tables import place, returns, reward_of_rows, standard


def hgpo(
    table, rewards=None, *, step_rewards=None, history=2, alpha=1.0, offset=1.0, gamma=0.95, scale="std",
    zeros="exclude", advantages=None, ddof=0, eps=1e-6,
):  # fmt: skip
    trajectory, step, state = table["trajectory"], table["step"], table["state"]
    g = returns(trajectory, step, reward_of_rows(trajectory, step, rewards, step_rewards), gamma)
    items = [[] if advantages is None else [(0, float(advantages[t]))] for t in trajectory]
    for k in range(1, history + 2):
        keys = {
            i: (table["groups"][i], *(state[j] for j in path[at - k + 1 : at + 1]))
            for i, (path, at) in enumerate(place(trajectory, step))
            if at >= k - 1
        }
        shared = [i for i in keys if list(keys.values()).count(keys[i]) > 1]
        level = standard([g[i] for i in shared], [keys[i] for i in shared], scale=scale, ddof=ddof, eps=eps)
        for i, a in zip(shared, level, strict=True):
            items[i].append((k, a))
    out = []
    for row in items:
        kept = [((k + offset) ** alpha, a) for k, a in row if zeros == "count" or a != 0]
        out.append(sum(w * a for w, a in kept) / (sum(w for w, _ in kept) + eps) if kept else 0.0)
    return out
