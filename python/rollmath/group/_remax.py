"""ReMax: rewards against that of a greedy response."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, floats, mask_bytes
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve


def remax(
    rewards: ArrayLike,
    baselines: ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Rewards against the greedy response's: ``A_i = r_i - b_i``, ``b_i`` the reward of decoding the prompt greedily.

    There are no groups: every rollout has a baseline of its own, and equal ones where a prompt has several rollouts.

    Args:
        rewards: one number a rollout, ``[N]``.
        baselines: the reward of the greedy response to the same prompt, one a rollout, ``[N]``. For one a prompt, in
            the order of ``groups.ids``, pass ``ops.gather(greedy, groups)``.
        valid: rollouts that take part (bool or int, nonzero = True); the others get 0.
        convention: only ``nan`` matters here. ``"omit"``: a rollout whose reward or baseline is missing gets 0.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; computed in float64.

    Raises:
        ValueError: wrong lengths; NaN or infinity where rows are valid (unless ``nan=`` says otherwise); inputs that
            require grad.
        TypeError: wrong dtype or rank.

    Source: Li et al. 2023, ReMax, arXiv 2310.10505 (paper text); verl's ``remax`` was executed. With a reward on the
    last token alone, as here, the reward to go that the paper subtracts from is the reward itself.

    >>> from rollmath import Groups
    >>> from rollmath.ops import gather
    >>> groups = Groups(["p", "q", "p"])
    >>> remax([1.0, 0.0, 0.5], gather([0.5, 1.0], groups)).tolist()
    [0.5, -1.0, 0.0]
    """
    rules = resolve("remax", "remax", convention, override)
    x, kind = floats("remax", "rewards", rewards)
    b, _ = floats("remax", "baselines", baselines, length=len(x), why="len(rewards)")
    mask = mask_bytes("remax", "valid", valid, length=len(x), why="len(rewards)")
    seen = np.ones(len(x), bool) if mask is None else mask != 0
    if rules.nan == "omit":
        seen &= ~(np.isnan(x) | np.isnan(b))
    for name, values in (("rewards", x), ("baselines", b)):
        bad = np.flatnonzero(seen & ~np.isfinite(values))
        if len(bad) and rules.nan != "propagate":
            msg = (
                f"remax(): {name!r} must be finite, got {values[bad[0]]} at index {bad[0]}; leave the row out with "
                "valid=, or choose nan='omit' (NaN alone) or nan='propagate'"
            )
            raise ValueError(msg)
    out = np.zeros(len(x))
    with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
        out[seen] = x[seen].astype(np.float64) - b[seen]
    return kind.wrap(out.astype(x.dtype, copy=False))
