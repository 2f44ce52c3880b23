"""Advantage reweighting, token by token."""

import math


def low_probability_weight(advantages, logprobs, *, alpha):
    return [a * (alpha * min(math.exp(x), 1.0) + 1 - alpha) for a, x in zip(advantages, logprobs, strict=True)]
