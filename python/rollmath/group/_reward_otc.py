"""OTC: a reward that falls with every tool call beyond the fewest that were enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import column, correct_rows, mask, real, rows
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_min

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHO = "otc_reward"


def otc_reward(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    calls: ArrayLike,
    *,
    max_calls: float,
    correct: ArrayLike | None = None,
    optimal: ArrayLike | None = None,
    alpha: float = 1.0,
    form: Literal["grpo", "ppo"] = "grpo",
    valid: ArrayLike | None = None,
) -> Array:
    """Optimal tool calls: ``alpha factor_i r_i``, where ``factor = sin(f pi / (2 n)), f = 2 n m / (m + n)``.

    ``m`` is the number of calls of the rollout and ``n`` the fewest calls of a correct rollout of its group; for
    ``n = 0`` the factor is ``cos(m pi / (2 m + c))`` with ``c`` = ``max_calls``. It is 1 at ``m = n`` and falls on
    both sides: a rollout with fewer calls than ``n`` loses too. ``form="ppo"`` has no ``n`` and takes the cosine for
    every rollout.

    Args:
        rewards: one number a rollout, ``[N]``, not negative where they come from the paper: the factor shrinks a
            negative reward too, which would pay for wasted calls.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        calls: tool calls of each rollout, ``[N]``, not negative.
        max_calls: ``c``, the most calls a rollout may make; it smooths the cosine.
        correct: rollouts from which ``n`` is taken (bool or int, nonzero = True). Default: reward > 0.
        optimal: ``n``, one a group (in the order of ``groups.ids``) or one a rollout, used as it is; NaN where none is
            known. The paper keeps the smallest over training: pass
            ``np.fmin(kept, rm.ops.segment_min(calls, groups, valid=correct))``.
        alpha: scale of the reward.
        form: ``"grpo"`` or ``"ppo"``.
        valid: rollouts that take part (bool or int, nonzero = True); the others do not count for ``n`` and get 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``.

    Edge cases:
        A group in which nothing was ever correct has no ``n``: its factor is 1 (our choice; we have seen no rule).

    Raises:
        ValueError: wrong lengths; NaN, infinite or negative numbers where none may be.
        TypeError: wrong dtype or rank.

    Source: OTC-PO, arXiv 2504.14870; paper text. The released training code was not seen.

    >>> otc_reward([1.0, 1.0, 0.0], ["a", "a", "a"], [2, 4, 0], max_calls=4).round(4).tolist()
    [1.0, 0.866, 0.0]
    """
    choice(_WHO, "form", form, ("grpo", "ppo"))
    scale, c = real(_WHO, "alpha", alpha), real(_WHO, "max_calls", max_calls, above=0.0)
    made = as_groups(_WHO, groups)
    seen = mask(_WHO, "valid", valid, len(made))
    r, back = column(_WHO, "rewards", rewards, seen)
    m, _ = column(_WHO, "calls", calls, seen, must="finite and not negative")
    factor = np.cos(np.pi * m / (2 * m + c))
    right = correct_rows(_WHO, correct, r)
    if form == "grpo":
        n = _fewest(made, m, right & seen, optimal)
        # f pi / (2 n) = pi m / (m + n).
        factor = np.where(n > 0, np.sin(np.pi * m / np.where(n > 0, m + n, 1.0)), factor)
        factor[np.isnan(n)] = 1.0
    return back(np.where(seen, scale * factor * r, 0.0))


def _fewest(
    groups: Groups, calls: NDArray[np.float64], right: NDArray[np.bool_], optimal: ArrayLike | None
) -> NDArray[np.float64]:
    """``n`` for every rollout, NaN where there is none."""
    if optimal is None:
        found: NDArray[np.float64] = segment_min(calls, groups, valid=right)
        return found[groups.index]
    given = rows(_WHO, "optimal", optimal)[0]
    if (wrong := (given < 0) | np.isinf(given)).any():
        msg = f"{_WHO}(): 'optimal' must be finite and not negative, or NaN for unknown, got {given[wrong][0]}"
        raise ValueError(msg)
    if len(given) == groups.n_groups:
        return given[groups.index]
    if len(given) == len(groups):
        return given
    msg = f"{_WHO}(): 'optimal' must have length {groups.n_groups} (= n_groups) or {len(groups)}, got {len(given)}"
    raise ValueError(msg)
