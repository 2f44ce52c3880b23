"""ARPO and AEPO by their formulas, one rollout at a time."""

import math

import numpy as np
from definitions import lone, mean, std


def arpo_hard(parents, leaf_nodes, rewards, prompts, *, ddof=1, eps=1e-6, singleton="zero"):
    """``prompts``: one id a rollout."""
    below = {v: [c for c, p in enumerate(parents) if p == v] for v in range(len(parents))}
    advantage = {}
    for v, r, prompt in zip(leaf_nodes, rewards, prompts, strict=True):
        group = [float(x) for x, g in zip(rewards, prompts, strict=True) if g == prompt]
        if len(group) == 1:
            advantage[v] = lone(group[0], singleton, lambda s: s + eps)
        else:
            spread = std(group, ddof)
            advantage[v] = (float(r) - mean(group)) / (spread + eps) if min(group) < max(group) else 0.0

    def sharing(v):
        return [a for c in below[v] for a in sharing(c)] if below[v] else [advantage[v]]

    return [mean(sharing(v)) if p >= 0 else 0.0 for v, p in enumerate(parents)]


def arpo_entropy(logprobs, *, vocab_size):
    out = []
    for row in logprobs:
        flat = np.ravel(row).tolist()
        out.append(-math.fsum(math.exp(x) * x for x in flat if x > -math.inf) / math.log(vocab_size))
    return out


def arpo_branch(entropy_change, *, seed, branch_probability=0.5, entropy_weight=0.5):
    draws = np.random.Generator(np.random.PCG64(seed)).random(len(entropy_change)).tolist()
    scores = [min(max(u - entropy_weight * d, 0.0), 1.0) for u, d in zip(draws, entropy_change, strict=True)]
    return scores, [s <= branch_probability for s in scores]


def aepo_branch_probability(entropy_change, penalty, *, alpha=0.5, gamma=0.5):
    return [min(max((alpha + gamma * d) * (1 - q), 0.0), 1.0) for d, q in zip(entropy_change, penalty, strict=True)]


def aepo_budget(root_entropy, tool_entropy, *, k, beta=1.0):
    return [k / (1 + math.exp(-beta * (a - b))) for a, b in zip(root_entropy, tool_entropy, strict=True)]
