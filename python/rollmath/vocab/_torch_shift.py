"""What the forward and backward passes in plain torch share: soft-cap, temperature and shift."""

from __future__ import annotations

import math

import torch

LOG2E, LN2 = math.log2(math.e), math.log(2)

# exp of this is exactly 0 in float64, so as a factor it stands for a log-probability of -inf without ever meeting 0.
LOWEST = -1000.0


def capped(x: torch.Tensor, softcap: float | None, room: torch.Tensor) -> torch.Tensor:
    """``c tanh(x / c)`` in the dtype of the arithmetic; infinite logits stay what they are. May write to ``room``."""
    if softcap is None:
        return x if x.dtype == room.dtype else room.copy_(x)
    infinite = x.isinf()
    # A copy, because ``x`` may lie in the room itself.
    original = x.to(room.dtype, copy=True) if _any(infinite) else None
    wide = room.copy_(x).div_(softcap).tanh_().mul_(softcap)
    return wide if original is None else torch.where(infinite, original, wide, out=room)


def _any(condition: torch.Tensor) -> bool:
    """Whether to bother: on a CPU a look costs less than a pass, on a device it would wait."""
    return condition.device.type != "cpu" or bool(condition.any())


def scale(z: torch.Tensor, inverse: float | torch.Tensor) -> None:
    """``z / T``, in place."""
    if isinstance(inverse, torch.Tensor):
        z.mul_(inverse.to(z.dtype)[:, None])
    elif inverse != 1:
        z.mul_(inverse)


def per_row(inverse: float | torch.Tensor) -> float | torch.Tensor:
    """``1 / T`` in float64."""
    return inverse.double() if isinstance(inverse, torch.Tensor) else inverse


def log2_shift(
    peak: torch.Tensor, inverse: float | torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """``c``, which is ``k`` times the largest logit, rounded to ``dtype``, and what the rounding left (float64)."""
    exact = peak * (per_row(inverse) * LOG2E)
    shift = exact.to(dtype)
    return shift, (exact - shift.double()).masked_fill_(peak == -torch.inf, 0)


def reference(
    shift: torch.Tensor, log2_l: torch.Tensor, inverse: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``m`` and ``s`` with ``log p_j = (x_j - m) / T + s``, where ``m`` is near the largest logit."""
    k = per_row(inverse) * LOG2E
    top = (shift.double() / k).to(shift.dtype)
    rest = top.double() * k - shift.double()
    return top, (rest - log2_l.double()).mul_(LN2).to(shift.dtype)
