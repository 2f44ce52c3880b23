"""SPO-chain, one token after another."""

import math


def spo_chain(logprobs, masks, cuts, values, scores, threshold=0.9, prompts=None):
    """Lists of lists. ``prompts`` has the value of each prompt that no cut asked for; None: such a segment gets 0."""
    out = []
    for i, (row, mask) in enumerate(zip(logprobs, masks, strict=True)):
        value = dict(zip(cuts[i], values[i], strict=True))
        advantages = []
        for t, (x, trained) in enumerate(zip(row, mask, strict=True)):
            before = [c for c in cuts[i] if c < t]
            after = [c for c in cuts[i] if c >= t]
            base = value[max(before)] if before else None if prompts is None else prompts[i]
            goal = value[min(after)] if after else scores[i]
            confident = threshold is not None and math.exp(x) > threshold
            advantages.append(0.0 if base is None or confident or not trained else goal - base)
        out.append(advantages)
    return out


def probability_mask(logprobs, masks, threshold):
    return [
        [bool(m) and math.exp(x) < threshold for x, m in zip(row, mask, strict=True)]
        for row, mask in zip(logprobs, masks, strict=True)
    ]
