"""MMR1's variance-aware sampling, in fractions and lists."""

from fractions import Fraction

from races import first
from uid_order import bits, word


def learnability(success_rates):
    return [float(Fraction(float(p)) * (1 - Fraction(float(p)))) for p in success_rates]


def vas_weights(scores, *, previous=None, momentum=0.0, valid=None):
    s = [Fraction(float(x)) for x in scores]
    there = [i for i in range(len(s)) if valid is None or valid[i]]
    low, high = min((s[i] for i in there), default=0), max((s[i] for i in there), default=0)
    out = [0.0] * len(s)
    m = Fraction(momentum)
    for i in there:
        new = (s[i] - low) / (high - low) if high > low else Fraction(1)
        out[i] = float(new if previous is None else m * Fraction(float(previous[i])) + (1 - m) * new)
    return out


def vas(weights, prompts, *, keep, ratio, seed, short="keep", valid=None):
    n = len(prompts)
    there = [i for i in range(n) if valid is None or valid[i]]
    if short == "drop" and len(there) < keep:
        return []
    words = [word(bits(uid), seed) for uid in prompts]
    by_weight = first(weights, prompts, [i for i in there if weights[i] > 0], int(Fraction(str(ratio)) * keep), words)
    others = [i for i in there if i not in by_weight]
    uniform = first([1.0] * n, prompts, others, keep - len(by_weight), [word(w, 1) for w in words])
    return sorted(by_weight + uniform)
