"""Leaves to train on: a few of each tree or prompt, at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import ArrayLike, Kind, choice, host
from rollmath._checks import mask, whole
from rollmath.forest import Forest, as_forest
from rollmath.ops._random import generator, permutation, ranks
from rollmath.select._selection import Selection, selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


def leaf_sample(
    forest: Forest,
    *,
    k: int,
    seed: int,
    per: Literal["tree", "prompt"] = "tree",
    spread: Literal["leaves", "parents"] = "leaves",
    correct: ArrayLike | None = None,
) -> Selection:
    """At most ``k`` rollouts of each tree or prompt, drawn without replacement: ``P(kept) = min(1, k / n)`` of ``n``.

    ``forest.prune(leaf_sample(...).mask)`` is the forest of these alone. Values may be taken before (from all leaves,
    as TreeRL does) or after it (as Tree-GRPO does).

    Args:
        forest: a :class:`~rollmath.Forest`.
        k: rollouts to keep of each tree or prompt; where there are fewer, all.
        seed: whole number of at least 0; another in every draw.
        per: ``"tree"`` (Tree-GRPO), or ``"prompt"``: the trees of one group together (TreeRL).
        spread: ``"leaves"``: all are equal. ``"parents"``: first one leaf of each parent, then a second one, and so
            on; where there are more parents than ``k``, these are equal among themselves (TreeRL).
        correct: rollouts that solved the task (bool or int, nonzero = True), ``[n_leaves]``. Where there are some, one
            of them, drawn among the correct, is kept for certain, and ``k - 1`` are drawn from the rest (TreeRL).

    Returns:
        A :class:`Selection` of rollouts, in the order of ``forest.leaves``; of the kind of ``correct`` if that is
        given. Its report tells what each tree or prompt lost. It depends on the seed and the order of rollouts alone.

    Raises:
        ValueError: ``k`` below 1, a negative seed, a mask of wrong length.
        TypeError: no whole number, no mask.

    Source: Tree-GRPO, arXiv 2509.21240 (its script keeps 3 leaves a tree), and TreeRL, arXiv 2506.11902 (16 a prompt):
    official code of both read. Tree-GRPO's refuses a tree of fewer leaves than ``k``; TreeRL's fills up with the same
    rollouts again, and takes the second leaf of a parent in the order of its children.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1, 1])
    >>> leaf_sample(forest, k=2, seed=0, correct=[0, 0, 1, 0]).mask.tolist()
    [False, False, True, True]
    """
    who = "leaf_sample"
    made = as_forest(who, forest)
    most, bits = whole(who, "k", k), generator(who, seed)
    choice(who, "per", per, ("tree", "prompt"))
    choice(who, "spread", spread, ("leaves", "parents"))
    good = None if correct is None else mask(who, "correct", correct, made.n_leaves, "forest.n_leaves")
    kind = Kind() if correct is None else host(who, "correct", correct)[1]
    groups = made.rollout_groups if per == "prompt" else made.rollout_trees

    order, among = permutation(bits, made.n_leaves), permutation(bits, made.n_leaves)
    if good is not None:
        # In an order of its own: the rest must not know which of the correct came first.
        lucky = permutation(bits, made.n_leaves)
        lucky = lucky[good[lucky]]
        sure = lucky[np.unique(groups.index[lucky], return_index=True)[1]]
        order, among = _first(sure, order), _first(sure, among)
    if spread == "parents":
        # Orders of their own within families and among their firsts: else large families would come first.
        within = ranks(among, made.siblings.index[made.leaves], made.siblings.n_groups)
        order = order[np.argsort(within[order], kind="stable")]
    rank = ranks(order, groups.index, groups.n_groups)
    return selection(who, groups, [("not drawn", rank >= most)], kind)


def _first(rows: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order with these rows moved to its front."""
    rest = np.ones(len(order), bool)
    rest[rows] = False
    return np.concatenate([rows, order[rest[order]]])
