"""The soft penalty on responses that come close to the length limit."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import column, flag, mask, real


def overlong_penalty(
    lengths: ArrayLike,
    *,
    max_length: float,
    buffer: float,
    factor: float = 1.0,
    capped: bool = True,
    truncated: ArrayLike | None = None,
) -> Array:
    """Soft overlong punishment: ``-factor min(max(L_i - (max_length - buffer), 0), buffer) / buffer``.

    0 up to ``max_length - buffer``, then a line down to ``-factor`` at ``max_length``. Add it to the rewards.

    Args:
        lengths: response tokens of each rollout, ``[N]``, not negative.
        max_length: the limit; longer responses get ``-factor``.
        buffer: tokens before the limit over which the penalty grows, at most ``max_length``. 0 is a step: ``-factor``
            past the limit and nothing below it.
        factor: the largest penalty, at least 0.
        capped: False lets the line go on past ``max_length``, as verl does, which matters where responses can be
            longer than the limit; it needs a ``buffer`` greater than 0.
        truncated: rollouts that were cut off (bool or int, nonzero = True); they get ``-factor`` at least, however
            short. Ours: no peer has it.

    Returns:
        ``[N]``, in the kind and float type of ``lengths`` (ints: float64, or float32 for a tensor).

    Raises:
        ValueError: NaN, infinite or negative lengths; options out of range.
        TypeError: wrong dtype or rank.

    Source: DAPO, arXiv 2503.14476, equation 13; TRL's and verl's code executed, OpenRLHF's read (capped).

    >>> overlong_penalty([70, 80, 90, 100, 120], max_length=100, buffer=20).tolist()
    [0.0, 0.0, -0.5, -1.0, -1.0]
    """
    who = "overlong_penalty"
    most, grows = real(who, "max_length", max_length, above=0.0), real(who, "buffer", buffer, low=0.0)
    scale, bound = real(who, "factor", factor, low=0.0), flag(who, "capped", capped)
    if grows > most or (grows == 0 and not bound):
        limit = f"at most {most:g} (= max_length)" if grows > most else "greater than 0 with capped=False"
        msg = f"{who}(): 'buffer' must be {limit}, got {buffer!r}"
        raise ValueError(msg)
    size, back = column(who, "lengths", lengths, must="finite and not negative")
    share = np.maximum(size - (most - grows), 0.0) / grows if grows else (size > most).astype(np.float64)
    if bound:
        share = np.minimum(share, 1.0)
    if truncated is not None:
        cut = mask(who, "truncated", truncated, len(size), "len(lengths)")
        share = np.where(cut, np.maximum(share, 1.0), share)
    # 0 - x, because -0.0 is no penalty to print.
    return back(0.0 - scale * share)
