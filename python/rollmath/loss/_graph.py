"""The graph of a loss: what is done to tokens, operation by operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from rollmath.loss._spans import Level

#: What a value is one of: a token; a segment (row, rollout or turn); a call, known before the tokens are seen; or sums
#: over the tokens.
Per = Literal["token", "segment", "call", "sum"]


@dataclass(frozen=True)
class Node:
    """One operation, on nodes before it.

    Attributes:
        op: its name; ``"input"`` and ``"constant"`` have a ``value``: the name, and the number.
    """

    op: str
    args: tuple[int, ...]
    per: Per
    dtype: torch.dtype
    value: str | float | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """What :func:`core` does.

    Attributes:
        nodes: the operations, each after those that it reads.
        theta: the node of the derivative with respect to theta.
        entropy: the node of the derivative with respect to the entropy; None without a bonus.
        sums: the nodes of the named sums.
        level: the segments whose tokens are looked at together; None if every token is looked at alone.
    """

    nodes: tuple[Node, ...]
    theta: int
    entropy: int | None
    sums: tuple[tuple[str, int], ...]
    level: Level | None = None

    def same(self, other: Graph) -> bool:
        """Whether the other has the same nodes. ``==`` and hashes are of the object: every call asks for them."""
        return all(getattr(self, name) == getattr(other, name) for name in self.__dataclass_fields__)
