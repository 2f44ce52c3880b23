"""What the oracles of mismatch corrections and their tests share: random batches, which tokens make a turn, row or
rollout, and their ratios."""

import math
from types import SimpleNamespace

import numpy as np

FAR = 1e15


def random_batch(seed, *, n_rows=5, scale=1.0, nan=0.0):
    """Rows with gaps, empty rows and rollouts of several rows; every column is a list of rows of floats."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, n_rows)

    def column(make):
        return [[float(make()) for _ in range(n)] for n in lengths]

    prox = column(lambda: -rng.gamma(1.0))
    return SimpleNamespace(
        rollout=[int(x) for x in rng.integers(0, 3, n_rows)],
        lengths=[int(n) for n in lengths],
        mask=[[int(rng.random() < 0.7) for _ in range(n)] for n in lengths],
        theta=[[x + 0.3 * scale * float(rng.standard_normal()) for x in row] for row in prox],
        prox=prox,
        behaviour=[
            [math.nan if rng.random() < nan else x + scale * float(rng.standard_normal()) for x in row] for row in prox
        ],
        advantages=column(lambda: rng.choice([-1.5, 0.0, 0.5])),
        version=[[int(rng.integers(-1, 10)) for _ in range(n)] for n in lengths],
    )


def trained(batch):
    """All trained tokens as (row, position)."""
    return [(i, t) for i, row in enumerate(batch.mask) for t, inside in enumerate(row) if inside]


def units(batch, level):
    """The tokens of each unit of a level; units without tokens are left out."""
    if level == "token":
        return [[at] for at in trained(batch)]
    found = {}
    for i, t in trained(batch):
        if level == "turn":
            start = t
            while start > 0 and batch.mask[i][start - 1]:
                start -= 1
            key = (i, start)
        else:
            key = i if level == "row" else batch.rollout[i]
        found.setdefault(key, []).append((i, t))
    return list(found.values())


def log_ratio(batch, at, ratio, missing="nan"):
    """log(p / q) of a token for ``ratio = "p/q"``."""
    i, t = at
    p, q = ratio.split("/")
    if missing != "nan" and "behaviour" in (p, q) and math.isnan(batch.behaviour[i][t]):
        return 0.0
    above, below = (getattr(batch, name)[i][t] for name in (p, q))
    return max(-FAR, min(FAR, above)) - max(-FAR, min(FAR, below)) if above == above and below == below else math.nan


def exponential(x):
    """e^x, infinite rather than an error."""
    return math.inf if x > 700 else math.exp(x)


def zeros(batch):
    """A weight of 0 for every position."""
    return [[0.0] * n for n in batch.lengths]


def lost(batch, at, ratio, missing):
    """Whether the token itself gets weight 0 because the sampler did not score it."""
    return missing == "zero" and "behaviour" in ratio and math.isnan(batch.behaviour[at[0]][at[1]])


# For the tests: the same batch as the library takes it.


def inputs(batch, *, padded=False, dtype=None):
    """LogProbs and Rows of a batch; what is not trained holds NaN."""
    import torch

    import rollmath as rm

    mask = [x for row in batch.mask for x in row]
    rows = rm.Rows(batch.rollout, batch.lengths, mask=mask, version=batch.version)

    def column(values):
        known = [x if inside else math.nan for x, inside in zip(flat(values), mask, strict=True)]
        packed = torch.tensor(known, dtype=dtype or torch.float64)
        return rm.Ragged(packed, rows.offsets).to_padded(max(batch.lengths) + 1, fill=math.nan) if padded else packed

    return rm.LogProbs(*(column(getattr(batch, name)) for name in ("theta", "prox", "behaviour"))), rows


def flat(values):
    """Rows one after the other."""
    return np.array([x for row in values for x in row], np.float64)
