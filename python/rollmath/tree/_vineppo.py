"""VinePPO: each step against the values of the states before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath.ops import discounted_sum
from rollmath.ops._cut_rows import CutRows
from rollmath.ops._scan import rewards_of
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vineppo(
    values: ArrayLike | Ragged,
    rewards: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    lengths: ArrayLike | None = None,
) -> Array | Ragged:
    """Advantages of steps from sampled values: ``A_i = r_i + gamma V_{i+1} - V_i``.

    ``V_i`` is the value of the state in which step ``i`` begins, the mean reward of rollouts sampled from there
    (:func:`probe_values`); after the last step it is 0. Values may be missing at the end of a trajectory, where nobody
    has sampled; backwards, ``V_i = r_i + gamma V_{i+1}`` takes their place.

    Args:
        values: ``V_i``, one number a step, a :class:`~rollmath.Ragged` over trajectories or padded ``[B, K]``; NaN
            where it is missing.
        rewards: one number a step, like ``values``; or one a trajectory, ``[B]``, given at its last step.
        gamma: discount from step to step, in [0, 1].
        lengths: steps of each trajectory, ints ``[B]``, where the arrays are padded.

    Returns:
        One number a step, in the form and kind of ``values``: float64 if values or rewards of steps are float64, else
        float32. Steps without a value get exactly 0, and so does padding. With ``gamma=1`` the advantages of a
        trajectory sum to its rewards minus its first value.

    From steps to tokens: steps that end with a delimiter are the segments of
    ``cuts = ops.cut_by_delimiter(tokens, newline)``, and ``ops.expand_segments(advantages, cuts, lengths=...)`` gives
    each token the number of its step; the states to sample from are those cuts with ``include_prompt=True``. Where
    turns are numbered, :func:`rollmath.temporal.expand_turns` does it.

    Raises:
        ValueError: a value that is missing before one that is not; infinite values; rewards that are not finite;
            ``gamma`` outside [0, 1]; wrong shapes.
        TypeError: wrong dtype, rank or form.

    Source: VinePPO, arXiv 2410.01679. The official code (``_compute_step_advantages``; gamma 1, 9 rollouts a state) was
    executed on random trajectories and agrees. There a token belongs to the step of its first character, and the
    end-of-sequence token to the last step.

    >>> vineppo([[0.4, 0.6, float("nan")]], [1.0]).round(9).tolist()
    [[0.2, 0.4, 0.0]]
    """
    who = "vineppo"
    given = CutRows.of(who, "values", values, lengths=lengths)
    per_row, (r, v) = rewards_of(given.rows, rewards, values=values)
    offsets = given.first
    value = v[given.at].astype(np.float64)
    reward = np.zeros(len(value))
    if per_row:
        _check_rewards(given, r)
        has = np.diff(offsets) > 0
        reward[offsets[1:][has] - 1] = r[has]
    else:
        reward[:] = r[given.at]
    missing = np.isnan(value)
    _check_values(given, value, missing)

    filled = discounted_sum(Ragged(reward, offsets), decay=gamma, name="rewards", who=who).values
    value = np.where(missing, filled, value)
    after = np.append(value[1:], 0.0)
    after[offsets[1:][np.diff(offsets) > 0] - 1] = 0.0
    advantage = np.where(missing, 0.0, reward + gamma * after - value)
    arrays, (flat,) = given.rows.outputs(None, v.dtype, 1, {})
    flat.fill(0)
    flat[given.at] = advantage
    return given.rows.wrap(arrays[0])


def _check_rewards(given: CutRows, r: NDArray[np.float64]) -> None:
    """Raises where a reward of a trajectory is not finite, or has no step to go to."""
    steps = np.diff(given.first)
    if (bad := ~np.isfinite(r) | ((steps == 0) & (r != 0))).any():
        i = int(bad.argmax())
        must = "finite" if not np.isfinite(r[i]) else "0 where there are no steps"
        msg = f"vineppo(): 'rewards' must be {must}, got {r[i]} at row {i}"
        raise ValueError(msg)


def _check_values(given: CutRows, value: NDArray[np.float64], missing: NDArray[np.bool_]) -> None:
    """Raises where a value is infinite, or missing before one that is not."""
    if (bad := np.isinf(value)).any():
        i = int(bad.argmax())
        what = f"got {value[i]} at {given.place(int(given.at[i]))}"
        msg = f"vineppo(): 'values' must be finite, or NaN where they are missing, {what}"
        raise ValueError(msg)
    begins = np.zeros(len(value) + 1, bool)
    begins[given.first] = True
    if (bad := missing[:-1] & ~missing[1:] & ~begins[1:-1]).any():
        where = given.place(int(given.at[int(bad.argmax())]))
        msg = f"vineppo(): 'values' may be missing at the end of a row only, got NaN at {where}, and a value after it"
        raise ValueError(msg)
