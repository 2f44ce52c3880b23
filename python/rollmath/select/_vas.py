"""MMR1's variance-aware sampling: prompts by how much their rewards vary, mixed with prompts at random."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import finite, mask, real, rows, whole
from rollmath.groups import Groups
from rollmath.select._candidates import Nan, Short
from rollmath.select._prompts import chosen, drawn, part_of, read_prompts, too_few
from rollmath.select._selection import Selection


def learnability(success_rates: ArrayLike, *, valid: ArrayLike | None = None) -> Array:
    """Variance of a reward of 0 or 1: ``p (1 - p)``, most at 1/2, 0 for prompts that always or never succeed.

    Args:
        success_rates: in [0, 1], ``[P]``.
        valid: prompts that take part (bool or int, nonzero = True); the others get 0.

    Returns:
        ``[P]``, in the kind and float type of ``success_rates``.

    Raises:
        ValueError: wrong lengths, rates outside [0, 1].
        TypeError: wrong dtype or rank.

    Source: MMR1, arXiv 2509.21268 (outcome variance), official code read at LengSicong/MMR1@d8161a0.

    >>> learnability([0.25, 0.5, 1.0]).tolist()
    [0.1875, 0.25, 0.0]
    """
    who = "learnability"
    p, back = rows(who, "success_rates", success_rates)
    seen = mask(who, "valid", valid, len(p), "len(success_rates)")
    finite(who, "success_rates", p, seen, must="in [0, 1]")
    p = np.where(seen, p, 0.0)
    return back(p * (1.0 - p))


def vas_weights(
    scores: ArrayLike,
    *,
    previous: ArrayLike | None = None,
    momentum: float = 0.0,
    valid: ArrayLike | None = None,
) -> Array:
    """Weights of prompts: ``w = momentum previous + (1 - momentum) (s - min(s)) / (max(s) - min(s))``.

    Args:
        scores: one a prompt, ``[P]``: :func:`learnability`, or a weighted sum of it and of how much the texts of a
            prompt's rollouts differ.
        previous: weights of the same prompts from before; None at first.
        momentum: part of these that is kept, in [0, 1].
        valid: prompts that take part (bool or int, nonzero = True); the others enter no minimum and get 0.

    Returns:
        ``[P]``, in [0, 1] if ``previous`` is, in the kind and float type of ``scores``.

    Edge cases: the prompt of lowest score has a new weight of 0, and is drawn by :func:`vas` at random alone. Scores
    that are all equal give new weights of 1: no prompt is preferred.

    What others do: the official code (read at LengSicong/MMR1@d8161a0) adds 1e-8 to the spread, so that equal scores
    give weights that are all 0. It multiplies the old weights by ``curriculum_momentum``: with the default of its
    configuration, 1, they never change, although a comment there says that 1 means no momentum; its examples set 0.

    Raises:
        ValueError: wrong lengths, numbers that are not finite, negative ``previous``, ``momentum`` outside [0, 1] or
            above 0 without ``previous``.
        TypeError: wrong dtype or rank.

    Source: MMR1, arXiv 2509.21268, official code read at LengSicong/MMR1@d8161a0.

    >>> first = vas_weights([0.1, 0.2, 0.0])
    >>> vas_weights([0.0, 0.25, 0.25], previous=first, momentum=0.5).tolist()
    [0.25, 1.0, 0.5]
    """
    who = "vas_weights"
    why = "len(scores)"
    s, back = rows(who, "scores", scores)
    seen = mask(who, "valid", valid, len(s), why)
    finite(who, "scores", s, seen)
    kept = real(who, "momentum", momentum, 0.0, 1.0)
    if previous is None and kept > 0:
        msg = f"{who}(): 'momentum' needs the weights from before as previous=, got momentum={kept:g} without"
        raise ValueError(msg)
    low, high = s[seen].min(initial=math.inf), s[seen].max(initial=-math.inf)
    new = np.ones(len(s))
    if high > low:
        # Halves, of which no difference overflows; but the half of the smallest number is 0.
        scale = 1.0 if max(abs(low), abs(high)) < 1e300 else 0.5
        new = (np.where(seen, s, low) * scale - low * scale) / (high * scale - low * scale)
    if previous is not None:
        old, _ = rows(who, "previous", previous, len(s), why)
        finite(who, "previous", old, seen, must="finite and not negative")
        new = kept * np.where(seen, old, 0.0) + (1.0 - kept) * new
    return back(np.where(seen, new, 0.0))


def vas(
    weights: ArrayLike,
    prompts: Groups | ArrayLike,
    *,
    keep: int,
    ratio: float = 0.5,
    seed: int,
    short: Short = "keep",
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Draws ``floor(ratio keep)`` prompts by weight and the rest of ``keep`` uniformly among the others.

    Both without replacement, by hashes of id and seed, so that no prompt comes twice.

    Args:
        weights: one a prompt, not negative, ``[P]``: :func:`vas_weights`.
        prompts: ids, one a prompt, all different, ``[P]``; ids that stay the same over training.
        keep: prompts to draw.
        ratio: part that is drawn by weight, in [0, 1].
        seed: whole number of at least 0; another in every draw.
        short: if there are fewer than ``keep`` prompts: ``"keep"`` takes all, ``"drop"`` none, ``"raise"`` is an error.
        nan: ``"raise"``, NaN is an error; ``"omit"``, a prompt without a weight is not drawn.
        valid: prompts that take part (bool or int, nonzero = True).

    Returns:
        A :class:`Selection` of prompts.

    Edge cases: where fewer prompts have a weight above 0 than are to be drawn by weight, all of these are, and more
    come from the others. Weights may all be 0: then all are drawn uniformly.

    What others do: the official sampler (executed at LengSicong/MMR1@d8161a0) draws the weighted part of an epoch with
    replacement, and the uniform part from a permutation that does not know it, so that a batch may have a prompt
    several times.

    Raises:
        ValueError: weights that are negative, infinite, or NaN unless omitted; wrong lengths; a prompt twice; ``keep``
            below 1; ``ratio`` outside [0, 1]; a negative seed.
        TypeError: wrong dtype or rank; no whole number.

    Source: MMR1, arXiv 2509.21268, official code read and its sampler executed (``ratio`` 0.5, new weights every 4
    steps from 8 rollouts a prompt). That nothing is drawn twice is ours.

    >>> weights = vas_weights(learnability([0.0, 0.5, 1.0, 0.25]))
    >>> print(vas(weights, ["p", "q", "r", "s"], keep=2, seed=0).report)
    vas kept 2 of 4 prompts
      not drawn  2 prompts: 'p', 'r'
    """
    who = "vas"
    size, part, salt = whole(who, "keep", keep), real(who, "ratio", ratio, 0.0, 1.0), whole(who, "seed", seed, 0)
    must = "finite and not negative"
    of, _ = read_prompts(who, "weights", weights, prompts, must=must, nan=nan, valid=valid, seed=salt)
    few = too_few(of, int(of.seen.sum()), size, short, "that take part")
    taken = drawn(of, of.seen & (of.x > 0), part_of(part, size))
    even = replace(of, x=np.ones(len(of.x)))
    taken |= drawn(even, of.seen & ~taken, size - int(taken.sum()), race=1)
    return chosen(of, [("missing weight", of.missing), ("fewer than keep", of.seen & few), ("not drawn", ~taken)])
