"""``(x - center) / (scale with eps)`` within groups, one row after the other.

``center`` and ``scale`` are as in ``rollmath.ops.normalize``, but for ``("quantile", q, method)``, ``("weights", w)``
and ``("logmeanexp", beta)``.
"""

import math

import numpy as np

SPREADS = ("std", "loo_std")


def mean(v):
    return math.fsum(v) / len(v)


def std(v, ddof):
    if len(set(v)) == 1:
        return 0.0
    m = mean(v)
    return math.sqrt(math.fsum((a - m) ** 2 for a in v) / (len(v) - ddof)) if len(v) > ddof else math.nan


def guard(s, eps, eps_place):
    return {
        "add": lambda: s + eps,
        "max": lambda: max(s, eps),
        "sqrt": lambda: math.sqrt(s * s + eps),
        "where_positive": lambda: s + eps if s > 0 else 1.0,
    }[eps_place]()


def center_of(x, i, rows, center):
    values = x[rows]
    if isinstance(center, str):
        others = [x[j] for j in rows if j != i]
        return {"none": lambda: 0.0, "mean": lambda: mean(values), "loo": lambda: mean(others)}[center]()
    if isinstance(center, tuple):
        kind, *args = center
        if kind == "quantile":
            return np.quantile(values, args[0], method=args[1])
        if kind == "weights":
            w = np.asarray(args[0])[rows]
            return float(np.sum(w * values) / np.sum(w))
        return math.log(np.mean(np.exp(args[0] * values))) / args[0]
    return center if np.ndim(center) == 0 else center[i]


def scale_of(x, i, rows, scale, ddof, batch):
    if not isinstance(scale, str):
        return scale if np.ndim(scale) == 0 else scale[i]
    values = x[rows]
    others = [x[j] for j in rows if j != i]
    p = mean(values)
    return {
        "std": lambda: std(values, ddof),
        "loo_std": lambda: std(others, ddof),
        "mean": lambda: p,
        "bernoulli": lambda: p * (1 - p),
        "bernoulli_std": lambda: math.sqrt(p * (1 - p)),
        "batch_std": lambda: batch,
        "batch_residual_std": lambda: batch,
    }[scale]()


def normalize(
    x,
    ids,
    *,
    center="mean",
    scale="std",
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
):
    """Finite values only; the NaN policies have hand-written cases."""
    x = np.asarray(x, dtype=np.float64)
    keep = np.ones(len(x), bool) if valid is None else np.asarray(valid, bool)
    rows_of = {g: [i for i in range(len(x)) if ids[i] == g and keep[i]] for g in dict.fromkeys(ids)}
    seen = [i for i in range(len(x)) if keep[i]]
    from_group = isinstance(center, str) and center in {"mean", "loo"}

    def residual(i):
        rows = rows_of[ids[i]]
        if len(rows) == 1 and from_group:
            # Mean 0 is taken for a group of one, or it has no say at all.
            return {"zero": 0.0, "nan": math.nan}.get(singleton, x[i])
        return x[i] - center_of(x, i, rows, center)

    batch = 0.0
    if isinstance(scale, str) and scale.startswith("batch") and len(seen) > ddof:
        batch = std([x[i] if scale == "batch_std" else residual(i) for i in seen], ddof)

    out = np.zeros(len(x))
    for i in seen:
        rows, top = rows_of[ids[i]], residual(i)
        spread = isinstance(scale, str) and scale in SPREADS
        if len(rows) == 1 and (from_group or spread):
            if singleton == "raise":
                raise ValueError("a group of one")
            if singleton in {"zero", "nan"}:
                out[i] = 0.0 if singleton == "zero" else math.nan
                continue
            alone = 1.0 if singleton == "raw" else abs(x[i])
            s = alone if spread else None
        elif spread and len({x[j] for j in rows if j != i or scale == "std"}) == 1:
            if zero_spread == "raise":
                raise ValueError("a group without spread")
            out[i] = {"zero": 0.0, "unscaled": top, "nan": math.nan}[zero_spread]
            continue
        else:
            s = None
        if isinstance(scale, str) and scale == "none":
            out[i] = top
        else:
            s = scale_of(x, i, rows, scale, ddof, batch) if s is None else s
            out[i] = 0.0 if top == 0 else top / guard(s, eps, eps_place)
    return out
