"""VAPO's lambda: long responses look further ahead."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike, integers, number


def length_adaptive_lambda(lengths: ArrayLike, *, alpha: float = 0.05) -> Array:
    """The lambda of each row: ``lam_i = max(0, 1 - 1 / (alpha l_i))``, for ``gae(..., lam=)``.

    The weights ``(gamma lam)^k`` of the TD errors then add up to about ``alpha l`` for ``gamma=1``, a fixed part of the
    response, where a constant lambda forgets the reward of a long one. VAPO takes it for the advantages and trains the
    critic with ``lam_returns=1``.

    Args:
        lengths: tokens of each response, int ``[B]``: those that are trained, where there are gaps.
        alpha: which part; above 0. Responses of at most ``1 / alpha`` tokens get 0.

    Returns:
        ``[B]`` in [0, 1]: float64 for NumPy, float32 for torch; rows of length 0 get 0.

    Raises:
        ValueError: negative lengths; ``alpha`` that is not positive and finite.
        TypeError: wrong dtype or rank.

    Source: VAPO, Yue et al. 2025, arXiv 2504.05118, formula and ``alpha`` 0.05 by secondary description. NeMo-RL, code
    executed, has the same lower bound and counts trained tokens.

    >>> length_adaptive_lambda([10, 40, 2000]).tolist()
    [0.0, 0.5, 0.99]
    """
    who = "length_adaptive_lambda"
    counts, kind = integers(who, "lengths", lengths)
    part = number(who, "alpha", alpha)
    if isinstance(alpha, (bool, np.bool_)) or not 0 < part < np.inf:
        msg = f"{who}(): 'alpha' must be a positive, finite number, got {alpha!r}"
        raise ValueError(msg)
    if (counts < 0).any():
        msg = f"{who}(): 'lengths' must not be negative, got {counts.min()} at {counts.argmin()}"
        raise ValueError(msg)
    with np.errstate(over="ignore"):
        lam = 1.0 - 1.0 / np.maximum(part * counts, 1.0)
    return kind.wrap(lam.astype(np.float32) if kind.is_torch else lam)
