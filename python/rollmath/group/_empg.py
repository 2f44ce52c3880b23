"""EMPG: step advantages of agents, modulated by how certain the policy was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import Array, ArrayLike, integers
from rollmath._checks import finite, flag, mask, real, rows, tokens
from rollmath.groups import Groups, as_groups
from rollmath.ops import moments

if TYPE_CHECKING:
    from numpy.typing import NDArray


def empg(
    advantages: ArrayLike,
    entropies: ArrayLike,
    trajectory: Groups | ArrayLike,
    *,
    step: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    k: float = 1.0,
    k_future: float = 1.0,
    zeta: float = 0.05,
    center: bool = True,
    eps: float = 1e-8,
    valid: ArrayLike | None = None,
) -> Array:
    """Entropy-modulated advantages: ``A_t exp(-k h_t) / mean(exp(-k h)) + zeta exp(-k_future h_{t+1})``.

    One row a step; ``h = (H - min H) / (max H - min H + eps)`` over the batch. Certain steps count more, uncertain ones
    less, and a step that leads to a certain one gets a bonus; the last step of a trajectory gets none. The bonus is
    positive for failures too: the centring (subtract the batch's mean) is what makes it relative.

    Args:
        advantages: of each step, ``[N]``; for one a trajectory, pass ``ops.gather(a, trajectory)``.
        entropies: mean token entropy of each step, ``[N]``.
        trajectory: a :class:`~rollmath.Groups` or one trajectory id a step, ``[N]``.
        step: order of the steps in a trajectory (integers, gaps allowed), ``[N]``. Default: rows are in time order.
        weights: how often each step counts in the two means of the batch: its number of tokens, say. The paper's text
            that we have and the code we read count steps, which is the default.
        k: strength of the modulation.
        k_future: strength of the bonus's.
        zeta: weight of the bonus.
        center: subtract the mean over the batch.
        eps: guards the division of the entropies.
        valid: steps that take part (bool or int, nonzero = True); the others enter no statistic, are no next step, and
            get 0.

    Returns:
        ``[N]``, in the kind and float type of ``advantages``. If all entropies are equal, ``h`` is 0 everywhere: no
        modulation, and the full bonus.

    Raises:
        ValueError: wrong lengths, NaN or infinite numbers, two steps of a trajectory with one number, weights that are
            negative.
        TypeError: wrong dtype or rank.

    Source: Wang et al. 2025, arXiv 2509.09265; formulas and defaults from secondary descriptions and ARLArena's
    implementation (read and executed), the paper itself not read.

    >>> empg([1.0, 1.0, -1.0], [0.2, 0.8, 0.2], ["a", "a", "b"], center=False).round(4).tolist()
    [1.2854, 0.4661, -1.267]
    """
    who = "empg"
    now, later = real(who, "k", k, low=0.0), real(who, "k_future", k_future, low=0.0)
    bonus, guard = real(who, "zeta", zeta), real(who, "eps", eps, low=0.0)
    centred = flag(who, "center", center)
    made = as_groups(who, trajectory, name="trajectory")
    n, why = len(made), "len(trajectory)"
    a, back = rows(who, "advantages", advantages, n, why)
    h, _ = rows(who, "entropies", entropies, n, why)
    seen = mask(who, "valid", valid, n, why)
    finite(who, "advantages", a, seen)
    finite(who, "entropies", h, seen)
    given = tokens(who, "weights", weights, seen, why)
    w = seen.astype(np.float64) if given is None else given
    h = _unit(h, seen, guard)
    out = a * _relative(who, now, h, w, seen)
    following = _next(who, made, step, seen)
    out += np.where(following >= 0, bonus * np.exp(-later * h[following]), 0.0)
    if centred:
        out -= moments(out, weights=w).mean
    # An empty batch has NaN for a mean, and no row that shows it.
    return back(np.where(seen, out, 0.0))


def _relative(
    who: str, k: float, h: NDArray[np.float64], w: NDArray[np.float64], seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """``exp(-k h)`` over its mean. Both are taken against the smallest ``h`` in the mean, so that it cannot be 0."""
    least = h[w > 0].min() if (w > 0).any() else 0.0
    with np.errstate(over="ignore"):
        certain = np.where(seen, np.exp(-k * (h - least)), 0.0)
    if not np.isfinite(certain).all():
        msg = f"{who}(): 'k' takes a step without weight past float64, got {k}"
        raise ValueError(msg)
    share: NDArray[np.float64] = certain / moments(certain, weights=w).mean
    return share


def _unit(h: NDArray[np.float64], seen: NDArray[np.bool_], eps: float) -> NDArray[np.float64]:
    """Min-max normalised over the rows seen; 0 if all are equal, and in the others."""
    low, high = (h[seen].min(), h[seen].max()) if seen.any() else (0.0, 0.0)
    if low == high:
        return np.zeros_like(h)
    return np.where(seen, (h - low) / (high - low + eps), 0.0)


def _next(who: str, trajectory: Groups, step: ArrayLike | None, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row of the next step seen of the same trajectory, -1 for the last one."""
    n = len(trajectory)
    number = np.arange(n) if step is None else integers(who, "step", step, length=n, why="len(trajectory)")[0]
    order = np.lexsort((number, trajectory.index))
    order = order[seen[order]]
    same = trajectory.index[order[1:]] == trajectory.index[order[:-1]]
    if (twice := same & (number[order[1:]] == number[order[:-1]])).any():
        row = int(order[1:][twice][0])
        msg = f"{who}(): 'step' must differ within a trajectory, but {number[row]} at index {row} occurs twice"
        raise ValueError(msg)
    following = np.full(n, -1, dtype=np.int64)
    following[order[:-1][same]] = order[1:][same]
    return following
