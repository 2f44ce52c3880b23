"""Advantages that do not let unlikely tokens rule the gradient."""

from __future__ import annotations

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real
from rollmath.loss._elementwise import read, read_like
from rollmath.ragged import Ragged


def low_probability_weight(advantages: ArrayLike | Ragged, logprobs: ArrayLike | Ragged, *, alpha: float) -> Array:
    """Advantages with less weight on unlikely tokens: ``A (alpha p + 1 - alpha)``, ``p = exp(logprobs)``.

    The gradient of a token's log-probability is the larger the less likely the token is; this takes some of that
    back. Constants: no gradient passes.

    Args:
        advantages: one a token, ``[tokens]`` or ``[B, T]``: NumPy, torch on any device, a list or a
            :class:`~rollmath.Ragged`. One a rollout goes through ``rows.expand`` first.
        logprobs: of the sampled tokens, in the same shape. The official code takes the old policy's, once for all
            updates on these rollouts.
        alpha: in [0, 1]; 0 changes nothing. The official scripts for logic puzzles have 0.2 for this method alone and
            0.3 together with its companion, which updates on unlikely tokens first; 0.1 for mathematics is from a
            secondary description.

    Returns:
        In the shape, kind and float type of ``advantages``.

    Edge cases:
        Minus infinity leaves ``(1 - alpha) A``. A number above 0, which rounding can give, counts as 0. NaN gives NaN:
        values are not checked, because padding may hold anything.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: shapes, offsets or devices that differ; ``alpha`` out of range.

    Source: Yang et al. 2025 (advantage reweighting), arXiv 2505.12929; official code read.

    >>> import numpy as np
    >>> low_probability_weight([1.0, -2.0], np.log([0.9, 0.1]), alpha=0.3).round(4).tolist()
    [0.97, -1.46]
    """
    who = "low_probability_weight"
    share = real(who, "alpha", alpha, 0.0, 1.0)
    column = read(who, "advantages", advantages)
    p = read_like(who, "logprobs", logprobs, column, "advantages").clamp(max=0.0).exp()
    return column.back(column.exact * (share * p + (1.0 - share)))
