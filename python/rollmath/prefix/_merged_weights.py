"""The weights of packed tokens in a loss: sums over the rollouts that share them, by the sign of the advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rollmath.loss._places import Piece
from rollmath.loss._values import Values, take
from rollmath.ops import leaf_to_node_weights
from rollmath.prefix._batch import PrefixBatch
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Part(NamedTuple):
    """Some targets, and one entry for each of them: the weights of A > 0, of -A > 0, and without A."""

    targets: slice | NDArray[np.int64]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    total: NDArray[np.float64] | None


@dataclass(frozen=True)
class Merged:
    """One entry a target: the three weights; and whether some rollout trains it, None for all."""

    live: NDArray[np.bool_] | None
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    total: NDArray[np.float64] | None

    def piece(self, start: int, stop: int) -> Part:
        """The targets that some rollout trains of a range."""
        at: slice | NDArray[np.int64] = slice(start, stop)
        if self.live is not None and not self.live[start:stop].all():
            at = start + np.flatnonzero(self.live[start:stop])
        return Part(at, self.positive[at], self.negative[at], None if self.total is None else self.total[at])


def indices(targets: slice | NDArray[np.int64]) -> NDArray[np.int64]:
    """The same as an array."""
    return np.arange(targets.start, targets.stop) if isinstance(targets, slice) else targets


def merged_weights(
    who: str, batch: PrefixBatch, rows: Rows, weights: NDArray[np.float64], advantages: Values, *, total: bool
) -> Merged:
    """``sum a_l max(A_l, 0)``, ``sum a_l max(-A_l, 0)`` and, if asked for, ``sum a_l``; ``weights`` are one a row.

    Raises:
        ValueError: rows that train a token that nothing predicts, advantages that are not finite.
    """
    without_gaps = bool((rows.trained == rows.lengths).all())
    # A pass over the nodes is cheaper than one over all copies, but for a small part of a large forest.
    if advantages.level in {"rollout", "row"} and without_gaps and batch.forest.n_nodes <= int(rows.offsets[-1]):
        made = _by_node(batch, rows, weights, advantages, total=total)
    else:
        made = _by_copy(batch, rows, weights, advantages, total=total)
    if made is None:
        msg = (
            f"{who}(): 'rows' must not train the first token of a rollout, which nothing predicts; mask it, or build "
            "the forest with prompt_lengths="
        )
        raise ValueError(msg)
    return made


def _by_node(
    batch: PrefixBatch, rows: Rows, weights: NDArray[np.float64], advantages: Values, *, total: bool
) -> Merged | None:
    if batch._unpredicted:
        return None
    a = np.where(rows.trained > 0, advantages.per_row(torch.empty(0, dtype=torch.float64)).numpy(), 0.0)
    advantages.finite_or_raise(torch.from_numpy(a), torch.from_numpy(a))
    leaves = np.zeros((2, batch.forest.n_leaves))
    leaves[:, batch.rollouts] = weights, a
    sums = leaf_to_node_weights(batch.forest, *leaves)
    # With nothing unpredicted, all tokens of all nodes but roots are targets.
    _, _, _, _, nodes, starts = batch._packed
    answers = batch.forest.parents[nodes] >= 0
    nodes, counts = nodes[answers], np.diff(starts)[answers]

    def spread(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.repeat(x[nodes], counts)

    return Merged(None, spread(sums.positive), spread(-sums.negative), spread(sums.total) if total else None)


def _by_copy(
    batch: PrefixBatch, rows: Rows, weights: NDArray[np.float64], advantages: Values, *, total: bool
) -> Merged | None:
    piece, n = Piece(rows, range(rows.n_rows)), batch.n_targets
    of = take(batch._tensor("_target_rows", "cpu"), piece.at((int(rows.offsets[-1]),)))
    if len(of) and int(of.max()) == n:
        return None
    weight = torch.from_numpy(np.repeat(weights, rows.trained))
    scaled = weight * advantages.at(piece, weight)

    def summed(x: torch.Tensor) -> NDArray[np.float64]:
        added: NDArray[np.float64] = torch.zeros(n, dtype=torch.float64).index_add_(0, of, x).numpy()
        return added

    live = torch.zeros(n, dtype=torch.bool).index_fill_(0, of, value=True).numpy()
    positive, negative = summed(scaled.clamp(min=0)), summed((-scaled).clamp(min=0))
    return Merged(live, positive, negative, summed(weight) if total else None)
