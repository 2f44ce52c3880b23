"""DEPO: prompts whose rollouts still explore, and prompts that were seldom visited."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import column, finite, mask, real, rows, whole
from rollmath.groups import Groups
from rollmath.select._candidates import Nan, Short
from rollmath.select._prompts import WHY, chosen, part_of, read_prompts, too_few
from rollmath.select._selection import Selection


def explorability(
    advantages: ArrayLike, entropy: ArrayLike, *, max_entropy: float, valid: ArrayLike | None = None
) -> Array:
    """How much a rollout explores: ``E_i = |A_i| e_i`` where ``e_i <= max_entropy``, else 0.

    The mean over the rollouts of a prompt, ``rm.ops.segment_mean(e, groups)``, and over the epochs of a window, is what
    :func:`depo` ranks prompts by.

    Args:
        advantages: one a rollout, ``[N]``.
        entropy: mean token entropy of each rollout, ``[N]``.
        max_entropy: above it a rollout counts as noise; ``math.inf`` for no bound. Its published value is unverified.
        valid: rollouts that take part (bool or int, nonzero = True); the others get 0.

    Returns:
        ``[N]``, in the kind and float type of ``advantages``.

    Raises:
        ValueError: wrong lengths, numbers that are not finite, a ``max_entropy`` that is NaN.
        TypeError: wrong dtype or rank.

    Source: DEPO (data-efficient policy optimization), arXiv 2509.01321: abstract read, formula from a secondary
    description. Not the DEPO of dual-efficiency preferences.

    >>> e = explorability([1.2, -0.8, 0.0, -0.4], [0.5, 0.2, 0.9, 3.0], max_entropy=2.0)
    >>> e.round(2).tolist()
    [0.6, 0.16, 0.0, 0.0]
    """
    who = "explorability"
    bound = number(who, "max_entropy", max_entropy)
    if math.isnan(bound):
        msg = f"{who}(): 'max_entropy' must not be NaN"
        raise ValueError(msg)
    a, back = rows(who, "advantages", advantages)
    e, _ = rows(who, "entropy", entropy, len(a), "len(advantages)")
    seen = mask(who, "valid", valid, len(a), "len(advantages)")
    finite(who, "advantages", a, seen)
    finite(who, "entropy", e, seen)
    open_ = seen & (e <= bound)
    return back(np.where(open_, np.abs(np.where(open_, a, 0.0)) * np.where(open_, e, 0.0), 0.0))


def depo(
    scores: ArrayLike,
    prompts: Groups | ArrayLike,
    *,
    keep: int | None = None,
    share: float | None = None,
    visits: ArrayLike | None = None,
    neglected: float | None = None,
    among: Literal["all", "rest"] = "all",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Prompts to train on: the top ``floor(share P)`` by score and the ``floor(neglected P)`` with the fewest visits.

    ``P`` is the number of prompts that take part.

    Args:
        scores: one a prompt, ``[P]``: the mean explorability of its rollouts over a window of epochs.
        prompts: ids, one a prompt, all different, ``[P]``.
        keep: prompts to take by score; this or ``share``.
        share: part of the prompts to take by score, in [0, 1]; one prompt at least. In the paper it falls from epoch to
            epoch (:func:`linear_schedule`); its numbers are unverified.
        visits: how often each prompt was trained on, ``[P]``; needs ``neglected``.
        neglected: part of the prompts to take for their few visits, in [0, 1]. Unverified, too.
        among: the neglected are taken from ``"all"`` prompts, so that some may be on top as well and fewer are kept, or
            from the ``"rest"``. Which of the two the paper means is unverified.
        short: if fewer prompts than are to be taken by score have one: ``"keep"`` takes these, ``"drop"`` nothing at
            all, ``"raise"`` is an error.
        ties: which prompts come first among equal ones, one number each, lower first.
        seed: breaks ties by a hash of id and seed before the ids themselves do; whole number of at least 0.
        nan: ``"raise"``, NaN is an error; ``"omit"``, a prompt without a score is not on top, but may be neglected.
        valid: prompts that take part (bool or int, nonzero = True).

    Returns:
        A :class:`Selection` of prompts.

    Edge cases: a part that is a whole number of prompts but for rounding is that number: 0.29 of 100 is 29.

    Raises:
        ValueError: neither or both of ``keep`` and ``share``; ``visits`` without ``neglected`` or the reverse; shares
            outside [0, 1]; negative visits; scores that are infinite, or NaN unless omitted; wrong lengths; a prompt
            twice.
        TypeError: wrong dtype or rank.

    Source: DEPO (data-efficient policy optimization), arXiv 2509.01321: abstract read, the rule from a secondary
    description.

    >>> scores, visits = [0.9, 0.1, 0.5, 0.0, 0.2], [4, 4, 3, 0, 1]
    >>> print(depo(scores, list("pqrst"), share=0.4, visits=visits, neglected=0.2).report)
    depo kept 3 of 5 prompts
      low explorability  2 prompts: 'q', 't'
    """
    who = "depo"
    of, _ = read_prompts(who, "scores", scores, prompts, nan=nan, valid=valid, ties=ties, seed=seed)
    choice(who, "among", among, ("all", "rest"))
    if (keep is None) == (share is None):
        msg = f"{who}(): needs one of 'keep' and 'share', got keep={keep} and share={share}"
        raise ValueError(msg)
    if (visits is None) != (neglected is None):
        alone = "neglected" if visits is None else "visits"
        msg = f"{who}(): 'visits' and 'neglected' must come together, got {alone!r} alone"
        raise ValueError(msg)
    n = int(of.valid.sum())
    size = max(part_of(real(who, "share", share, 0.0, 1.0), n), 1) if keep is None else whole(who, "keep", keep)
    short_of = too_few(of, int(of.seen.sum()), size, short, "with a score")
    place = of.places(-of.x, per="batch")
    taken = (place >= 0) & (place < size)
    if visits is not None:
        times = column(who, "visits", visits, of.valid, must="finite and not negative", why=WHY)[0]
        few = part_of(real(who, "neglected", neglected, 0.0, 1.0), n)
        open_ = of.valid if among == "all" else of.valid & ~taken
        at = np.flatnonzero(open_)
        taken[at[np.lexsort((of.preference[at], times[at]))[:few]]] = True
    taken &= not short_of
    left = [("fewer than keep", of.seen & short_of), ("low explorability", ~taken)]
    return chosen(of, [("missing score", of.missing & ~taken), *left])


