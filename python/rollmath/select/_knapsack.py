"""Knapsack RL: more rollouts for prompts that they teach something."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import column, whole_rows
from rollmath.groups import Groups
from rollmath.select._allocate import Allocation
from rollmath.select._prompts import numbers_of_rollouts, read_prompts, within_int64

if TYPE_CHECKING:
    from numpy.typing import NDArray


def knapsack(
    success_rates: ArrayLike,
    *,
    budget: int,
    low: int | ArrayLike = 2,
    high: int | ArrayLike,
    spare: Literal["unsolved", "even", "leave"] = "unsolved",
    prompts: Groups | ArrayLike | None = None,
    ties: ArrayLike | None = None,
    seed: int | None = None,
    valid: ArrayLike | None = None,
) -> Allocation:
    """Rollouts of each prompt: ``max sum_i V(n_i, p_i)`` with ``sum_i n_i = budget`` and ``low <= n_i <= high``.

    ``V(n, p) = (1 - p^n - (1 - p)^n) p (1 - p)^2``: how likely it is that ``n`` rollouts both succeed and fail, so that
    their advantages are not all 0, times what the policy gains from that. Rollout ``n + 1`` gains
    ``p (1 - p)^2 (p^n (1 - p) + (1 - p)^n p)``, which is never more than the one before, so that the largest gains of
    all prompts are the best allocation, exactly; O(budget) time and memory.

    Args:
        success_rates: share of successful rollouts of each prompt, in [0, 1], ``[P]``. Those of an earlier epoch, say.
            A prompt that was never seen has no rate: take the mean of a Beta posterior,
            ``(successes + a) / (trials + a + b)``, for all (``rm.group.BetaBaseline`` keeps one a prompt).
        budget: rollouts in all.
        low: fewest rollouts of a prompt, at least 1; one number, or one a prompt, ``[P]``.
        high: most rollouts of a prompt; likewise.
        spare: who gets the rollouts that are left when all prompts that gain have ``high``. ``"unsolved"``: prompts
            with a rate of exactly 0, evenly, up to ``high``; what these cannot take goes to the others, evenly.
            ``"even"``: all prompts that can take more, evenly. ``"leave"``: nobody; ``unspent`` says how many.
        prompts: ids, one a prompt, all different; they break ties, so that the order of the rows does not matter.
        ties: which prompts come first among equal ones, one number each, lower first.
        seed: breaks ties by a hash of id and seed before the ids themselves do; whole number of at least 0.
        valid: prompts that take part (bool or int, nonzero = True); the others get 0, whatever their rates and
            limits are.

    Returns:
        An :class:`Allocation`; ``value`` is the sum of V.

    Ties: among equal gains, a rollout goes to the prompt that has fewest, then to the first by ``ties``, seed and id:
    prompts of equal rates get equal numbers, but for one. "Evenly" is the same rule.

    Edge cases: rates of 0 and 1 gain nothing and get ``low``, and what is spare. So does a gain that float64 cannot
    tell from 0, below 5e-324. A prompt that gets nothing beyond ``low`` counts V(low, p), not 0. To stop where both
    outcomes are seen with probability 0.9, and spend the rest on unsolved prompts, give one ``high`` a prompt:
    ``ceil(log(1 - 0.9) / log(max(p, 1 - p)))`` for rates between 0 and 1, as integers.

    Raises:
        ValueError: a budget below the sum of ``low`` or above the sum of ``high``; rates that are NaN or outside
            [0, 1]; ``low`` above ``high``; a prompt twice; more than 2^27 rollouts.
        TypeError: wrong dtype or rank; numbers of rollouts that are not whole.

    Source: Knapsack RL, arXiv 2509.25849: abstract read, value and constraints from secondary descriptions and a public
    listing (a dynamic program, read). That the value is concave and the gain in closed form are ours; so are the ties.
    Spare rollouts go to unsolved prompts first in the listing, too.

    >>> knapsack([0.05, 0.3, 0.5, 0.9, 0.7], budget=32, high=16).counts.tolist()
    [6, 10, 7, 2, 7]
    >>> knapsack([0.5, 0.0, 1.0, 0.0], budget=20, high=8, spare="leave")
    Allocation(14 rollouts for 4 prompts, 6 unspent, value 0.124023, greedy)
    """
    who = "knapsack"
    of, _ = read_prompts(
        who, "success_rates", success_rates, prompts, must="in [0, 1]", valid=valid, ties=ties, seed=seed
    )
    total = within_int64(who, "budget", budget, 0)
    choice(who, "spare", spare, ("unsolved", "even", "leave"))
    least, most = (
        numbers_of_rollouts(who, name, x, of.valid, least=1, why="len(success_rates)")
        for name, x in (("low", low), ("high", high))
    )
    counts = _core.knapsack(who, of.x, (least, most, of.preference), total, spare)
    worth = math.fsum(_value(counts, of.x).tolist())
    return Allocation(of.kind.wrap(counts), worth, total - int(counts.sum()), "greedy")


def knapsack_value(counts: ArrayLike, success_rates: ArrayLike) -> Array:
    """What rollouts are worth to Knapsack RL: ``V(n, p) = (1 - p^n - (1 - p)^n) p (1 - p)^2``, 0 for ``n = 0``.

    Its sum is what :func:`knapsack` maximises; it says what another allocation, the same number for all, loses.

    Args:
        counts: rollouts of each prompt, whole numbers of at least 0, ``[P]``.
        success_rates: in [0, 1], ``[P]``.

    Returns:
        One number a prompt, ``[P]``, in the kind and float type of ``success_rates``. Rates near 0 and 1 keep their
        digits.

    Raises:
        ValueError: wrong lengths, rates outside [0, 1], counts that are negative or not whole.
        TypeError: wrong dtype or rank.

    Source: Knapsack RL, arXiv 2509.25849; see :func:`knapsack`.

    >>> knapsack_value([0, 1, 2, 8], [0.5, 0.5, 0.5, 0.5]).tolist()
    [0.0, 0.0, 0.0625, 0.1240234375]
    """
    who = "knapsack_value"
    p, back = column(who, "success_rates", success_rates, must="in [0, 1]")
    n = whole_rows(who, "counts", counts, len(p), 0, "len(success_rates)")
    return back(_value(n, p))


def _value(n: NDArray[np.generic], p: NDArray[np.float64]) -> NDArray[np.float64]:
    # From the rarer outcome: 1 - (1 - p)^n has no digits left where p is small.
    rare = np.minimum(p, 1.0 - p)
    times = n.astype(np.float64)
    both = -np.expm1(times * np.log1p(-rare)) - rare**times
    return np.where(times >= 2, both, 0.0) * (p * ((1.0 - p) * (1.0 - p)))
