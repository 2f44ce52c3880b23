"""TRLBatch: what an advantage function of one's own sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rollmath.groups import Groups
from rollmath.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TRLBatch:
    """One generation batch of TRL, gathered over all ranks: the same on each of them, rank after rank.

    An advantage function takes it and returns one number a rollout, ``[N]``, or one a position of the completions: a
    :class:`~rollmath.Ragged` with the offsets of :attr:`rows`, packed, or padded ``[N, T]``.

    Attributes:
        rewards: the weighted sum of the reward functions as TRL makes it, float32 ``[N]``; NaN where all of them
            returned None. (In RLOOTrainer: clipped and with its KL penalty, if the configuration says so.)
        reward_table: one column a reward function, float32 ``[N, K]``; NaN where it returned None.
        reward_names: the names of the K reward functions.
        reward_weights: ``reward_weights`` of the configuration, float32 ``[K]``.
        groups: :class:`~rollmath.Groups` over the rollouts: TRL's positions, or the column ``group_by``.
        rows: :class:`~rollmath.Rows`, one a rollout, with the token ids of the completions and a mask that is 0 at tool
            output, in completions that TRL masks because they are truncated, and in rollouts that a filter dropped.
        valid: which rollouts have a reward and were not dropped, bool ``[N]``; pass it on as ``valid=``.
        columns: the columns of the dataset, or extra fields of ``rollout_func``, that ``columns=`` named.
        num_generations: completions per prompt.
        training: False in an evaluation.
    """

    rewards: NDArray[np.float32]
    reward_table: NDArray[np.float32]
    reward_names: tuple[str, ...]
    reward_weights: NDArray[np.float32]
    groups: Groups
    rows: Rows
    valid: NDArray[np.bool_]
    columns: Mapping[str, Sequence[Any]]
    num_generations: int
    training: bool

    def column(self, name: str) -> Sequence[Any]:
        """One of :attr:`columns`.

        Raises:
            ValueError: it was not asked for.
        """
        if name not in self.columns:
            asked = ", ".join(repr(key) for key in self.columns) or "none"
            msg = f"TRLBatch.column(): 'name' must be one of columns= ({asked}), got {name!r}; add it to columns="
            raise ValueError(msg)
        return self.columns[name]

    def __repr__(self) -> str:
        return f"TRLBatch({len(self.rewards)} rollouts in {self.groups.n_groups} groups, {self.rows})"
