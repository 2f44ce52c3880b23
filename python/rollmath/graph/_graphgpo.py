"""GraphGPO: steps by how near to success they lead."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import mask, real
from rollmath.conventions import GRAPHGPO, Convention, Framework, Override, resolve
from rollmath.graph._common import per_step
from rollmath.graph._terms import Scale, Statistics, among_steps, at_ends, episode_term, graph_of, rewards_of
from rollmath.ops import graph_distance, segment_broadcast
from rollmath.steps import Steps, as_steps


def graphgpo(
    steps: Steps,
    rewards: ArrayLike,
    *,
    omega: float = 0.1,
    formula: Literal["code", "paper", "progress"] = "code",
    success: ArrayLike | None = None,
    success_reward: float = 10.0,
    costs: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    scale: Scale = "std",
    beta_e: float = 1.0,
    beta_g: float = 1.0,
    statistics: Statistics = "trajectories",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = GRAPHGPO,
    **override: Unpack[Override],
) -> Array:
    """GraphGPO: ``A = beta_e z_task(R) + beta_g z_state(10 omega^d(s'))``, ``z(x) = (x - mean) / (std + eps)``.

    ``d(s)`` is the cost of the cheapest way from ``s`` to success on the graph of all steps of the task; where there is
    none, 1 more than the largest that there is. ``z_task`` goes over the trajectories of the task, ``z_state`` over the
    steps from a state.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        omega: what a step further from success is worth, in (0, 1]; the training scripts have 0.1 and 0.2.
        formula: what ``z_state`` compares, ``c`` the cost of the step: ``"code"`` ``10 omega^(d(s') + c - 1)``;
            ``"paper"`` ``10 omega^(d(s') + c)``; ``"progress"`` ``10 omega^(d(s') - d(s) + c)`` (``normalize_distance``
            in the code). At the cost 1 they differ by a factor that all steps from a state share, hence, with
            ``scale="std"``, by no more than eps.
        success: bool mask, one a trajectory: those whose last step reached the goal. Default: ``rewards > 0``.
        success_reward: the factor 10.
        costs: one a row, not negative; of equal transitions the cheapest counts. Default: 1 each.
        truncated: bool mask, one a trajectory: those that were cut off in a known state, as in
            :meth:`rollmath.Steps.graph`; their last step leads there. Others without success end where there is no way
            on.
        scale: ``"std"``, or ``"none"`` for ``x - mean`` in both terms.
        beta_e: weight of the first term.
        beta_g: weight of the second.
        statistics: of the first term: over the ``"trajectories"`` of the task, or, as the code has it, over its
            ``"step_rows"``, where a trajectory counts once for each of its steps.
        advantages: one a trajectory, instead of ``z_task(R)``.
        convention: ddof, eps and what a task of one trajectory or without spread gets. Default
            ``conventions.GRAPHGPO``: sample standard deviation plus 1e-6, a lone reward stays. A state visited once
            gets 0 from ``z_state``, whatever ``singleton`` says.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards``. A task without success has 0 for the second term. With
        ``nan="propagate"`` a task with a reward that is not finite is NaN.

    Raises:
        ValueError: wrong lengths; rewards that are not finite unless ``nan="propagate"``, or that require grad; costs
            that are negative or not finite; ``omega`` out of range; groups of one or without spread where a policy
            says raise.

    Source: GraphGPO, arXiv 2605.26684. The official code, ``recipe/GraphGPO`` of langfengQ/verl-agent, was executed
    from a copy in another repository and agrees with ``statistics="step_rows"``; its edges all cost 1. ``"paper"`` is
    from a secondary description of equation 4.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> graphgpo(steps, [1.0, 0.0], beta_e=0.0, scale="none").round(3).tolist()
    [0.495, 0.0, -0.495, 0.0]
    """
    who = "graphgpo"
    made = as_steps(who, steps)
    rules = resolve(who, "graphgpo", convention, override)
    base, factor = real(who, "omega", omega, high=1.0, above=0.0), real(who, "success_reward", success_reward)
    choice(who, "formula", formula, ("code", "paper", "progress"))
    weights = real(who, "beta_e", beta_e), real(who, "beta_g", beta_g)
    r, lost, back = rewards_of(who, made, rewards, rules)
    won = r > 0 if success is None else mask(who, "success", success, made.n_trajectories, "steps.n_trajectories")
    graph = graph_of(who, made, won, truncated)

    cost, edges = np.ones(len(made)), None
    if costs is not None:
        cost, _ = per_step(who, made, "costs", costs, None)
        if len(bad := np.flatnonzero(cost < 0)):
            msg = f"{who}(): 'costs' must not be negative, got {cost[bad[0]]:g} at index {bad[0]}"
            raise ValueError(msg)
        edges = np.full(graph.n_edges, np.inf)
        np.minimum.at(edges, graph.edge_of_row, cost)
    d = np.asarray(graph_distance(graph, at_ends(graph, won, False), costs=edges))
    near = np.isfinite(d)
    farthest = np.asarray(segment_broadcast(np.where(near, d, -1.0), graph.node_groups, how="max"))
    d = np.where(near, d, farthest + 1.0)

    power = d[graph.next_of_row] + cost
    if formula != "paper":
        power -= d[graph.node_of_row] if formula == "progress" else 1.0
    power[farthest[graph.node_of_row] < 0] = 0.0  # without a success no step is better than another
    step = among_steps(who, factor * base**power, made.groups(by="state"), rules, scale)
    out = episode_term(who, made, r, advantages, rules, scale=scale, statistics=statistics)
    return back(np.where(lost, np.nan, weights[0] * out + weights[1] * step))
