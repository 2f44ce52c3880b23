"""Rollouts of each prompt, for any table of what they are worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, describe, floats, host
from rollmath.groups import Groups
from rollmath.select._prompts import numbers_of_rollouts, read_prompts, within_int64
from rollmath.select._report_text import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath._arrays import Kind


class Allocation(NamedTuple):
    """How many rollouts each prompt gets.

    Attributes:
        counts: rollouts of each prompt, int64 ``[P]``; of the kind and on the device of what they were computed from.
        value: what they are worth together, a float.
        unspent: rollouts of the budget that no prompt gets.
        method: how they were found: ``"greedy"`` or ``"dp"``.
    """

    counts: Array
    value: float
    unspent: int
    method: str

    def __repr__(self) -> str:
        spent = f"{number_of(int(self.counts.sum()), 'rollout')} for {number_of(len(self.counts), 'prompt')}"
        left = f", {self.unspent} unspent" if self.unspent else ""
        return f"Allocation({spent}{left}, value {self.value:g}, {self.method})"


def allocate(
    values: ArrayLike,
    *,
    budget: int,
    low: int | ArrayLike = 0,
    method: Literal["auto", "greedy", "dp"] = "auto",
    prompts: Groups | ArrayLike | None = None,
    ties: ArrayLike | None = None,
    seed: int | None = None,
    valid: ArrayLike | None = None,
) -> Allocation:
    """Rollouts of each prompt that are worth most together: ``max sum_i values[i, n_i]`` with ``sum_i n_i = budget``.

    A table is concave where no rollout gains more than the one before: ``v[k + 1] - v[k] <= v[k] - v[k - 1]``. Then the
    largest gains of all prompts are the best allocation; O(table). Else a dynamic program finds it, in
    O(P budget K) time and O(P budget) memory at worst. It looks only at numbers of rollouts that a best allocation may
    have by a bound (Lagrangian), which are few where rows are concave but for some bends.

    Args:
        values: what 0, 1, ..., K rollouts of a prompt are worth, ``[P, K + 1]``; NaN and minus infinity are numbers of
            rollouts that are not allowed, so that prompts may have different least and most numbers.
        budget: rollouts in all.
        low: fewest rollouts of a prompt; one number, or one a prompt, ``[P]``.
        method: ``"auto"``: by gains if every row is concave, else by the dynamic program. ``"greedy"``: by gains; a
            row that is not concave is an error. ``"dp"``: by the dynamic program.
        prompts: ids, one a prompt, all different; they break ties, so that the order of the rows does not matter.
        ties: which prompts come first among equal ones, one number each, lower first.
        seed: breaks ties by a hash of id and seed before the ids themselves do; whole number of at least 0.
        valid: prompts that take part (bool or int, nonzero = True); the others get 0, and their rows may hold anything.

    Returns:
        An :class:`Allocation`.

    Ties: by gains, a rollout goes to the largest gain; among equal gains, to the prompt that has fewest rollouts, then
    to the first by ``ties``, seed and id: equal prompts get equal numbers, but for one. By the dynamic program, among
    allocations of equal value, the last of the prompts gets as few as it can, then the one before it, and so on.
    Totals are computed in twice the precision of float64: allocations that are worth the same are found equal.

    Edge cases: a table is concave or not as it is, to the last bit: one that rounding has bent goes to the dynamic
    program, which has little to do then, but breaks ties otherwise. A gain is the difference of two values, rounded to
    float64. Values may fall: the whole budget is spent. The largest programs that are taken on run for about a minute,
    and Ctrl-C waits for them.

    Raises:
        ValueError: a budget below the sum of the fewest or above the sum of the most allowed, or that no allowed
            numbers add up to; a row that allows nothing; plus infinity, or values above 1e300; a prompt twice; more
            work than the dynamic program takes on (2^28 cells, 2^34 steps).
        TypeError: wrong dtype or rank.

    Source: ours. That gains of a concave value may be taken in their order is textbook (Fox 1966, marginal analysis).

    >>> value = np.array([[0.0, 5.0, 8.0, 9.0], [0.0, 4.0, 7.0, np.nan]])
    >>> allocate(value, budget=4)
    Allocation(4 rollouts for 2 prompts, value 15, greedy)
    >>> best = allocate([[0.0, 0.0, 5.0], [0.0, 1.0, 2.0]], budget=2)
    >>> best.counts.tolist(), best.value, best.method
    ([2, 0], 5.0, 'dp')
    """
    who = "allocate"
    table, kind = _table(who, values)
    total = within_int64(who, "budget", budget, 0)
    choice(who, "method", method, ("auto", "greedy", "dp"))
    n, why = len(table), "len(values)"
    # Zeros in place of values: what is asked of the prompts alone.
    of, _ = read_prompts(who, "values", np.zeros(n), prompts, valid=valid, ties=ties, seed=seed)
    least = numbers_of_rollouts(who, "low", low, of.valid, least=0, why=why)
    limits = (least, of.preference, of.valid.view(np.uint8))
    counts, program = _core.allocate(who, table.reshape(-1), table.shape[1], limits, total, method)
    worth = math.fsum(table[of.valid, counts[of.valid]].tolist())
    return Allocation(kind.wrap(counts), worth, 0, "dp" if program else "greedy")


def _table(who: str, values: ArrayLike) -> tuple[NDArray[np.float64], Kind]:
    array, kind = host(who, "values", values)
    if array.shape == (0,):
        array = array.reshape(0, 1)  # a list without rows has no columns either
    if array.ndim != 2:
        msg = f"{who}(): 'values' must be 2-D, [prompts, rollouts + 1], got {describe(array)} of shape {array.shape}"
        raise TypeError(msg)
    flat = floats(who, "values", array.reshape(-1))[0].astype(np.float64, copy=False)
    return flat.reshape(array.shape), kind
