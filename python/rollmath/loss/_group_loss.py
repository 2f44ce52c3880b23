"""What losses over the scores of a group's responses return, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, is_tensor
from rollmath._checks import Back, column, finite, mask, real, required_mask, rows
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_count, segment_max, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GroupLoss(NamedTuple):
    """A loss ``F = (1 / divisor) sum_g F_g`` of the scores ``s_i`` of responses, with its derivative.

    The scores are numbers: they come from a pass without grad, or from ``.detach()``. In the pass with grad, the
    trainer backpropagates ``(coefficient * s).sum()`` over any part of the responses, and adds up: the gradient is that
    of F. So the responses of a group need not share a micro-batch, though F couples them. The derivative is the one at
    the scores that were given, so these must be of the weights that the step starts from.

    The divisor is the number of groups that count (each loss says which, and which counts responses instead), or
    ``divisor=``. With ``divisor=`` a batch may be given in parts that keep groups whole: the coefficients have the same
    bits, and the losses of the parts add up to F.

    Attributes:
        loss: F, 0-d, in the kind and float type of the scores.
        coefficient: ``dF / ds_i``, ``[n]``; 0 for rows that are not valid.
        per_group: ``F_g``, ``[n_groups]``, in the order of ``groups.ids`` and not divided; 0 for a group without loss.

    >>> import torch
    >>> from rollmath.loss import real
    >>> theta = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    >>> x = torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    >>> model = lambda rows: x[rows] @ theta  # scores of some responses
    >>> with torch.no_grad():
    ...     out = real(model([0, 1, 2, 3]), [1, 1, 0, 0], ["p"] * 4)
    >>> for part in ([2, 0], [1, 3]):  # two micro-batches, which split the group
    ...     (out.coefficient[part] * model(part)).sum().backward()
    >>> s, tau = model([0, 1, 2, 3]), 0.5
    >>> loss = (1 + (-s[:2] / tau).exp().sum()).log() + (1 + (s[2:] / tau).exp().sum()).log()
    >>> torch.allclose(theta.grad, torch.autograd.grad(loss, theta)[0])
    True
    """

    loss: Array
    coefficient: Array
    per_group: Array


@dataclass(frozen=True)
class Scores:
    """The scores of a call, checked: ``x`` in float64, 0 where a row is not ``seen``."""

    who: str
    x: NDArray[np.float64]
    groups: Groups
    seen: NDArray[np.bool_]
    back: Back
    groups_name: str = "groups"

    @cached_property
    def n(self) -> NDArray[np.int64]:
        """Valid rows of each group."""
        return self.count(self.seen)

    def column(self, name: str, x: ArrayLike, must: str = "finite") -> NDArray[np.float64]:
        """Another number a row, checked where rows are valid."""
        return column(self.who, name, x, self.seen, must=must, why=f"len({self.groups_name})")[0]

    def column_or_group(self, name: str, x: ArrayLike) -> tuple[NDArray[np.float64], bool]:
        """A number a row, given so or one a group; True if it is one a group (the same, if all groups have one row)."""
        values, _ = rows(self.who, name, x)
        by_group = len(values) == self.groups.n_groups
        if not by_group and len(values) != len(self.groups):
            msg = (
                f"{self.who}(): {name!r} must have length {len(self.groups)} (= len(groups)) or "
                f"{self.groups.n_groups} (= n_groups), got {len(values)}"
            )
            raise ValueError(msg)
        if by_group:
            values = values[self.groups.index]
        finite(self.who, name, values, self.seen)
        return np.where(self.seen, values, 0.0), by_group

    def labels(self, name: str, x: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Valid rows whose label is True, and those whose label is False."""
        label = required_mask(self.who, name, x, len(self.groups), f"len({self.groups_name})")
        return self.seen & label, self.seen & ~label

    def count(self, member: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many rows of each group are in ``member``."""
        return segment_count(self.groups, valid=member)

    def sums(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over each group; ``x`` is 0 where rows are not valid."""
        return np.asarray(segment_sum(x, self.groups))

    def share(self, counted: int, divisor: float | None) -> float:
        """What the sum of the losses is divided by: ``counted``, unless the caller says otherwise."""
        return float(max(counted, 1)) if divisor is None else real(self.who, "divisor", divisor, above=0.0)

    def result(self, per_group: NDArray[np.float64], slope: NDArray[np.float64], by: float) -> GroupLoss:
        """The losses of the groups and their derivatives, with the former's sum and the latter divided."""
        # Sorted, so that the order of the groups changes no bit.
        total = np.asarray(np.sort(per_group).sum() / by)
        return GroupLoss(self.narrow(total), self.narrow(slope / by), self.narrow(per_group))

    def narrow(self, x: NDArray[np.float64]) -> Array:
        """Back to the kind and float type of the scores, a 0-d array as a number.

        Raises:
            ValueError: it does not fit.
        """
        with np.errstate(over="ignore"):
            y = x.astype(self.back.dtype)
        if not np.isfinite(y).all():
            msg = (
                f"{self.who}(): the loss and its derivatives must fit {y.dtype}, got {abs(x).max():g}; scale the inputs"
            )
            raise ValueError(msg)
        return self.back(x)[()]


def refuse_grad(who: str, name: str, x: ArrayLike) -> None:
    """Raises for a tensor that requires grad, and says where the gradient is."""
    if is_tensor(x) and x.requires_grad:
        msg = f"{who}(): {name!r} requires grad, but the gradient is in 'coefficient' of the result; call .detach()"
        raise ValueError(msg)


def read(
    who: str,
    scores: ArrayLike,
    groups: Groups | ArrayLike,
    valid: ArrayLike | None,
    *,
    name: str = "scores",
    groups_name: str = "groups",
) -> Scores:
    """Scores, groups and mask of a call."""
    refuse_grad(who, name, scores)
    made = as_groups(who, groups, name=groups_name)
    why = f"len({groups_name})"
    seen = mask(who, "valid", valid, len(made), why)
    x, back = column(who, name, scores, seen, why=why)
    return Scores(who, x, made, seen, back, groups_name)


def log_sum_exp(
    z: NDArray[np.float64], groups: Groups, member: NDArray[np.bool_], *, anchor: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``log sum_i exp(z_i)`` over the members of each group, and its derivative, one a row; nothing overflows.

    ``anchor`` adds one more member to each group, of value 0. A group without any has -inf.
    """
    top = np.asarray(segment_max(z, groups, valid=member))
    top = np.where(np.isnan(top), 0.0 if anchor else -np.inf, top)
    if anchor:
        top = np.maximum(top, 0.0)
    share = np.exp(np.where(member, z, -np.inf) - np.where(np.isneginf(top), 0.0, top)[groups.index])
    rest = np.asarray(segment_sum(share, groups))
    if anchor:
        value = top + np.log1p(rest + np.expm1(-top))
        return value, share / (rest + np.exp(-top))[groups.index]
    some = np.where(rest > 0, rest, 1.0)
    return top + np.log(some), share / some[groups.index]
