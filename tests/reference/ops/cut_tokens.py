"""Cut points of one row after another. A row is a list, its mask one of marks; a gap is no candidate."""

import math


def finish(cuts, mask, include_prompt):
    """Sorted, before the last trained token, and with the bare prompt if asked for."""
    last = max((t for t, m in enumerate(mask) if m), default=-1)
    cuts = {c for c in cuts if c < last}
    return sorted(cuts | {-1} if include_prompt and last >= 0 else cuts)


def cut_by_probability(logprobs, masks, threshold, stride, include_prompt):
    out = []
    for row, mask in zip(logprobs, masks, strict=True):
        before = [t - 1 for t, (x, m) in enumerate(zip(row, mask, strict=True)) if m and math.exp(x) < threshold]
        out.append(finish(before[::stride], mask, include_prompt))
    return out


def cut_by_surprisal(logprobs, masks, counts, include_prompt):
    out = []
    for row, mask, n in zip(logprobs, masks, counts, strict=True):
        candidates = sorted((x, t) for t, (x, m) in enumerate(zip(row, mask, strict=True)) if m)
        out.append(finish([t - 1 for _, t in candidates[:n]], mask, include_prompt))
    return out


def cut_by_delimiter(tokens, masks, delimiters, include_prompt):
    out = []
    for row, mask in zip(tokens, masks, strict=True):
        after = [t for t, (x, m) in enumerate(zip(row, mask, strict=True)) if m and x in delimiters]
        out.append(finish(after, mask, include_prompt))
    return out
