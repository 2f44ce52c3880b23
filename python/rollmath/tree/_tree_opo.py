"""Tree-OPO: samples that start from different prefixes of one problem, compared along the prefix tree."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag, real
from rollmath.forest import Forest, as_forest
from rollmath.groups import Groups
from rollmath.ops import order_project
from rollmath.tree import _prefixes


def tree_opo(
    forest: Forest,
    node: ArrayLike,
    rewards: ArrayLike,
    *,
    groups: Groups | ArrayLike | None = None,
    baseline: Literal["expectation", "optimistic", "pessimistic", "none"] = "expectation",
    alpha: float = 0.5,
    success: float = 0.5,
) -> Array:
    """Tree-OPO with a heuristic baseline: reward minus a share of the value of the prefix that the sample started from.

    ``a'_i = r_i - alpha V(p_i)``, less its mean over the group. ``V(p)`` is taken over ``S(p)``, the samples of the
    group whose prefix extends or equals ``p`` (sample ``i`` itself is always in ``S(p_i)``):

    - ``baseline="expectation"``: ``V(p) = mean of r over S(p)``
    - ``"optimistic"``: ``V(p) = 1`` if any of ``S(p)`` succeeds, else 0
    - ``"pessimistic"``: ``V(p) = 1`` if none of ``S(p)`` fails, else 0
    - ``"none"``: ``V = 0``, flat centring, which takes rewards from different prefixes for rewards from one

    Nothing is divided by a standard deviation or a length.

    Args:
        forest: a :class:`~rollmath.Forest` whose nodes are the prefixes; its leaves need no sample, and inner nodes
            may have some.
        node: prefix (node id) that each sample started from, ``[n]``; several may share one.
        rewards: one number a sample, ``[n]``.
        groups: one id a sample. Default: those of one prompt, by ``forest.groups`` of the node's tree.
        baseline: which value.
        alpha: its share. The paper's value is known as 0.5.
        success: the least reward that is a success, for the optimistic and the pessimistic value.

    Returns:
        ``[n]`` in the kind and float type of ``rewards``. Sums to 0 in each group. A group of one, or of equal rewards
        and values, gets exactly 0.

    Raises:
        ValueError: wrong lengths, a node that is not there, rewards that are not finite or require grad.

    Source: Tree-OPO, arXiv 2509.09284. A reconstruction: formulas from secondary descriptions, there is no public code;
    that rewards other than 0 and 1 succeed from a threshold on is ours.

    >>> forest = Forest.from_parents([-1, 0, 1, 0, 1, 3])  # "", a, ab, c, ad, ce
    >>> tree_opo(forest, range(6), [0, 0, 1, 0, 0, 1]).round(3).tolist()
    [-0.236, -0.236, 0.431, -0.319, -0.069, 0.431]
    """
    who = "tree_opo"
    made = as_forest(who, forest)
    choice(who, "baseline", baseline, ("expectation", "optimistic", "pessimistic", "none"))
    share, least = real(who, "alpha", alpha), real(who, "success", success)
    x, back = _prefixes.finite(who, rewards)
    samples = _prefixes.attach(who, made, node, groups, len(x))
    if baseline != "none":
        x = x - share * _prefixes.value(samples, x, baseline, least)
    return back(_prefixes.center(who, x, samples.groups))


class StagedAdvantage(NamedTuple):
    """Result of :func:`staged_advantage`: one advantage a sample, and a ``ops.ProjectionStatus`` a group (uint8)."""

    advantages: Array
    status: Array


def staged_advantage(
    forest: Forest,
    node: ArrayLike,
    rewards: ArrayLike,
    *,
    groups: Groups | ArrayLike | None = None,
    form: Literal["soft", "hard"] = "soft",
    margin: float = 0.01,
    pairs: bool = True,
    triplets: Literal["lower", "higher", "none"] = "lower",
    own_success_clause: bool = True,
    success: float = 0.5,
) -> StagedAdvantage:
    """Tree-OPO's staged advantage estimation: the centred rewards, moved as little as possible into an order.

    ``min_a |a - r0|^2 / 2``, ``r0 = r - mean(r)``, subject to ``sum(a) = 0``, ``a_i + margin <= a_j`` for each
    ``(i, j)`` in ``C``, and ``|a|^2 <= N`` (``form="soft"``) or ``|a|^2 = N`` (``"hard"``), in each group of ``N``
    samples. ``C`` has

    - pairs: ``i`` fails, ``j`` succeeds, and the prefix of ``j`` properly extends that of ``i``;
    - triplets: ``i`` and ``j`` fail from siblings (prefixes with the same parent), some sample of the group succeeds
      from below the prefix of ``i`` and none from below that of ``j``: to fail where success is within reach is worse.
      With ``own_success_clause`` no sample succeeds from these prefixes themselves either.

    Solved exactly by :func:`rollmath.ops.order_project`, without a general optimiser. Of rewards 0 and 1 pairs are in
    order from the start (margins up to 1) and ``|r0|^2 <= N / 4``, so that soft is isotonic regression and moves what
    triplets ask for, and hard, where no triplet binds, is ``(r - mean) / std`` with ddof 0.

    Args:
        forest: a :class:`~rollmath.Forest` whose nodes are the prefixes.
        node: prefix (node id) that each sample started from, ``[n]``; several may share one.
        rewards: one number a sample, ``[n]``.
        groups: one id a sample. Default: those of one prompt, by ``forest.groups`` of the node's tree.
        form: at most, or exactly, the length that makes the mean of ``a^2`` 1.
        margin: by how much, not negative. Described as about 0 for soft and about 0.01 for hard.
        pairs: whether ``C`` has the pairs.
        triplets: whether ``i`` of a triplet is put below ``j`` (``"lower"``), above it (``"higher"``), or there are
            none (``"none"``).
        own_success_clause: as above.
        success: the least reward that is a success.

    Returns:
        ``advantages`` ``[n]`` in the kind and float type of ``rewards``, and ``status`` ``[n_groups]``, uint8, groups
        in order of first appearance: see :class:`rollmath.ops.ProjectionStatus`. Equal rewards give exactly 0, which
        for ``"hard"`` is ``SATURATED``: there is no direction to stretch. Margins that need more than ``|a|^2 = N`` are
        ``INFEASIBLE``; such a group gets the shortest vector in order.

    Raises:
        ValueError: wrong lengths, a node that is not there, rewards that are not finite or require grad, a negative
            margin; more than 67,108,864 pairs or triplets. A group of ``N`` has at most ``N^2 / 4`` of either; how deep
            its prefixes are costs nothing.

    Source: Tree-OPO, arXiv 2509.09284. A reconstruction: the program from secondary descriptions, there is no public
    code; the direction of the triplets and their clause are unverified, hence options. Checked against a general
    optimiser (SLSQP) on a small example.

    >>> forest = Forest.from_parents([-1, 0, 1, 0, 1])  # "", a, ab, c, ad
    >>> staged_advantage(forest, range(5), [0, 0, 1, 0, 0]).advantages.round(3).tolist()
    [-0.2, -0.205, 0.8, -0.195, -0.2]
    """
    who = "staged_advantage"
    made = as_forest(who, forest)
    choice(who, "form", form, ("soft", "hard"))
    choice(who, "triplets", triplets, ("lower", "higher", "none"))
    least, distance = real(who, "success", success), real(who, "margin", margin, 0.0)
    clause = flag(who, "own_success_clause", own_success_clause)
    x, back = _prefixes.finite(who, rewards)
    samples = _prefixes.attach(who, made, node, groups, len(x))
    outcome = _prefixes.outcomes(samples, x, least)
    relations = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    if flag(who, "pairs", pairs):
        relations.append(_prefixes.pairs(who, samples, outcome))
    if triplets != "none":
        found = _prefixes.triplets(who, samples, outcome, made.parents, own_success_clause=clause)
        relations.append(found if triplets == "lower" else found[::-1])
    lesser, greater = (np.concatenate(side) for side in zip(*relations, strict=True))
    x = _prefixes.center(who, x, samples.groups)
    norm: Literal["ball", "sphere"] = "ball" if form == "soft" else "sphere"
    out = order_project(
        x, (lesser, greater), margin=distance, groups=samples.groups, norm=norm, name="rewards", who=who
    )
    return StagedAdvantage(back(out.values), back.kind.wrap(out.status))
