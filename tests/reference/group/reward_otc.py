"""OTC's reward from the paper's formulas, rollout by rollout."""

import math

import numpy as np


def otc_reward(rewards, ids, calls, *, max_calls, correct=None, optimal=None, alpha=1.0, form="grpo", valid=None):
    keep = [True] * len(rewards) if valid is None else [bool(v) for v in valid]
    right = [r > 0 for r in rewards] if correct is None else [bool(v) for v in correct]
    out = np.zeros(len(rewards))
    for i, r in enumerate(rewards):
        if not keep[i]:
            continue
        m, c = float(calls[i]), max_calls
        if form == "ppo":
            factor = math.cos(m * math.pi / (2 * m + c))
        else:
            if optimal is None:
                found = [calls[j] for j in range(len(ids)) if keep[j] and right[j] and ids[j] == ids[i]]
                n = float(min(found)) if found else math.nan
            else:
                n = float(optimal[i])
            f = 0.0 if m == n == 0 else m if n == 0 else 2 * n * m / (m + n)
            if math.isnan(n) or f == n == 0:
                factor = 1.0
            elif n == 0:
                factor = math.cos(m * math.pi / (2 * m + c))
            else:
                factor = math.sin(f * math.pi / (2 * n))
        out[i] = alpha * factor * r
    return out
