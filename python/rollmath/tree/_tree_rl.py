"""TreeRL: what a step has gained on its parent and on the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag, mask
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.ops import down, gather, parent, root, segment_sum, segment_weighted_mean, up
from rollmath.tree._common import leaf_rewards
from rollmath.tree._prompts import over_prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def tree_rl(
    forest: Forest,
    rewards: ArrayLike,
    *,
    form: Literal["sum", "local", "global", "ancestors"] = "sum",
    global_term: Literal["difference", "value"] = "difference",
    value: Literal["leaf_mean", "mean_of_children"] = "leaf_mean",
    sqrt: Literal["paper", "code", "none"] = "paper",
    shift: Literal["none", "step", "token"] = "none",
    zero_fill: bool = False,
    selected: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """TreeRL: ``A(v) = ((V(v) - V(root)) + (V(v) - V(parent(v)))) / sqrt(n_v)``, global and local advantage.

    ``V(v)`` is the mean of ``r - mean of the other rewards of the prompt`` over the leaves below ``v``, and ``n_v``
    counts them. The roots of all trees of a group are one prompt, whose value is taken over all of its leaves.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        form: ``"sum"``; ``"local"`` ``V(v) - V(parent)`` alone; ``"global"`` that term alone; ``"ancestors"`` the mean
            of ``V(v) - V(a)`` over all strict ancestors ``a``.
        global_term: ``"difference"`` ``V(v) - V(root)``, the paper's; ``"value"`` ``V(v)`` itself, the code's. They are
            equal, because leave-one-out differences average to ``V(root) = 0``; but not for ``"mean_of_children"``,
            after a ``shift``, or for a prompt of one rollout with ``singleton="raw"``.
        value: ``"leaf_mean"``, every rollout counts the same, or ``"mean_of_children"``, every branch does
            (``average_one_generation`` in the code).
        sqrt: where the square root of ``n`` divides: ``"paper"`` the result, by that of ``v``; ``"code"`` each value by
            that of its own node, before differences are taken, so that a parent is divided by another number than its
            child; ``"none"``.
        shift: subtract the mean value of the prompt's nodes, weighted by leaves below (``"step"``), or by leaves times
            tokens (``"token"``; needs a forest with lengths). Differences feel it only through ``sqrt="code"``. With
            ``"mean_of_children"`` the code takes another number, which mixes sums and means; this one is ours.
        zero_fill: below the first step, a node whose local advantage is smaller than 1e-8 takes that of the step
            before it, itself filled; the code does this before it adds the global term (not for ``"ancestors"``).
        selected: the rollouts that are trained (bool or int, nonzero = True), ``[n_leaves]``; ``n`` counts these alone.
            Values are of all. Nodes of no such rollout get 0.
        convention: what the rollout of a prompt with no other gets for its leave-one-out difference (``singleton``, 0
            by default), and what NaN does. ``conventions.TREE_RL`` refuses such prompts, as the code does;
            ``**conventions.TREE_RL.options["tree_rl"]`` are the other choices of its training script.
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0. Equal rewards in a prompt give
        exactly 0. Along a path local advantages sum to the leave-one-out difference of the rollout minus ``V(root)``.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad;
            ``shift="token"`` without lengths.

    Two more modes of the code need no function. Its chain reward is ``group.rloo`` of all rollouts, and once more of
    the result among the selected ones; its outcome reward is that plus the local advantage, expanded to rollouts.
    The baseline of a rollout averages others that share its first steps, so it depends on the very steps that it is to
    judge; that of :func:`outside_subtree` does not.

    Source: TreeRL, arXiv 2506.11902; the sum of both terms from a question at THUDM/TreeRL (issue 2), which quotes
    equations 2 to 4. The place of the paper's square root is from secondary descriptions (Tree-GRPO's code, which names
    TreeRL, also divides the sum), unverified. The code, THUDM/TreeRL, was executed and agrees, with its place of the
    root and without.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> tree_rl(forest, [0.0, 1.0, 0.0]).round(3).tolist()
    [0.0, 0.354, -1.0, 1.75, -1.25]
    >>> tree_rl(forest, [0.0, 1.0, 0.0], form="local", sqrt="none").tolist()
    [0.0, 0.25, -0.5, 0.75, -0.75]
    """
    made = as_forest("tree_rl", forest)
    choice("tree_rl", "form", form, ("sum", "local", "global", "ancestors"))
    choice("tree_rl", "global_term", global_term, ("difference", "value"))
    choice("tree_rl", "value", value, ("leaf_mean", "mean_of_children"))
    choice("tree_rl", "sqrt", sqrt, ("paper", "code", "none"))
    fill = flag("tree_rl", "zero_fill", zero_fill)
    rules = resolve("tree_rl", "tree_rl", convention, override)
    x, kind = leaf_rewards("tree_rl", made, rewards, propagate=rules.nan == "propagate")
    trained = _trained(made, selected)

    v = over_prompt("tree_rl", made, x.astype(np.float64, copy=False), rules, center="loo", how=value)
    _join_roots(made, v, value)
    _shift(made, v, shift)
    with np.errstate(invalid="ignore", divide="ignore"):  # infinities under nan="propagate"; nodes of nothing selected
        if sqrt == "code":
            v /= np.sqrt(_of_prompts(made, trained))
        if form == "ancestors":
            out = v - (down(made, v, how="sum") - v) / np.maximum(made.depth, 1)
        elif form == "global":
            out = v.copy()
        else:
            out = parent(made, v)
            np.subtract(v, out, out=out)
            if fill:
                out = _filled(made, out)
            if form == "sum":
                out += v
        if form in ("sum", "global") and global_term == "difference" and v[made.roots].any():
            out -= root(made, v)
        if sqrt == "paper":
            out /= np.sqrt(trained)
    out[made.roots] = 0.0
    if selected is not None:
        out[trained == 0] = 0.0
    return kind.wrap(out.astype(x.dtype, copy=False))


def _trained(forest: Forest, selected: ArrayLike | None) -> NDArray[np.int64] | Floats:
    """Number of selected leaves below each node."""
    if selected is None:
        return forest.leaf_counts
    chosen = mask("tree_rl", "selected", selected, forest.n_leaves, "forest.n_leaves")
    return np.asarray(up(forest, chosen.astype(np.float64), how="sum"))


def _join_roots(forest: Forest, v: Floats, value: str) -> None:
    """Gives the roots of one prompt its value: they are the same state."""
    joined = forest.roots[forest.groups.counts[forest.groups.index] > 1]
    if value == "leaf_mean":
        v[joined] = 0.0  # the mean of all leave-one-out differences
    elif len(joined):
        children = np.bincount(forest.parents[forest.parents >= 0], minlength=forest.n_nodes)[forest.roots]
        at_roots = segment_weighted_mean(v[forest.roots], forest.groups, np.maximum(children, 1))
        v[forest.roots] = gather(at_roots, forest.groups)


def _of_prompts(forest: Forest, trained: NDArray[np.int64] | Floats) -> Floats:
    """The same counts with roots that count all of their prompt."""
    n = trained.astype(np.float64)
    n[forest.roots] = gather(segment_sum(n[forest.roots], forest.groups), forest.groups)
    return n


def _shift(forest: Forest, v: Floats, shift: str) -> None:
    """Subtracts the prompt's mean over nodes or tokens; a prompt's own tokens are none of them."""
    choice("tree_rl", "shift", shift, ("none", "step", "token"))
    if shift == "none":
        return
    weight = forest.leaf_counts.astype(np.float64)
    if shift == "token":
        if forest.lengths is None:
            msg = "tree_rl(): 'shift' must be 'none' or 'step' for a forest without lengths, got 'token'; build it with"
            raise ValueError(f"{msg} lengths= or from sequences")
        weight *= forest.lengths
        weight[forest.roots] = 0.0
    mean = segment_weighted_mean(v, forest.node_groups, weight)
    mean[segment_sum(weight, forest.node_groups) == 0] = 0.0
    v -= gather(mean, forest.node_groups)


def _filled(forest: Forest, local: Floats) -> Floats:
    """Local advantages with those of about 0 below the first step replaced by the last one above that is not."""
    small = (np.abs(local) < 1e-8) & (forest.depth > 1)
    return np.where(small, down(forest, np.where(small, np.nan, local), how="last"), local)
