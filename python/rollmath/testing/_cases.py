"""The small batches that checks use, and how their numbers are printed and compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Four groups of four different rewards, one after another.
EVEN = np.array([0.25, 1.0, 0.5, 0.125, 1.5, 0.375, 0.875, 0.5, 0.0625, 0.75, 0.125, 1.25, 2.0, 1.125, 0.625, 1.75])
EVEN_IDS = np.repeat(np.arange(4), 4)
#: Groups of 3, 2, 4 and 2.
UNEVEN = np.array([1.0, 2.0, 4.0, 0.5, 1.5, 3.0, 1.0, 2.0, 2.5, 0.25, 1.0])
UNEVEN_IDS = np.repeat(np.arange(4), [3, 2, 4, 2])


@dataclass(frozen=True)
class TokenRows:
    """Padded rows: rewards, mask, values ``[B, T]``, and the group of each row."""

    rewards: NDArray[Any]
    mask: NDArray[np.bool_]
    ids: Any
    values: NDArray[Any]

    def padded(self, more: int) -> TokenRows:
        """With more padding on the right."""
        wide = {name: np.pad(getattr(self, name), ((0, 0), (0, more))) for name in ("rewards", "mask", "values")}
        return replace(self, **wide)

    def first(self, width: int) -> TokenRows:
        """The first columns alone."""
        return replace(self, **{name: getattr(self, name)[:, :width] for name in ("rewards", "mask", "values")})

    def with_gap(self, at: int, width: int, value: float) -> TokenRows:
        """With ``width`` masked columns before column ``at``; the critic says ``value`` there."""

        def insert(x: NDArray[Any], what: Any) -> NDArray[Any]:
            return np.insert(x, [at] * width, what, axis=1)

        return replace(
            self, rewards=insert(self.rewards, 0.0), mask=insert(self.mask, False), values=insert(self.values, value)
        )

    def behind(self, name: str, value: float) -> TokenRows:
        """With ``value`` in the padding of a column."""
        filled = np.where(self.mask, getattr(self, name), value)
        return replace(self, **{name: filled})


def _rows() -> TokenRows:
    """Four rows of two groups, the reward on the last token; the padding has what a model may say there."""
    lengths = np.array([4, 2, 3, 4])
    mask = np.arange(5) < lengths[:, None]
    rewards = np.zeros(mask.shape)
    rewards[np.arange(4), lengths - 1] = [1.0, 0.25, 0.5, 2.0]
    values = np.array([[0.5, 0.25, 0.75, 0.5, 2.0]] * 4) + np.array([[0.0], [0.125], [0.25], [-0.25]])
    return TokenRows(rewards, mask, np.array([0, 0, 1, 1]), values)


ROWS = _rows()


def show(x: Iterable[float] | float) -> str:
    """Numbers with four digits."""
    if isinstance(x, float | int | np.floating):
        return f"{float(x):.4g}"
    values = list(x)
    listed = ", ".join(f"{float(v):.4g}" for v in values[:8])
    return f"[{listed}{', ...' if len(values) > 8 else ''}]"


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest difference, relative to max(1, abs(b)); NaN equals NaN, and is infinitely far from a number."""
    with np.errstate(all="ignore"):
        gap = np.abs(a - b) / np.where(np.isfinite(b), np.maximum(np.abs(b), 1.0), 1.0)
    gap[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    gap[np.isnan(gap)] = np.inf
    return float(gap.max(initial=0.0))
