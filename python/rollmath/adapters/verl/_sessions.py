"""Sessions of verl's v1 trainer: a rollout with several outputs comes as several rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sessions:
    """Rows of one session are one rollout.

    Attributes:
        index: the session of each row, int64 ``[B]``, numbered by first appearance; -1 for padding.
        final: the row of the last output of each session, int64 ``[S]``.
        output: the number of each row among the outputs of its session, int64 ``[B]``.
    """

    index: NDArray[np.int64]
    final: NDArray[np.int64]
    output: NDArray[np.int64]

    @classmethod
    def of(cls, who: str, keys: Sequence[str], *, padding: Sequence[bool] | None = None) -> Sessions:
        """From v1's keys, ``{uid}_{session}_{index}``; the largest index is the last output.

        Args:
            who: the caller, for messages.
            keys: one a row.
            padding: rows that the trainer put there to fill the batch, which are no rollouts.

        Raises:
            ValueError: a key that is not of this form.
        """
        numbers: dict[tuple[str, str], int] = {}
        index, numbered = np.empty(len(keys), np.int64), np.zeros(len(keys), np.int64)
        last: list[tuple[int, int]] = []
        for row, key in enumerate(keys):
            if padding is not None and padding[row]:
                index[row] = -1
                continue
            parts = str(key).rsplit("_", 2)
            if len(parts) != 3 or not parts[2].isdecimal():
                msg = f"{who}(): 'batch_keys' must be '{{uid}}_{{session}}_{{index}}', got {key!r} at row {row}"
                raise ValueError(msg)
            session = numbers.setdefault((parts[0], parts[1]), len(numbers))
            index[row] = session
            output = (int(parts[2]), row)
            numbered[row] = output[0]
            if session == len(last):
                last.append(output)
            elif last[session][0] < output[0]:
                last[session] = output
        return cls(index, np.array([row for _, row in last], np.int64), numbered)

    @property
    def needed(self) -> bool:
        """Whether rows and rollouts differ: a session of several rows, or padding."""
        return len(self.final) < len(self.index)
