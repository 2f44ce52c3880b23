"""Segments of one token after another."""


def segment_of(cuts, masks):
    return [
        [sum(c < t for c in row) if m else -1 for t, m in enumerate(mask)]
        for row, mask in zip(cuts, masks, strict=True)
    ]


def expand_segments(x, cuts, masks):
    numbers = segment_of(cuts, masks)
    return [[own[j] if j >= 0 else 0.0 for j in row] for own, row in zip(x, numbers, strict=True)]
