"""Returns of steps and segments, summed up anew for every row."""

import math

from step_tables import paths, returns, reward_of_rows


def step_returns(trajectory, step, *, rewards=None, step_rewards=None, gamma=1.0):
    return returns(trajectory, step, reward_of_rows(trajectory, step, rewards, step_rewards), gamma)


def segment_returns(trajectory, step, segments, *, rewards=None, step_rewards=None, gamma=1.0, discount="step"):
    earned = reward_of_rows(trajectory, step, rewards, step_rewards)
    each = returns(trajectory, step, earned, gamma)
    out = [None] * len(step)
    for path in paths(trajectory, step).values():
        names = list(dict.fromkeys(segments[i] for i in path))
        total = [math.fsum(earned[i] for i in path if segments[i] == name) for name in names]
        for i in path:
            k = names.index(segments[i])
            if discount == "step":
                out[i] = each[next(j for j in path if segments[j] == segments[i])]
            else:
                out[i] = math.fsum(gamma**m * r for m, r in enumerate(total[k:]))
    return out
