"""Values between the mean and the maximum: KL-regularised (optimal) values of nodes."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import real, rows
from rollmath.forest import Forest, as_forest
from rollmath.ops import up
from rollmath.tree._common import leaf_rewards

_OVER = {"leaves": "leaf_logmeanexp", "children": "logmeanexp_of_children"}


def soft_values(
    forest: Forest, rewards: ArrayLike, *, beta: float = 0.5, over: Literal["leaves", "children"] = "leaves"
) -> Array:
    """Optimal value of KL-regularised RL, one a node: ``V(v) = beta log mean_l exp(r_l / beta)``, ``l`` below ``v``.

    The value of a state under the best policy within reach of the one that sampled: A*-PO's ``V*`` at every node, and
    entropy-regularised process rewards (ER-PRM) for rewards of any kind. What a step has gained is a difference of two:
    ``V - ops.parent(forest, V)``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        beta: temperature, from 0 (the maximum, its limit) to infinity (the mean).
        over: ``"leaves"``: every rollout below a node counts the same. ``"children"``: every branch does,
            ``V(v) = beta log mean_c exp(V(c) / beta)``; the same in a tree whose siblings have equally many leaves.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``; roots have theirs. Exactly the common
        reward where all are equal.

    Raises:
        ValueError: wrong length, NaN or infinite rewards, a negative or NaN ``beta``.
        TypeError: wrong dtype or rank.

    Source: A*-PO, arXiv 2505.20686, official code executed (the root, by :func:`rollmath.group.soft_value`); ER-PRM,
    arXiv 2412.11006, official code executed (:func:`er_prm`).

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> soft_values(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [0.5705, 0.7169, 0.0, 1.0, 0.0]
    >>> er_prm(up(forest, [0.0, 1.0, 0.0], how="leaf_mean"), c=2.0).round(4).tolist()  # the same of 0/1 rewards
    [0.5705, 0.7169, 0.0, 1.0, 0.0]
    """
    who = "soft_values"
    made = as_forest(who, forest)
    choice(who, "over", over, tuple(_OVER))
    heat = _temperature(who, beta)
    x, kind = leaf_rewards(who, made, rewards, propagate=None)
    value = up(made, x.astype(np.float64, copy=False), how=_OVER[over], beta=heat)  # type: ignore[arg-type]
    return kind.wrap(value.astype(x.dtype, copy=False))


def er_prm(success_rates: ArrayLike, *, c: float = 1.0) -> Array:
    """Entropy-regularised process reward of a success rate: ``abs(log(p e^c + 1 - p) / c)``.

    The soft value of 0/1 outcomes at temperature ``1 / c``: of ``p`` for ``c`` near 0, of 1 for large ``c``, of 0 for
    large negative ones. The last step, whose success rate is its label, keeps it.

    Args:
        success_rates: ``p``, in [0, 1], one a state, ``[N]``: ``ops.up(forest, correct, how="leaf_mean")``, for one.
        c: inverse temperature; 0 is its limit, ``p``.

    Returns:
        ``[N]``, in [0, 1], in the kind and float type of ``success_rates``.

    Raises:
        ValueError: rates outside [0, 1] or NaN; a ``c`` that is not finite.
        TypeError: wrong dtype or rank.

    Source: ER-PRM, arXiv 2412.11006, official code executed, and agrees before it rounds to three digits.

    >>> er_prm([0.0, 0.25, 1.0], c=2.0).round(6).tolist()
    [0.0, 0.477229, 1.0]
    """
    who = "er_prm"
    beta = real(who, "c", c)
    p, back = rows(who, "success_rates", success_rates)
    if len(bad := np.flatnonzero(~((p >= 0.0) & (p <= 1.0)))):
        msg = f"{who}(): 'success_rates' must be in [0, 1], got {p[bad[0]]:g} at index {bad[0]}"
        raise ValueError(msg)
    if abs(beta) < 1e-17:
        return back(p.copy())
    if abs(beta) < 1.0:  # no digits are lost where p e^c + 1 - p is near 1
        return back(np.log1p(p * math.expm1(beta)) / beta)
    with np.errstate(divide="ignore"):
        return back(np.abs(np.logaddexp(np.log(p) + beta, np.log1p(-p)) / beta))


def _temperature(who: str, beta: float) -> float:
    if isinstance(beta, bool):
        msg = f"{who}(): 'beta' must be a number, got {beta}"
        raise TypeError(msg)
    heat = number(who, "beta", beta)
    if not heat >= 0.0:
        msg = f"{who}(): 'beta' must be at least 0 (the maximum; inf is the mean), got {beta}"
        raise ValueError(msg)
    return heat
