"""Turns as actions: advantages over turns, and from turns to tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._token_rows import TokenRows
from rollmath.ops._device_rows import rows_of
from rollmath.ops._scan import Rule, scan_values
from rollmath.ragged import Ragged
from rollmath.temporal._turn_rows import TurnGAE, TurnTokens, place, starts


def turn_gae(
    rewards: ArrayLike | Ragged,
    values: ArrayLike | Ragged,
    *,
    gamma: float = 0.99,
    lam: ArrayLike = 0.9,
    lengths: ArrayLike | None = None,
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    out: Any = None,
) -> TurnGAE:
    """GAE over turns: ``A_k = delta_k + gamma lam A_{k+1}``, ``delta_k = r_k + gamma V_{k+1} - V_k``.

    The action is a whole turn, the state all that came before it; :func:`expand_turns` gives each token the advantage
    of its turn, and :func:`rollmath.temporal.whiten` whitens before or after that.

    Args:
        rewards: one number a turn, a :class:`~rollmath.Ragged` over trajectories or padded ``[B, K]`` like ``values``;
            or one a trajectory, ``[B]``, given at its last turn.
        values: ``V_k``, the value of the state in which turn ``k`` begins; a Ragged or padded ``[B, K]``.
        gamma: discount from turn to turn, in [0, 1].
        lam: decay from turn to turn, in [0, 1]; one number or one a trajectory.
        lengths: turns of each trajectory, ints ``[B]``, where the arrays are padded.
        bootstrap: value after the last turn: ``"zero"``, ``"last"`` that of the last turn, or one a trajectory.
        truncated: trajectories to which ``bootstrap`` applies; the others end with 0. Default: all.
        out: two arrays of the form and float type of the result, to write into.

    Returns:
        Advantages and returns ``A_k + V_k``, one a turn; 0 in padding. On a GPU as :func:`rollmath.temporal.gae`.

    Raises:
        ValueError: as :func:`rollmath.temporal.gae`.
        TypeError: likewise.

    Source: Turn-PPO, Li et al. 2025, arXiv 2512.17008, with its defaults; secondary description, unverified. The paper
    also takes the ratio and its clip over turns, which is a matter of the loss.

    >>> turn_gae([[0.0, 1.0]], [[0.5, 0.5]], gamma=1.0, lam=0.5).advantages.tolist()
    [[0.25, 0.5]]
    """
    rows = rows_of("turn_gae", "values", values, lengths=lengths)
    rule = Rule(bootstrap=bootstrap, truncated=truncated)
    return TurnGAE(*scan_values(rows, rewards, values, gamma=gamma, lam=lam, rule=rule, out=out))


def expand_turns(
    x: ArrayLike | Ragged,
    turns: ArrayLike | Ragged,
    *,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """The number of its turn for each token: ``y_t = x[turn_t]``, 0 at gaps.

    Args:
        x: one number a turn, a :class:`~rollmath.Ragged` over trajectories or padded ``[B, K]``.
        turns: number of each token's turn in its trajectory, from 0, ints; -1 at gaps. A Ragged or padded ``[B, T]``.
        mask: trained tokens (bool or int, nonzero = True), like ``turns``.
        lengths: used columns where ``turns`` is padded, ints ``[B]``.
        out: array of the form of ``turns`` and the float type of the result, to write into.

    Returns:
        In the form of ``turns``, the kind and float type of ``x``.

    Raises:
        ValueError: wrong shapes; a turn that ``x`` does not have; -1 where the mask is not 0.
        TypeError: wrong dtype, rank or form.

    >>> expand_turns([[0.5, -1.0]], [[0, 0, -1, 1]]).tolist()
    [[0.5, 0.5, 0.0, -1.0]]
    """
    who = "expand_turns"
    source = TokenRows.of(who, "x", x)
    (numbers,) = source.read(x=x)
    rows = TokenRows.of(who, "turns", turns, mask=mask, lengths=lengths)
    if rows.rows != source.rows:
        msg = f"{who}(): 'turns' must have {source.rows} rows (= those of x), got {rows.rows}"
        raise ValueError(msg)
    tokens = TurnTokens.of(rows, turns, lengths)
    first = starts(source)
    row = np.repeat(np.arange(rows.rows), np.diff(tokens.offsets))
    beyond = np.flatnonzero(tokens.turn >= np.diff(first)[row])
    if len(beyond):
        i = beyond[0]
        what = f"is {tokens.turn[i]} at {place(rows, tokens.at[i])}, but 'x' has {np.diff(first)[row[i]]} turns there"
        msg = f"{who}(): 'turns' {what}"
        raise ValueError(msg)
    rows = replace(rows, kind=source.kind)
    arrays, (flat,) = rows.outputs(out, numbers.dtype, 1, {"x": numbers, "mask": rows.mask})
    flat.fill(0)
    flat[tokens.at] = numbers[first[row] + tokens.turn]
    return rows.wrap(arrays[0])
