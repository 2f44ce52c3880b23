"""RTMC as its formulas go: lists of the returns of each state and of each pair."""

from definitions import mean
from graph_tables import by_row, returns


def rtmc(table, rewards, *, step_rewards=None, gamma=0.99, visits="first", n_prior=2.0):
    at = returns(table, rewards, gamma, step_rewards)
    total = rewards
    if step_rewards is not None:
        total = [sum(step_rewards[row] for row, _, _ in one["rows"]) for one in table]
    of_pair, of_state = {}, {}
    for one in table:
        seen = set()
        for row, state, action in one["rows"]:
            if visits == "first" and (state, action) in seen:
                continue
            seen.add((state, action))
            of_pair.setdefault((one["task"], state, action), []).append(at[row])
            of_state.setdefault((one["task"], state), []).append(at[row])
    pairs = []
    for one in table:
        prior = mean([x for x, other in zip(total, table, strict=True) if other["task"] == one["task"]])
        for row, state, action in one["rows"]:
            values = of_state[one["task"], state]
            v = (sum(values) + n_prior * prior) / (len(values) + n_prior)
            pairs.append((row, mean(of_pair[one["task"], state, action]) - v))
    return by_row(pairs)
