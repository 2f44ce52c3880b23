"""The switches of a term of an advantage on a forest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rollmath._checks import real
from rollmath.conventions import DEFAULT, Convention

Level = Literal["node", "rollout"]
Leaf = Literal["reward", "loo", "zscore"]
Value = Literal["mean_of_children", "leaf_mean"]
Baseline = Literal["none", "parent", "siblings", "ancestors", "shared_ancestors", "tree", "prompt", "batch"]
Own = Literal["included", "excluded"]
Scale = Literal["none", "std"]
Divide = Literal["none", "sqrt_leaves"]
Root = Literal["estimate", "zero"]
Truncated = Literal["reward", "penalty", "exclude"]
_CHOICES = {
    "level": Level,
    "leaf": Leaf,
    "value": Value,
    "baseline": Baseline,
    "own": Own,
    "scale": Scale,
    "divide": Divide,
    "root": Root,
    "truncated": Truncated,
}
_SCOPES = ("tree", "prompt", "batch")


@dataclass(frozen=True, kw_only=True)
class Credit:
    """One term of an advantage on a forest: ``A = (x - B) / d``, and where ``x``, ``B`` and ``d`` are from.

    A method is one such term or a sum of them; ``rollmath.tree.PRESETS`` has those that are published.

    Attributes:
        level: ``"node"``: ``x`` is the value of a node; ``"rollout"``: the value of a leaf.
        leaf: what a leaf's value is: its ``"reward"``; ``"loo"``, minus the mean of the other rollouts of the prompt;
            ``"zscore"``, standardised over the rollouts of the prompt.
        value: how values go up: ``"mean_of_children"``, every branch counts the same; ``"leaf_mean"``, every rollout.
            They differ where branches are unequally wide.
        baseline: ``"none"``; ``"parent"``, the value of the parent; ``"siblings"``, the mean of the siblings' values;
            ``"ancestors"``, the mean of the values of all nodes above; ``"shared_ancestors"``, of those above through
            which more than one rollout goes; the mean over the rollouts of the ``"tree"``, the ``"prompt"`` or the
            ``"batch"``.
        own: whether what is judged is a part of its own baseline. ``"excluded"``: the mean over the other children, or
            over the other rollouts (for ``"parent"`` with ``"leaf_mean"`` those of the parent). Independent probes are
            a matter of ``weights`` in :func:`~rollmath.tree.credit`.
        scale: ``"std"``: divided by the standard deviation of what ``baseline`` is a mean of, as ``convention`` says.
        divide: ``"sqrt_leaves"``: divided by the square root of the number of rollouts below.
        root: what ``"parent"`` takes for the value of a root: the ``"estimate"`` or ``"zero"``.
        truncated: what a rollout that was cut off counts as: its ``"reward"``, the ``penalty``, or nothing
            (``"exclude"``: in no value, no statistic, advantage 0).
        penalty: see ``truncated``.
        convention: ddof, eps and what degenerate groups get, for ``scale="std"`` and ``leaf="zscore"``; its
            ``singleton`` (``"raw"``: the value, minus nothing; else 0) is also for what nothing can be compared with.

    Raises:
        ValueError: an unknown choice; choices that exclude each other.
        TypeError: a convention that is none.
    """

    level: Level = "node"
    leaf: Leaf = "reward"
    value: Value = "leaf_mean"
    baseline: Baseline = "parent"
    own: Own = "included"
    scale: Scale = "none"
    divide: Divide = "none"
    root: Root = "estimate"
    truncated: Truncated = "reward"
    penalty: float = 0.0
    convention: Convention = DEFAULT

    def __post_init__(self) -> None:
        for name, literal in _CHOICES.items():
            choices, value = get_args(literal), getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                msg = f"Credit(): {name!r} must be one of {', '.join(map(repr, choices))}, got {value!r}"
                raise ValueError(msg)
        object.__setattr__(self, "penalty", real("Credit", "penalty", self.penalty))
        if not isinstance(self.convention, Convention):
            msg = f"Credit(): 'convention' must be a Convention, got {type(self.convention).__name__}"
            raise TypeError(msg)
        if wrong := self._excluded():
            msg = f"Credit(): {wrong}"
            raise ValueError(msg)

    def _excluded(self) -> str:
        """What is wrong with the choices taken together."""
        at_nodes = self.level == "node" and self.baseline in _SCOPES
        if self.own == "excluded" and self.baseline == "none":
            return "own='excluded' needs a baseline"
        if self.own == "excluded" and "ancestors" in self.baseline:
            return (
                f"own='excluded' does not go with baseline={self.baseline!r}, a mean of values that are means already"
            )
        if self.own == "excluded" and at_nodes and self.value != "leaf_mean":
            return f"own='excluded' with baseline={self.baseline!r} is over rollouts, so value must be 'leaf_mean'"
        if self.scale == "std" and (at_nodes or self.baseline == "none" or "ancestors" in self.baseline):
            fix = "standardise the leaves with leaf='zscore'"
            return f"scale='std' at level={self.level!r} does not go with baseline={self.baseline!r}; {fix}"
        if self.root == "zero" and (self.baseline != "parent" or self.own == "excluded"):
            return "root='zero' goes with baseline='parent' and own='included'"
        return ""
