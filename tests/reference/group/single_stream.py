"""Single-stream advantages with the posterior in a dict, one prompt after the other."""

import math

import numpy as np


def single_stream(
    rewards,
    prompts,
    state,
    *,
    drift=None,
    whiten=None,
    valid=None,
    prior=(0.5, 0.5),
    rho=(0.875, 0.96),
    half_drift=0.06,
):
    """`state` is {prompt: (alpha, beta)}; gives the advantages and the new state. `whiten` is (ddof, eps), added."""
    n = len(rewards)
    rows = [i for i in range(n) if valid is None or valid[i]]
    out = np.zeros(n)
    for i in rows:
        alpha, beta = state.get(prompts[i], prior)
        out[i] = rewards[i] - alpha / (alpha + beta)
    if whiten is not None and rows:
        ddof, eps = whiten
        values = [out[i] for i in rows]
        if min(values) == max(values):
            out[:] = 0.0
        elif len(values) > ddof:
            mean = math.fsum(values) / len(values)
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - ddof))
            for i in rows:
                out[i] = (out[i] - mean) / (std + eps)
    new = dict(state)
    for prompt in dict.fromkeys(prompts[i] for i in rows):
        mine = [i for i in rows if prompts[i] == prompt]
        d = 0.0 if drift is None else math.fsum(drift[i] for i in mine) / len(mine)
        factor = min(max(2 ** (-d / half_drift), rho[0]), rho[1])
        alpha, beta = state.get(prompt, prior)
        new[prompt] = (
            factor * alpha + math.fsum(rewards[i] for i in mine),
            factor * beta + math.fsum(1 - rewards[i] for i in mine),
        )
    return out, new
