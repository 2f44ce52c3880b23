"""The task of `rollmath demo`, with its smaller model: sums of three or four numbers, for the quick comparison."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bench.training.tasks.sums import Sums
from rollmath.demo.model import CHECKPOINT


class ShortSums(Sums):
    """As :class:`Sums`, from the checkpoint that ships with the demo."""

    name = "short_sums"
    prompt_width = 12
    max_response = 40
    usual_response = 24
    options: ClassVar[dict[str, int]] = {"min_terms": 3, "max_terms": 4, "min_digits": 2, "max_digits": 2}

    @property
    def checkpoint(self) -> Path:
        return CHECKPOINT


TASK = ShortSums()
