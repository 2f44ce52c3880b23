"""CHORD, number by number."""

import math


def chord_phi(logprobs):
    return [(p := min(math.exp(x), 1.0)) * (1 - p) for x in logprobs]


def chord(rl_loss, sft_loss, *, mu):
    return rl_loss + mu * (sft_loss - rl_loss)
