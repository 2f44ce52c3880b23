"""Rows drawn again and again, as often as their weights say."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import column, whole
from rollmath.groups import Groups
from rollmath.ops._hash import Uids, seeded, unit

#: Numbers of the draws: far from uids, so that a draw has nothing to do with the order that the seed gives those.
_DRAWS = np.uint64(0x6A09E667F3BCC908)


def resample(
    weights: ArrayLike,
    *,
    n: int | None = None,
    how: Literal["systematic", "multinomial"] = "systematic",
    uid: Groups | ArrayLike | None = None,
    seed: int,
) -> Array:
    """Rows drawn with replacement: each is drawn ``n w_i / sum_j w_j`` times on average.

    Args:
        weights: one number a row, ``[N]``, at least 0, of any sum; rows of weight 0 are never drawn.
        n: number of draws, as many as there are rows if not given.
        how: ``"systematic"``: row ``i`` is drawn ``floor`` or ``ceil`` of ``n w_i / sum_j w_j`` times, and so is every
            run of rows in the order of their uids: one random offset, and equal steps along the weights.
            ``"multinomial"``: independent draws, as those of ``torch.multinomial``, with more noise.
        uid: one id a row, all different; then the order of the rows does not matter. Without it the rows are their own.
        seed: of the draws, a whole number of at least 0.

    Returns:
        Row numbers, ascending, each as often as it was drawn, int64 ``[n]``; of the kind of ``weights``. The order in
        which rows are trained on is the caller's.

    Edge cases: no rows and no ``n`` give no draws. Sums and steps are float64: a row whose expected number is whole may
    be drawn once more or less if the offset is within rounding of a step.

    Raises:
        ValueError: weights that are negative, NaN or infinite, or all 0; ``n`` or ``seed`` negative; wrong lengths; an
            uid twice.
        TypeError: wrong dtype or rank.

    Source: textbook; systematic resampling is that of particle filters. verl 0.9.1 (executed) draws with
    ``torch.multinomial`` and the generator of the process, whose state depends on all that was drawn before.

    >>> resample([0.5, 0.0, 0.125, 0.125, 0.25], n=8, seed=0).tolist()
    [0, 0, 0, 0, 2, 3, 4, 4]
    """
    who = "resample"
    choice(who, "how", how, ("systematic", "multinomial"))
    start = whole(who, "seed", seed, least=0)
    w, back = column(who, "weights", weights, must="finite and not negative")
    draws = len(w) if n is None else whole(who, "n", n, least=0)
    rank = None if uid is None else Uids.of(who, uid, len(w), why="len(weights)").rank
    if draws == 0:
        return back.kind.wrap(np.zeros(0, np.int64))
    top = w.max(initial=0.0)
    if top == 0:
        msg = f"{who}(): 'weights' must not all be 0, got {len(w)} of them"
        raise ValueError(msg)
    if rank is not None:
        by_uid = np.empty_like(w)
        by_uid[rank] = w
        w = by_uid
    # A power of two changes no proportion, and no sum overflows.
    sums = np.cumsum(np.ldexp(w, -np.frexp(top)[1]))
    ends = sums / sums[-1]
    numbers = np.arange(draws if how == "multinomial" else 1, dtype=np.uint64)
    at = unit(seeded(numbers + _DRAWS, start))
    # How many draws fall before the end of each row.
    below = np.searchsorted(np.sort(at), ends) if how == "multinomial" else np.ceil(ends * draws - at).astype(np.int64)
    times = np.diff(below, prepend=0)
    return back.kind.wrap(np.repeat(np.arange(len(w)), times if rank is None else times[rank]))
