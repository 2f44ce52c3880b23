"""Values of prefixes by sampling from them, which SPO-chain and VinePPO take differences of."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike, number, to_bytes
from rollmath._checks import real
from rollmath.groups import Groups
from rollmath.ops import segment_mean
from rollmath.ops._cut_rows import CutRows
from rollmath.ragged import Ragged


def probe_values(
    rewards: ArrayLike | Ragged,
    *,
    truncated: ArrayLike | Ragged | None = None,
    penalty: float = 0.0,
    empty: float = 0.0,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
) -> Array:
    """Values of prefixes from the probes sampled there: ``V(c) = sum_k R_k / K``, the mean of their rewards.

    Args:
        rewards: a row a prefix: padded ``[n_cuts, K]``, or a :class:`~rollmath.Ragged` where not all have as many
            probes. The order is that of ``cuts.values``.
        truncated: probes that did not finish (bool or int, nonzero = True), like ``rewards``. Their reward is
            ``penalty``, and what ``rewards`` has there is not looked at.
        penalty: that reward.
        empty: the value of a prefix without probes; the official code has 0. NaN is allowed, and refused later.
        mask: which probes there are, like ``rewards``.
        lengths: number of probes of each prefix where ``rewards`` is padded.

    Returns:
        ``[n_cuts]``, in the kind and float type of ``rewards``; accumulated in float64, in sorted order.

    The same numbers come from a forest: a spine of prefixes, each with its probes and the next prefix as children, and
    ``ops.up(forest, rewards, how="mean_of_children", weights=..., empty=0.0)`` with weight 1 for probes and 0 for the
    spine, since the rollout itself is no fresh sample from its own prefixes.

    Raises:
        ValueError: a reward that is not finite; wrong shapes.
        TypeError: wrong dtype, rank or form.

    Source: SPO-chain and VinePPO, arXiv 2505.23564 and 2410.01679, official code read (9 probes a prefix; 4 for long
    chains of thought).

    >>> probe_values(Ragged.from_lists([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0], []])).tolist()
    [0.25, 1.0, 0.0]
    >>> import rollmath as rm  # a forest: 0 and 3 are prefixes with two probes each, 6 is the rollout itself
    >>> forest, reward = rm.Forest.from_parents([-1, 0, 0, 0, 3, 3, 3]), [1.0, 0.0, 1.0, 1.0, 0.0]
    >>> rm.ops.up(forest, reward, how="mean_of_children", weights=[1, 1, 1, 0, 1, 1, 0])[[0, 3]].tolist()
    [0.5, 1.0]
    >>> probe_values([[1.0, 0.0], [1.0, 1.0]]).tolist()
    [0.5, 1.0]
    """
    who = "probe_values"
    given = CutRows.of(who, "rewards", rewards, mask=mask, lengths=lengths)
    unfinished, none = real(who, "penalty", penalty), number(who, "empty", empty)
    if not np.isnan(none):
        none = real(who, "empty", empty)
    (flat,) = given.rows.read(rewards=rewards)
    reward = flat[given.at].astype(np.float64)
    if truncated is not None:
        cut = to_bytes(who, "truncated", given.rows._flat("truncated", truncated, packed_too=True))[given.at] != 0
        reward[cut] = unfinished
    if not (finite := np.isfinite(reward)).all():
        i = int(np.argmin(finite))
        msg = f"{who}(): 'rewards' must be finite, got {reward[i]} at {given.place(int(given.at[i]))}"
        raise ValueError(msg)
    counts = np.diff(given.first)
    value = np.full(len(counts), none)
    if len(reward):
        value[counts > 0] = segment_mean(reward, Groups.from_sizes(counts[counts > 0]))
    return given.rows.kind.wrap(value.astype(flat.dtype, copy=False))
