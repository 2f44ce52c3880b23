"""Scores of tokens by their formulas; what is not trained is None."""

import numpy as np
from token_choice import choose


def high_entropy_tokens(entropy, *, share=0.2, **options):
    return choose(entropy, share=share, **options)


def product(a, h, dtype):
    """|a| h rounded once: the product of two float32 is exact in float64."""
    return None if h is None else float(dtype(abs(a) * h))


def d3s_tokens(advantages, entropy, *, dtype=np.float32, **options):
    pairs = zip(advantages, entropy, strict=True)
    return choose([[product(a, h, dtype) for a, h in zip(*pair, strict=True)] for pair in pairs], **options)


def low_probability_tokens(logprobs, *, advantages=None, of="negative", **options):
    if advantages is None:
        return choose(logprobs, largest=False, **options)
    low = [[a < 0 for a in row] for row in advantages]
    if of == "negative":
        logprobs = [
            [x if ok else None for x, ok in zip(*pair, strict=True)] for pair in zip(logprobs, low, strict=True)
        ]
        return choose(logprobs, largest=False, **options)
    mask, thresholds, _, totals = choose(logprobs, largest=False, **options)
    mask = [[m and ok for m, ok in zip(*pair, strict=True)] for pair in zip(mask, low, strict=True)]
    kept = [sum(map(sum, mask))] if options.get("scope", "all") == "all" else [sum(row) for row in mask]
    return mask, thresholds, kept, totals
