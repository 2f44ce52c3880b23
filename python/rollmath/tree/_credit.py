"""Every switch on which tree methods differ, as one typed option each; and what each method sets them to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, describe
from rollmath._checks import mask, rows
from rollmath.conventions import SPO, Convention
from rollmath.forest import Forest, as_forest
from rollmath.tree._common import finite_at, leaf_rewards
from rollmath.tree._credit_rule import Credit, Level
from rollmath.tree._credit_terms import Leaves, term

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RAW = Convention(singleton="raw")

#: What published methods set the switches to, by the name of their function where there is one.
PRESETS: Mapping[str, tuple[Credit, ...]] = MappingProxyType(
    {
        "grpo": (Credit(level="rollout", baseline="prompt", scale="std"),),
        "rloo": (Credit(level="rollout", baseline="prompt", own="excluded"),),
        "spo": (Credit(value="mean_of_children"),),
        "spo_normalized": (Credit(value="mean_of_children", scale="std", convention=SPO["spo"]),),
        "spo_leave_one_out": (Credit(value="mean_of_children", own="excluded"),),
        "tree_rpo": (Credit(value="mean_of_children", baseline="siblings", scale="std"),),
        "tree_rl": (
            Credit(leaf="loo", divide="sqrt_leaves"),
            Credit(leaf="loo", baseline="tree", divide="sqrt_leaves"),
        ),
        "tree_grpo": (
            Credit(level="rollout", baseline="prompt", scale="std", convention=_RAW),
            Credit(level="rollout", baseline="tree", scale="std", convention=_RAW),
        ),
        "treepo": (Credit(level="rollout", baseline="shared_ancestors", convention=_RAW),),
        "arpo_hard": (Credit(leaf="zscore", baseline="none"),),
        "outside_subtree": (Credit(own="excluded"),),
    }
)


class Credited(NamedTuple):
    """Result of :func:`credit`.

    Attributes:
        advantages: one a node or one a rollout, in the kind and float type of the rewards.
        level: which of these.
    """

    advantages: Array
    level: Level


def credit(
    forest: Forest,
    rewards: ArrayLike,
    rule: Credit | Iterable[Credit] | str,
    *,
    truncated: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Credited:
    """The sum of some terms ``A = (x - B) / d``, each with switches of its own (:class:`Credit`).

    Methods on trees differ in few choices: how values go up, what the baseline is a mean of, whether a branch is in its
    own baseline, what is divided by. Here each choice is a switch, for a method of your own, or to see what one switch
    does; the published methods are settings, in :data:`PRESETS`. (Those of TreeRL and TreePO are for prompts of one
    tree: :func:`tree_rl` and :func:`treepo` take the roots of a prompt for one node.)

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        rule: a :class:`Credit`, several of one level, or the name of a preset.
        truncated: rollouts that were cut off (bool or int, nonzero = True), ``[n_leaves]``; needed where a term has
            ``truncated="penalty"`` or ``"exclude"``.
        weights: of each node among its siblings in the values, ``[n_nodes]``, as ``ops.up`` takes them (0 takes a
            branch out, so that others alone are its parent's probes). Statistics over rollouts do not look at them.

    Returns:
        :class:`Credited`. Roots get 0, and so does what has no value because all below it is left out.

    Raises:
        ValueError: wrong lengths; rewards that are not finite; terms of different levels; an unknown preset.
        TypeError: a ``rule`` that is none.

    Source: the switches are those in which the code or the text of the methods in :data:`PRESETS` differ.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> credit(forest, [0.0, 1.0, 0.0], "spo")
    Credited(advantages=array([ 0.  ,  0.25, -0.25,  0.5 , -0.5 ]), level='node')
    >>> mine = Credit(value="mean_of_children", own="excluded", divide="sqrt_leaves")
    >>> credit(forest, [0.0, 1.0, 0.0], mine).advantages.round(4).tolist()
    [0.0, 0.3536, -0.5, 1.0, -1.0]
    """
    who = "credit"
    made = as_forest(who, forest)
    terms = _terms(who, rule)
    x, kind = leaf_rewards(who, made, rewards, propagate=None)
    cut = None if truncated is None else mask(who, "truncated", truncated, made.n_leaves, "forest.n_leaves")
    if cut is None and any(t.truncated != "reward" for t in terms):
        msg = f"{who}(): 'truncated' is needed by a rule that does something else with such rollouts"
        raise ValueError(msg)
    share = None if weights is None else _weights(who, made, weights)
    if share is not None and any(t.scale == "std" for t in terms):
        msg = f"{who}(): 'weights' do not go with scale='std', a statistic of all that is there"
        raise ValueError(msg)
    total = np.zeros(made.n_nodes if terms[0].level == "node" else made.n_leaves)
    for one in terms:
        total += term(who, Leaves(made, x.astype(np.float64, copy=False), cut, share), one)
    return Credited(kind.wrap(total.astype(x.dtype, copy=False)), terms[0].level)


def _terms(who: str, rule: Credit | Iterable[Credit] | str) -> tuple[Credit, ...]:
    if isinstance(rule, str):
        if rule not in PRESETS:
            msg = f"{who}(): 'rule' must be a Credit or one of {', '.join(map(repr, PRESETS))}, got {rule!r}"
            raise ValueError(msg)
        return PRESETS[rule]
    terms = (rule,) if isinstance(rule, Credit) else tuple(rule) if isinstance(rule, Iterable) else ()
    if not terms or not all(isinstance(t, Credit) for t in terms):
        msg = f"{who}(): 'rule' must be a Credit, several, or the name of a preset, got {describe(rule)}"
        raise TypeError(msg)
    if len({t.level for t in terms}) > 1:
        msg = f"{who}(): 'rule' must have terms of one level, got both 'node' and 'rollout'"
        raise ValueError(msg)
    return terms


def _weights(who: str, forest: Forest, weights: ArrayLike) -> NDArray[np.float64]:
    w = rows(who, "weights", weights, forest.n_nodes, "forest.n_nodes")[0]
    finite_at(who, "weights", w, least=0.0)
    return w
