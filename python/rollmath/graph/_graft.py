"""GRAFT: the value of each state on the graph of all rollouts, and what each step changes in it."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath._step_graph import StepGraph
from rollmath.conventions import GRAFT, Convention, Framework, Override, resolve
from rollmath.graph._common import per_step, per_trajectory
from rollmath.graph._terms import Scale, added, against, at_ends, graph_of, rewards_of
from rollmath.graph._values import StepValues
from rollmath.groups import Groups
from rollmath.ops import graph_backup, segment_mean, segment_sum
from rollmath.steps import Steps, as_steps


def graft_values(
    steps: Steps, rewards: ArrayLike, *, gamma: float = 0.99, truncated: ArrayLike | None = None
) -> StepValues:
    """The values of GRAFT: ``V(s) = gamma mean V(s')`` over all steps from ``s`` of all rollouts, solved exactly.

    An end is worth the reward of its trajectory. This is the expected discounted reward of who walks the graph as the
    rollouts did, ``sum_a pi(a | s) sum_s' P(s' | s, a) gamma V(s')`` with shares of visits for ``pi`` and ``P``.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        gamma: discount per step, in [0, 1].
        truncated: bool mask, one a trajectory: those that were cut off in a known state, as in
            :meth:`rollmath.Steps.graph`; they end nowhere, and their reward is not used.

    Returns:
        ``values`` and ``next_values``, both ``[n_rows]``, in the kind and float type of ``rewards``. A state from which
        no end can be reached, which needs ``truncated``, is worth 0.

    Raises:
        ValueError: wrong lengths; rewards that are not finite or that require grad; ``gamma`` out of range.

    Source: GRAFT, arXiv 2609.28963, paper text (equations 5 to 7). It iterates to a tolerance of 1e-8.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> graft_values(steps, [1.0, 0.0], gamma=0.5).values.tolist()
    [0.125, 0.5, 0.125, 0.0]
    """
    who = "graft_values"
    made = as_steps(who, steps)
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    r, back = per_trajectory(who, made, "rewards", rewards, None)
    graph = graph_of(who, made, r, truncated)
    v = np.asarray(graph_backup(graph, at_ends(graph, r, np.nan), gamma=discount))
    return StepValues(back(v[graph.node_of_row]), back(v[graph.next_of_row]))


def graft(
    steps: Steps,
    rewards: ArrayLike,
    *,
    gamma: float = 0.99,
    lam: float | None = None,
    values: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    scale: Scale = "std",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = GRAFT,
    **override: Unpack[Override],
) -> Array:
    """GRAFT: ``A = gamma V(s') - V(s)``, standardised among the steps from ``s``: ``(A - mean) / (std + eps)``.

    ``V`` is that of :func:`graft_values`. With ``lam`` it is ``A + sum_k (gamma lam)^k mean_k``, the paper's Graph GAE,
    where ``mean_k`` is the mean of ``A`` over all steps of all rollouts that start ``k`` steps on from ``s'``: those
    from ``s'`` for ``k = 1``, those from where these lead for ``k = 2``, up to the steps that the trajectory has left.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        gamma: discount per step, in [0, 1].
        lam: weight of the steps further on, in [0, 1]; None for no such term. With the graph's own ``V`` it changes
            nothing: ``A`` has the mean 0 over the steps from any state. It matters where ``values`` are given; then it
            looks at all pairs of a state and one further on, step by step.
        values: one a row, the value of its state by someone else, a critic say; the mean is taken where rows of one
            state differ. Ends keep the reward; a state without a row, which needs ``truncated``, is worth 0.
        truncated: as for :func:`graft_values`.
        scale: ``"std"``, or ``"none"`` for ``A`` as it is.
        advantages: of the trajectories, to be added, such as those of :func:`rollmath.group.grpo`.
        convention: ddof, eps and what a lone step from a state or steps without spread get. Default
            ``conventions.GRAFT``: sample standard deviation plus 1e-6, a lone step gets ``A / (abs(A) + eps)``, which
            with the graph's own ``V`` is 0. The paper says neither ddof nor eps.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards``. With ``nan="propagate"`` a task with a reward that is
        not finite is NaN.

    Raises:
        ValueError: wrong lengths; rewards that are not finite unless ``nan="propagate"``, or that require grad;
            ``gamma`` or ``lam`` out of range; groups of one or without spread where a policy says raise.

    The paper has one end a final state; here there is one end for each reward that occurs, so that a state in which
    some rollouts stop and others go on stays a state.

    Source: GRAFT, arXiv 2609.28963, paper text (equations 8 to 11); no code found. A group are the rows of a state; the
    paper may mean its distinct transitions.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> graft(steps, [1.0, 0.0], gamma=0.5, scale="none").tolist()
    [0.125, 0.0, -0.125, 0.0]
    >>> graft(steps, [1.0, 0.0], gamma=0.5).round(4).tolist()
    [0.7071, 0.0, -0.7071, 0.0]
    """
    who = "graft"
    made = as_steps(who, steps)
    rules = resolve(who, "graft", convention, override)
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    decay = None if lam is None else real(who, "lam", lam, 0.0, 1.0)
    choice(who, "scale", scale, ("std", "none"))
    r, lost, back = rewards_of(who, made, rewards, rules)
    graph = graph_of(who, made, r, truncated)
    states = made.groups(by="state")
    v = at_ends(graph, r, np.nan)
    if values is None:
        v = np.asarray(graph_backup(graph, v, gamma=discount))
    else:
        v = np.where(graph.ends, v, 0.0)
        v[graph.node_of_row[states.first]] = segment_mean(per_step(who, made, "values", values, None)[0], states)
    out = discount * v[graph.next_of_row] - v[graph.node_of_row]
    if decay and values is not None:
        out += _further_on(made, graph, out, discount * decay)
    if scale == "std":
        out = against(who, out, states, rules, scale, what="state")
    if advantages is not None:
        out = out + added(who, made, advantages, rules)
    return back(np.where(lost, np.nan, out))


def _further_on(steps: Steps, graph: StepGraph, residual: Array, decay: float) -> Array:
    """``sum_k decay^k mean_k`` for each row, ``mean_k`` over the rows that leave what is ``k - 1`` steps on."""
    sources = Groups(graph.node_of_row)
    at = graph.node_of_row[sources.first]
    total, count = np.zeros(graph.n_nodes), np.zeros(graph.n_nodes)
    total[at], count[at] = segment_sum(residual, sources), sources.counts
    left = steps.gather(steps.lengths) - 1 - steps.position
    starts, leaving = np.unique(graph.next_of_row[left > 0]), np.flatnonzero(np.diff(graph.offsets))
    # A bit for each state of the task, whether it is k - 1 steps from the node; ends have no steps, and no bit.
    states = np.flatnonzero(~graph.ends)
    first = np.searchsorted(graph.node_groups.index[states], graph.node_groups.index)
    place = states - first[states]
    reach = np.zeros((graph.n_nodes, 8 * (int(place.max(initial=0)) // 64 + 1)), np.uint8)
    reach[states, place // 8] = 1 << place % 8
    again, mean, out = False, np.zeros(graph.n_nodes), np.zeros(len(steps))
    for k in range(1, int(left.max(initial=0)) + 1):
        if not again:  # else there is nothing new further on
            for part in np.array_split(starts, 1 + len(starts) * reach.shape[1] // 2**22):
                of, bit = np.nonzero(np.unpackbits(reach[part], axis=1, bitorder="little"))
                own, here = Groups(of), first[part][of] + bit
                rows = np.asarray(segment_sum(count[here], own))
                mean[part] = 0.0
                mean[part[of[own.first]]] = segment_sum(total[here], own) / np.where(rows > 0, rows, 1.0)
            before, reach = reach, np.zeros_like(reach)
            words, old = reach.view(np.uint64), before.view(np.uint64)
            for j in np.array_split(np.arange(words.shape[1]), 1 + graph.n_edges * words.shape[1] // 2**22):
                words[np.ix_(leaving, j)] = np.bitwise_or.reduceat(
                    old[:, j][graph.target], graph.offsets[leaving], axis=0
                )
            again = np.array_equal(before, reach)
        out += np.where(left >= k, decay**k * mean[graph.next_of_row], 0.0)
    return out
