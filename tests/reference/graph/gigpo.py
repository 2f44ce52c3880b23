"""GiGPO, term by term."""

import math

from step_tables import paths, returns, reward_of_rows, standard


def gigpo(
    table, rewards=None, *, step_rewards=None, gamma=0.95, weight=1.0, scale="none", statistics="trajectories",
    advantages=None, ddof=1, eps=1e-6, singleton="raw",
):  # fmt: skip
    if rewards is None:
        by_path = paths(table["trajectory"], table["step"])
        rewards = {t: math.fsum(step_rewards[i] for i in path) for t, path in by_path.items()}
    rules = {"scale": scale, "ddof": ddof, "eps": eps}
    if advantages is None:
        advantages = gigpo_episode(table, rewards, statistics=statistics, singleton=singleton, **rules)
    step = gigpo_step(table, rewards, step_rewards=step_rewards, gamma=gamma, singleton="zero", **rules)
    return [float(advantages[t]) + weight * a for t, a in zip(table["trajectory"], step, strict=True)]


def gigpo_episode(table, rewards, *, statistics="trajectories", singleton="raw", **rules):
    """By trajectory id."""
    task = dict(zip(table["trajectory"], table["groups"], strict=True))
    ids = list(task) if statistics == "trajectories" else table["trajectory"]
    out = standard([float(rewards[t]) for t in ids], [task[t] for t in ids], singleton=singleton, **rules)
    return dict(zip(ids, out, strict=True))


def gigpo_step(table, rewards=None, *, step_rewards=None, gamma=0.95, singleton="zero", **rules):
    trajectory, step = table["trajectory"], table["step"]
    earned = reward_of_rows(trajectory, step, rewards, step_rewards)
    anchors = list(zip(table["groups"], table["state"], strict=True))
    return standard(returns(trajectory, step, earned, gamma), anchors, singleton=singleton, **rules)
