"""One number a row to its tokens, written out."""


def expand(x, masks):
    """`masks` are lists of marks, one list a row."""
    return [[v if m else 0.0 for m in mask] for v, mask in zip(x, masks, strict=True)]
