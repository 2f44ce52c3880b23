"""Slow, clear float64 diagnostics of the mismatch, from all tokens of a step at once."""

import math

from mismatch_units import exponential, log_ratio, trained, zeros


def mismatch(batch, weights):
    """The metrics by name, given the weights in rows."""
    tokens = trained(batch)
    n = max(len(tokens), 1)
    w = [weights[i][t] for i, t in tokens]
    x = [log_ratio(batch, at, "prox/behaviour") for at in tokens if not math.isnan(batch.behaviour[at[0]][at[1]])]
    return {
        "mismatch_weight": math.fsum(w) / n,
        "mismatch_weight_square": math.fsum(one * one for one in w) / n,
        "mismatch_kept": sum(one != 0 for one in w) / n,
        "mismatch_missing": (len(tokens) - len(x)) / n,
        "mismatch_k1": math.fsum(-one for one in x) / n,
        "mismatch_k3": math.fsum(exponential(one) - 1 - one for one in x) / n,
        "mismatch_chi_square": math.fsum(exponential(2 * one) - 1 for one in x) / n,
        "mismatch_abs": math.fsum(abs(one) for one in x) / n,
        "mismatch_abs_max": max(map(abs, x), default=0.0),
    }


def mismatch_report(batch, weights):
    """The report by name, straight from the tokens."""
    tokens = trained(batch)
    w = [weights[i][t] for i, t in tokens]
    x = [log_ratio(batch, at, "prox/behaviour") for at in tokens if not math.isnan(batch.behaviour[at[0]][at[1]])]

    square = math.fsum(one * one for one in w)

    def mean(values, n):
        return math.fsum(values) / n if n else math.nan

    return {
        "k1": mean([-one for one in x], len(x)),
        "k3": mean([math.exp(one) - 1 - one for one in x], len(x)),
        "chi_square": mean([math.exp(2 * one) - 1 for one in x], len(x)),
        "perplexity_ratio": math.exp(mean([-one for one in x], len(x))) if x else math.nan,
        "log_ratio_abs": mean([abs(one) for one in x], len(x)),
        "log_ratio_abs_max": max(map(abs, x), default=0.0),
        "missing": 1 - len(x) / len(tokens),
        "weight": mean(w, len(w)),
        "kept": mean([one != 0 for one in w], len(w)),
        "effective_sample_size": math.fsum(w) ** 2 / (len(w) * square) if square else math.nan,
    }


def correction_weights(batch, parts):
    """The product of weights given in rows, 0 at gaps."""
    weights = zeros(batch)
    for i, t in trained(batch):
        weights[i][t] = math.prod(part[i][t] for part in parts)
    return weights