def normal_weights(success_rates: ArrayLike, *, mu: float, sigma: float, valid: ArrayLike | None = None) -> Array:
    """Weights for prompts of medium difficulty: ``w_i = exp(-(p_i - mu)^2 / (2 sigma^2))``, divided by their sum.

    DEPO draws its training set by these (:func:`weighted_sample`), after a choice for diversity that is not here.

    Args:
        success_rates: in [0, 1], ``[P]``.
        mu: the rate with the largest weight.
        sigma: how fast weights fall off, positive.
        valid: prompts that take part (bool or int, nonzero = True); the others get 0.

    Returns:
        ``[P]``, in the kind and float type of ``success_rates``; the sum is 1, or 0 without any prompt.

    Edge cases: however far all rates are from ``mu``, the nearest keeps its weight.

    Raises:
        ValueError: wrong lengths, rates outside [0, 1], a ``mu`` that is not finite, a ``sigma`` that is not positive.
        TypeError: wrong dtype or rank.

    Source: DEPO (data-efficient policy optimization), arXiv 2509.01321, secondary description; mu and sigma unverified.

    >>> normal_weights([0.0, 0.25, 0.5, 1.0], mu=0.5, sigma=0.25).round(4).tolist()
    [0.0721, 0.3231, 0.5327, 0.0721]
    """
    who = "normal_weights"
    center, width = real(who, "mu", mu), real(who, "sigma", sigma, above=0.0)
    p, back = rows(who, "success_rates", success_rates)
    seen = mask(who, "valid", valid, len(p), "len(success_rates)")
    finite(who, "success_rates", p, seen, must="in [0, 1]")
    away = np.abs(p[seen] - center)
    near = away.min(initial=math.inf)
    # Against the nearest, whose weight is 1 before the division.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = ((away - near) / width) * ((away + near) / width)
    weights = np.exp(-0.5 * np.where(away > near, squares, 0.0))
    out = np.zeros(len(p))
    out[seen] = weights / math.fsum(weights.tolist()) if len(weights) else 0.0
    return back(out)
