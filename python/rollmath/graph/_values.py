"""What methods that value states return."""

from __future__ import annotations

from typing import NamedTuple

from rollmath._arrays import Array


class StepValues(NamedTuple):
    """The value of the state of each row, and of the state that the row leads to, ``[n_rows]`` each."""

    values: Array
    next_values: Array
