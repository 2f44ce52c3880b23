"""The length-adaptive lambda, written out."""


def length_adaptive_lambda(lengths, *, alpha=0.05):
    """1 - 1 / (alpha l), not below 0; a row without tokens has no use for it and gets 0."""
    return [max(0.0, 1.0 - 1.0 / (alpha * n)) if n > 0 else 0.0 for n in lengths]
