"""Log-probabilities and entropies for the suite of losses, with what a float64 loop over rows makes of them."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bench.inputs import padded_rows

CLIP, DUAL, KL, ENTROPY = (0.2, 0.28), 3.0, 0.001, 0.01


class Batch(NamedTuple):
    """Tensors ``[rows, width]``, 0 behind the end of each row."""

    lengths: np.ndarray
    mask: Any
    theta: Any
    prox: Any
    ref: Any
    entropy: Any
    advantages: Any  # one a row


@lru_cache(maxsize=1)
def batch(rows: int, width: int, fill: float) -> Batch:
    import torch

    lengths = np.full(rows, width) if fill == 1 else np.maximum(padded_rows(rows, width, fill).lengths, 1)
    mask = torch.arange(width) < torch.from_numpy(lengths)[:, None]
    generator = torch.Generator().manual_seed(0)

    def column(make, *, scale, base=None):
        x = make(rows, width, generator=generator).mul_(scale)
        return (x if base is None else x.add_(base)).mul_(mask)

    prox = column(torch.rand, scale=-3)
    theta = column(torch.randn, scale=0.2, base=prox)
    for bound in (1 - CLIP[0], 1 + CLIP[1], DUAL):
        # Where a ratio is on a bound to the last digit, float32 decides either way.
        theta += 1e-3 * (((theta - prox) - math.log(bound)).abs() < 1e-4)
    ref = column(torch.randn, scale=0.2, base=prox)
    entropy = column(torch.rand, scale=1)
    return Batch(lengths, mask, theta, prox, ref, entropy, torch.randn(rows, generator=generator))


@lru_cache(maxsize=1)
def expected(rows: int, width: int, fill: float) -> tuple[Any, Any, Any]:
    """Loss, and the gradients times the number of trained tokens, in float64, from the definitions."""
    import torch

    data = batch(rows, width, fill)
    tokens, total = int(data.mask.sum()), 0.0
    gradient = torch.empty(rows, width)
    for i in range(rows):
        theta, prox, ref, h = (x[i].double() for x in (data.theta, data.prox, data.ref, data.entropy))
        a, inside = float(data.advantages[i]), data.mask[i]
        rho, d = (theta - prox).exp(), ref - theta
        bounded = rho.clamp(1 - CLIP[0], 1 + CLIP[1])
        loss = torch.maximum(-a * rho, -a * bounded)
        slope = torch.where(-a * rho >= -a * bounded, -a * rho, 0)
        if a < 0:
            slope = torch.where(loss > -a * DUAL, 0, slope)
            loss = loss.clamp(max=-a * DUAL)
        terms = (loss + KL * (d.exp() - d - 1) - ENTROPY * h)[inside]
        total += math.fsum(terms.tolist())
        gradient[i] = torch.where(inside, slope + KL * (1 - d.exp()), 0)
    return np.array(total / tokens), gradient, (-ENTROPY * data.mask).float()


def packed(data: Batch, x: Any) -> Any:
    return x[data.mask]
