"""The rewards, ids and columns of all ranks, on every rank."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rollmath._arrays import Array, ArrayLike, Kind, describe, floats, frozen, host, is_tensor
from rollmath.distributed._columns import Column, column, ids, merged, numbers
from rollmath.distributed._exchange import Found, by_rank, exchange, ranks
from rollmath.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Gathered:
    """One value a rollout from all ranks, in the order of ranks; the same on every rank.

    Attributes:
        rewards: ``[n, ...]``, NumPy or a tensor on the CPU, as they were on the ranks.
        groups: Groups over all rollouts; equal ids of different ranks are one group.
        columns: what else was gathered, by name; ids of any kind are a Groups.
        sizes: rollouts of each rank, int64 ``[ranks]``.
        rank: the number of this rank within its process group.
    """

    rewards: Array
    groups: Groups
    columns: Mapping[str, Any]
    sizes: NDArray[np.int64]
    rank: int
    _kind: Kind
    #: The float type of results on a rank that has no rows, but gave an array.
    _empty: Any = None

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        return f"Gathered({len(self)} rollouts in {self.groups.n_groups} groups, rank {self.rank} of {len(self.sizes)})"

    @property
    def rows(self) -> slice:
        """The rollouts of this rank among all."""
        start = int(self.sizes[: self.rank].sum())
        return slice(start, start + int(self.sizes[self.rank]))

    def local(self, x: ArrayLike) -> Array:
        """The part of this rank of what has one value a rollout of all ranks: advantages, a mask of a selection.

        Args:
            x: ``[n, ...]``, NumPy, a tensor or a list.

        Returns:
            A copy, ``[sizes[rank], ...]``, of the kind and on the device of the rewards that this rank gave, of the
            dtype of ``x`` (bfloat16 gives float32). A rank without rows gets floats of the type that its own empty
            input gives; if that was a list, of the type and kind of the others.

        Raises:
            ValueError: another length than that of all ranks together; a tensor that requires grad.
            TypeError: not numbers, or no axis.
        """
        who = "Gathered.local"
        array, _ = host(who, "x", x)
        if not array.ndim:
            msg = f"{who}(): 'x' must have one value a rollout, got {describe(x)}"
            raise TypeError(msg)
        if len(array) != len(self):
            msg = f"{who}(): 'x' must have length {len(self)} (= the rollouts of all ranks), got {len(array)}"
            raise ValueError(msg)
        return self.cut(array, self.rows)

    def cut(self, x: ArrayLike, part: slice) -> Array:
        """Some of an array of all ranks, as :meth:`local` gives it."""
        array = host("Gathered.cut", "x", x)[0][part].copy()
        if self._empty is not None and array.dtype.kind == "f":
            array = array.astype(self._empty)
        return self.as_given(array)

    def as_given(self, x: NDArray[Any]) -> Array:
        """NumPy of this rank as an array of the kind of its rewards."""
        return self._kind.wrap(x)

    def where(self, row: int) -> tuple[int, int]:
        """The rank of a rollout, and its number there."""
        ends = np.cumsum(self.sizes)
        rank = int(np.searchsorted(ends, row, side="right"))
        return rank, row - int(ends[rank] - self.sizes[rank])

    def placed(self, error: Exception) -> Exception:
        """The error of a computation over all ranks, which says on which rank the row is that it names."""
        if type(error) not in {TypeError, ValueError}:
            return error
        text = str(error)
        named = re.search(r"\b(index|row) (\d+)\b", text)
        if named and int(named[2]) < len(self):
            rank, row = self.where(int(named[2]))
            text += f" ({named[0]} of all ranks is {named[1]} {row} of {ranks([rank])})"
        return type(error)(text)


def gather(rewards: ArrayLike, groups: Groups | ArrayLike, *, group: Any = None, **columns: Any) -> Gathered:
    """What all ranks have of each rollout, in the order of ranks, on every rank.

    What any method makes of it is then the same on every rank, bit for bit, and the same as on one process that has the
    rollouts in that order; :meth:`Gathered.local` cuts out the part of this rank.

    One collective: each rank sends one buffer of bytes, in which each id appears once, by one ``all_gather`` of 32 KiB
    a rank. Whether that was all is in the first bytes of each; if the longest buffer is longer (some thousand
    rollouts), a second ``all_gather`` brings the rest. (``all_gather_object`` always makes two, for sizes and data.)
    What is wrong on one rank, wrong types and lengths too, travels in the buffer and is raised on all. A rank that
    never calls is found by the timeout of the process group alone (``init_process_group(timeout=...)``).

    Args:
        rewards: one number a rollout, ``[N]``, or several, ``[N, K]``; N may differ between ranks and be 0.
        groups: a :class:`~rollmath.Groups` or one id a rollout; integers are equal whatever holds them, ``1`` and
            ``"1"`` are different types, which is an error.
        group: the process group of the ranks that share the batch; None is the default group. Not initialised, there is
            one rank.
        **columns: what else has one value a rollout: numbers ``[N, ...]``, bools, ids; or None, on all ranks.

    Returns:
        The rollouts of all ranks. What is a tensor on the ranks is one, on the CPU: values on CUDA are copied to the
        host once.

    Raises:
        ValueError: wrong lengths; ranks with other columns, shapes or calls; this process is not in ``group``.
        TypeError: values or ids of types that are none, or that differ between ranks. A rank without rows agrees with
            all. Ints in lists agree with floats in lists.

    >>> both = gather([1.0, 0.0], ["a", "a"], strata=[0, 1])  # one process, so one rank
    >>> both
    Gathered(2 rollouts in 1 groups, rank 0 of 1)
    >>> both.rewards.tolist(), both.columns["strata"].tolist(), both.sizes.tolist()
    ([1.0, 0.0], [0, 1], [2])
    """
    who = "gather"
    return joined(who, exchange(who, lambda: sent(who, rewards, groups, columns), group), rewards)


def sent(who: str, rewards: Any, groups: Any, columns: Mapping[str, Any]) -> dict[str, Column]:
    """What a rank sends."""
    of_groups = ids(who, "groups", groups)
    found = {"rewards": numbers(who, "rewards", rewards, of_groups.n), "groups": of_groups}
    return found | {name: column(who, name, x, of_groups.n) for name, x in columns.items()}


def joined(who: str, found: Found[dict[str, Column]], rewards: Any) -> Gathered:
    """What all ranks sent."""
    names = [tuple(sorted(set(part) - {"rewards", "groups"})) for part in found.parts]
    if len(set(names)) > 1:
        seen = {number: ", ".join(map(repr, each)) or "none" for number, each in enumerate(names)}
        msg = f"{who}(): the columns must be the same on all ranks, got {by_rank(seen)}"
        raise ValueError(msg)
    whole = {name: merged(who, name, [part[name] for part in found.parts]) for name in found.parts[0]}
    own, table = found.parts[found.rank]["rewards"], whole["rewards"]
    kind, empty = Kind(rewards.device if is_tensor(rewards) else None), None
    if not own.n and own.soft and is_tensor(table):
        device = next(part["rewards"].device for part in found.parts if part["rewards"].n or not own.soft)
        kind = Kind(torch.device(device or "cpu"))
    elif not own.n and not own.soft:
        empty = floats(who, "rewards", rewards.reshape(-1))[0].dtype
    return Gathered(
        rewards=table,
        groups=whole["groups"],
        columns={name: x for name, x in whole.items() if name not in {"rewards", "groups"}},
        sizes=frozen(np.array([part["groups"].n for part in found.parts], np.int64)),
        rank=found.rank,
        _kind=kind,
        _empty=empty,
    )
