"""The 80/20 rule: train the tokens of highest entropy alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch

from rollmath._arrays import Array, ArrayLike, choice, describe, number
from rollmath._checks import real
from rollmath.loss._elementwise import read
from rollmath.ragged import Ragged


def entropy_threshold(
    entropy_parts: Iterable[ArrayLike], *, quantile: float, method: Literal["linear", "lower", "higher"] = "linear"
) -> float:
    """Entropy from which on a token is trained: ``x_(k) + (x_(k+1) - x_(k)) (r - k)``, ``r = quantile (n - 1)``.

    ``x_(0) <= x_(1) <= ...`` are the entropies of all n trained tokens of the step, and ``k = floor(r)``. The quantile
    is exact and of the whole step: a threshold of each micro-batch would train a fifth of a dull one too. With
    ``quantile=0.8``, :func:`entropy_mask` keeps the top 20 percent.

    Args:
        entropy_parts: 1-D arrays of the entropies of *trained* tokens, one a micro-batch or rank, in any order: NumPy,
            torch, lists. Any split of the same tokens gives the same bits, of any number of them
            (``torch.quantile`` of older releases ends at 2^24).
        quantile: in [0, 1]; 0 is the lowest entropy and keeps all tokens, 1 the highest.
        method: ``"linear"`` interpolates, as TRL does; ``"lower"`` and ``"higher"`` take the entropy ``x_(floor(r))``
            or ``x_(ceil(r))``, one that occurs.

    Returns:
        A float; for tensors on another device the call waits for them.

    Edge cases:
        Without any token it is infinity: nothing is trained. Equal entropies at the threshold are all kept. A rank r
        that is whole but for rounding (n 2^-51) is taken as whole: with 0.8, which is no float, the token at rank
        0.8 (n - 1) is its own threshold, and kept.

    Raises:
        TypeError: a single array instead of several; parts of a wrong dtype or rank.
        ValueError: NaN or infinity in a part, parts on two devices, ``quantile`` out of range.

    Source: Wang et al. 2025, arXiv 2506.01939; the interpolation from TRL's code (executed), which works in
    float32 and there may drop the token at a whole rank.

    >>> entropy_threshold([[0.1, 2.0, 0.2], [0.3, 0.4, 1.5]], quantile=0.8)
    1.5
    """
    who = "entropy_threshold"
    level = real(who, "quantile", quantile, 0.0, 1.0)
    choice(who, "method", method, ("linear", "lower", "higher"))
    x = _joined(who, entropy_parts)
    if not len(x):
        return math.inf
    rank = level * (len(x) - 1)
    if abs(rank - round(rank)) <= len(x) * 2.0**-51:
        rank = round(rank)
    below, above = math.floor(rank), math.ceil(rank)
    below, above = {"linear": (below, above), "lower": (below, below), "higher": (above, above)}[method]
    low, high = _order_statistics(x, below, above)
    # Plus 0, so that a zero has no sign: which of -0.0 and 0.0 comes first depends on the order of the parts.
    return min(low + (high - low) * (rank - below), high) + 0.0 if above > below else low + 0.0


def entropy_mask(entropy: ArrayLike | Ragged, threshold: float) -> Array:
    """Which tokens to train: ``entropy >= threshold``, compared in float64.

    A threshold between two float32 entropies is rounded to neither of them.

    Args:
        entropy: one a token, ``[tokens]`` or ``[B, T]``: NumPy, torch on any device, a list or a
            :class:`~rollmath.Ragged`. Gaps and padding may hold anything; combine the result with the mask of the
            rows.
        threshold: of the whole step, from :func:`entropy_threshold`; infinity keeps nothing.

    Returns:
        Bools in the shape and kind of ``entropy``; False for NaN.

    Raises:
        TypeError: wrong dtype or rank; a threshold that is no number.
        ValueError: a NaN threshold.

    Source: Wang et al. 2025, arXiv 2506.01939; TRL's code executed.

    >>> entropy_mask([0.1, 2.0, 1.5], 1.5).tolist()
    [False, True, True]
    """
    who = "entropy_mask"
    least = number(who, "threshold", threshold)
    if math.isnan(least):
        msg = f"{who}(): 'threshold' must be a number that is not NaN, got {threshold}"
        raise ValueError(msg)
    column = read(who, "entropy", entropy)
    return column.back(column.exact >= least)


def _joined(who: str, parts: Iterable[ArrayLike]) -> torch.Tensor:
    """All entropies in one new tensor, which may be reordered in place."""
    if isinstance(parts, (torch.Tensor, np.ndarray, Ragged, str)) or not isinstance(parts, Iterable):
        msg = f"{who}(): 'entropy_parts' must be an iterable of 1-D arrays, got {describe(parts)}; put one in a list"
        raise TypeError(msg)
    columns = [read(who, f"entropy_parts[{i}]", part, ranks=(1,)).values for i, part in enumerate(parts)]
    for i, x in enumerate(columns):
        if x.device != columns[0].device:
            msg = f"{who}(): 'entropy_parts[{i}]' must be on {columns[0].device} (= the first part), got {x.device}"
            raise ValueError(msg)
    joined = torch.cat(columns) if columns else torch.empty(0)
    if not joined.isfinite().all():
        i, x = next((i, x) for i, x in enumerate(columns) if not x.isfinite().all())
        msg = f"{who}(): 'entropy_parts[{i}]' must be finite, got {float(x[~x.isfinite()][0])}"
        raise ValueError(msg)
    return joined


def _order_statistics(x: torch.Tensor, below: int, above: int) -> tuple[float, float]:
    """The elements of the ranks ``below`` and ``above`` (counted from 0); ``x`` on the CPU is reordered."""
    if x.device.type == "cpu":
        array = x.numpy()
        array.partition(sorted({below, above}))
        return float(array[below]), float(array[above])
    both = torch.stack([x.kthvalue(rank + 1).values for rank in (below, above)])
    low, high = both.tolist()
    return low, high
