"""HPT's gate and the shaping of demonstrations, prompt by prompt and token by token."""

import math


def hpt_gate(correct, ids, *, gamma=0.0, rl=1.0, sft=1.0, valid=None):
    """``(alpha, beta)`` of each prompt, in the order of first appearance."""
    weights = []
    for prompt in dict.fromkeys(ids):
        own = [bool(c) for i, c in enumerate(correct) if ids[i] == prompt and (valid is None or valid[i])]
        if not own:
            weights.append((0.0, 0.0))
        elif sum(own) / len(own) <= gamma:
            weights.append((0.0, sft))
        else:
            weights.append((rl, 0.0))
    return weights


def off_policy_shaping(logprobs, *, gamma=0.1):
    """``(value, derivative)`` of each token."""
    ps = [math.exp(x) for x in logprobs]
    return [(p / (p + gamma), gamma * p / (p + gamma) ** 2) for p in ps]
