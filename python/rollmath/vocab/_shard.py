"""Logits whose vocabulary is spread over ranks: one all-gather of a few numbers a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from rollmath._arrays import describe
from rollmath.vocab._agree import agree, place

# The place of the largest logit travels as a float32.
_LARGEST = 1 << 24


@dataclass(frozen=True)
class VocabShard:
    r"""Which tokens the logits of this rank belong to: ``[first, first + V_local)`` of ``total``.

    ``row_stats`` and ``logprobs`` take it as ``shard=``. With ``z = logits / T``, a rank reduces its own columns to a
    few numbers a row: the largest ``z`` and, with ``d = (z - max) / log 2``, the sums of ``2^d``, ``2^d d``, ``4^d``
    and so on, and ``d`` of the label. One all-gather brings those of all ranks, ``[ranks, N, 10 + K]`` of float32
    (float64 for float64 logits; K tokens of ``ids``), and each rank merges them in the order of ranks. So every rank
    has the same bits. The logits stay where they are.

    **Gradients.** Backward sends nothing. Each rank computes the loss from the full statistics, all of them the same
    loss, and gets the gradient of it with respect to its own columns, as vocabulary-parallel cross-entropy of Megatron
    does. The gradients that flow into the statistics must therefore be the same on all ranks of ``group``: do not
    divide the loss by their number, do not add it up over them.

    **Collective.** All ranks of ``group`` call, with the same rows, labels, options and ``check``. On the CPU, and on a
    device with ``check=True``, which waits for it, one more small all-gather of 16 KiB a rank compares them before
    anything else is sent, and an error on one rank is an error on all of them. Otherwise nothing is compared: a rank
    that raises or has another number of rows leaves the others waiting until the timeout of the group, as with every
    collective. Under ``torch.compile`` the call is left to eager mode, and refused with ``fullgraph=True``.

    Args:
        group: the process group of the ranks that share a vocabulary; None is the default group, or one process where
            torch.distributed is not initialised.
        first: id of the token in column 0 of this rank, 0 or more.
        total: number of tokens of the whole vocabulary, at most 2^24. Columns of ids from ``total`` on are padding:
            they are not read, and their gradient is 0. From a ``first`` of ``total`` on, all columns are.

    Raises:
        TypeError: a ``group`` that is no process group; ``first`` or ``total`` that are no integers.
        ValueError: a ``group`` that this process is not in; ``first`` or ``total`` out of range.

    Source: Shoeybi et al., Megatron-LM, arXiv:1909.08053, section 3 (parallel cross-entropy); its gradient convention
    is that of the official code, read.

    >>> VocabShard(None, first=0, total=50257)
    VocabShard(group=None, first=0, total=50257)
    """

    group: Any
    first: int
    total: int

    def __post_init__(self) -> None:
        """Checks what one rank can see."""
        who = "VocabShard"
        _check_group(who, self.group)
        _check_integer(who, "first", self.first, 0, None)
        _check_integer(who, "total", self.total, 1, _LARGEST)

    @classmethod
    def even(cls, group: Any, total: int) -> VocabShard:
        """Equal blocks: rank ``r`` has the tokens from ``r b`` to ``(r + 1) b`` with ``b = ceil(total / ranks)``.

        What lies beyond ``total`` does not exist: the last block with tokens may be shorter, and ranks after it have
        none. These are the blocks of ``torch.chunk`` and of DTensor's ``Shard``. Raises as :class:`VocabShard` does.

        >>> VocabShard.even(None, 10)
        VocabShard(group=None, first=0, total=10)
        """
        _check_group("VocabShard.even", group)
        _check_integer("VocabShard.even", "total", total, 1, _LARGEST)
        ranks, rank = place(group)
        return cls(group, min(-(-total // ranks) * rank, total), total)

    @classmethod
    def of(cls, logits: torch.Tensor) -> VocabShard | None:
        """That of a DTensor whose last dimension is sharded; None where no dimension of its mesh shards it.

        Raises:
            TypeError: no DTensor.
            ValueError: placements that ``row_stats`` does not take.
        """
        from rollmath.vocab._dtensor import is_dtensor, vocabulary  # noqa: PLC0415 (it imports this file)

        if not is_dtensor(logits):
            fix = "; of plain tensors say VocabShard(group, first, total)"
            msg = f"VocabShard.of(): 'logits' must be a DTensor, got {describe(logits)}{fix}"
            raise TypeError(msg)
        return vocabulary("VocabShard.of", logits)

    def check(self, columns: int) -> None:
        """Raises on every rank unless the ranks have each token once; a collective of 16 KiB a rank.

        Args:
            columns: ``V_local``, the last size of the logits of this rank.

        Raises:
            TypeError: ``columns`` that is no integer.
            ValueError: tokens that several ranks have, or none; another ``total`` on another rank.

        >>> VocabShard(None, 0, 10).check(10)
        """
        who = "VocabShard.check"

        def make() -> dict[str, str]:
            _check_integer(who, "columns", columns, 0, None)
            return self.span(columns)

        check_spans(who, agree(who, make, self.group, ["span"]))

    def local(self, columns: int) -> int:
        """How many of the columns of this rank are tokens; what follows them is padding."""
        return max(min(columns, self.total - self.first), 0)

    def span(self, columns: int) -> dict[str, str]:
        """What ranks tell each other about their tokens."""
        return {"'total'": repr(self.total), "span": f"{self.first} {self.first + self.local(columns)}"}


def check_spans(who: str, found: Sequence[Mapping[str, str]]) -> None:
    """Raises unless the spans of all ranks are the whole vocabulary, each token once."""
    spans = sorted((*map(int, part["span"].split()), rank) for rank, part in enumerate(found))
    total, done, before = int(found[0]["'total'"]), 0, -1
    wrong = None
    for start, stop, rank in spans:
        if start >= stop or wrong is not None:
            continue
        if start < done:
            wrong = f"{_tokens(start, min(stop, done))} on ranks {before} and {rank}"
        elif start > done:
            wrong = f"{_tokens(done, start)} on none"
        done, before = stop, rank
    if wrong is None and done < total:
        wrong = f"{_tokens(done, total)} on none"
    if wrong is not None:
        msg = f"{who}(): each of the {total} tokens must be on one rank, but {wrong}; check 'first' and 'total'"
        raise ValueError(msg)


def _tokens(start: int, stop: int) -> str:
    return f"token {start} is" if stop == start + 1 else f"tokens {start} to {stop - 1} are"


def _check_group(who: str, group: Any) -> None:
    if group is None:
        return
    if not distributed.is_available() or not distributed.is_initialized():
        msg = f"{who}(): 'group' must be None while torch.distributed is not initialised, got {describe(group)}"
        raise ValueError(msg)
    if group is distributed.GroupMember.NON_GROUP_MEMBER:
        msg = f"{who}(): 'group' must be a process group of this process, but it is not a member; do not call there"
        raise ValueError(msg)
    if not isinstance(group, distributed.ProcessGroup):
        fix = "; of a DeviceMesh take .get_group()" if hasattr(group, "get_group") else ""
        msg = f"{who}(): 'group' must be a process group of torch.distributed or None, got {describe(group)}{fix}"
        raise TypeError(msg)


def _check_integer(who: str, name: str, x: Any, low: int, high: int | None) -> None:
    if isinstance(x, bool) or not isinstance(x, int):
        msg = f"{who}(): {name!r} must be an integer, got {describe(x)}"
        raise TypeError(msg)
    if x < low or (high is not None and x > high):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        msg = f"{who}(): {name!r} must be {wanted}, got {x}"
        raise ValueError(msg)
