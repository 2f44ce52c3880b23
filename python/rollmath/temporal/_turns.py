"""Advantages over turns: a turn as one action, and two levels, tokens inside turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, integers, number
from rollmath._token_rows import TokenRows
from rollmath.ops._scan import RewardOnGap, Rule, rewards_of, scan_values
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TurnGAE(NamedTuple):
    """What :func:`turn_gae` and :func:`two_level_gae` return, in the form of the values."""

    advantages: Array | Ragged
    returns: Array | Ragged


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
        Advantages and returns ``A_k + V_k``, one a turn; 0 in padding.

    Raises:
        ValueError: as :func:`rollmath.temporal.gae`.
        TypeError: likewise.

    Source: Turn-PPO, Li et al. 2025, arXiv 2512.17008, with its defaults; secondary description, unverified. The paper
    also takes the ratio and its clip over turns, which is a matter of the loss.

    >>> turn_gae([[0.0, 1.0]], [[0.5, 0.5]], gamma=1.0, lam=0.5).advantages.tolist()
    [[0.25, 0.5]]
    """
    rows = TokenRows.of("turn_gae", "values", values, lengths=lengths)
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
    trained, turn, _ = _trained(rows, turns, lengths)
    row, has = trained.row_of(trained.at), np.diff(_starts(source))
    if (turn >= has[row]).any():
        i = int((turn >= has[row]).argmax())
        what = f"is {turn[i]} at {trained.place(trained.at[i])}, but 'x' has {has[row[i]]} turns there"
        msg = f"{who}(): 'turns' {what}"
        raise ValueError(msg)
    rows = replace(rows, kind=source.kind)
    arrays, (flat,) = rows.outputs(out, numbers.dtype, 1, [numbers, rows.mask])
    flat.fill(0)
    flat[trained.at] = numbers[_starts(source)[row] + turn]
    return rows.wrap(arrays[0])


def two_level_gae(
    rewards: ArrayLike | Ragged,
    values: ArrayLike | Ragged,
    turns: ArrayLike | Ragged,
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
    gamma_turn: float = 0.95,
    lam_turn: float | None = None,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    out: Any = None,
) -> TurnGAE:
    """Bi-level GAE: over turns first, then over the tokens of each turn, which is rewarded with its return.

    Turns, with reward ``r_k`` and value ``V_k`` at the last token of each: ``A_k = delta_k + gamma_turn lam_turn
    A_{k+1}``, ``delta_k = r_k + gamma_turn V_{k+1} - V_k``, ``G_k = A_k + V_k``. Then every turn is an episode of its
    own: ``a_t = delta_t + gamma lam a_{t+1}``, ``delta_t = r_t + gamma V_{t+1} - V_t``, in which ``G_k`` is the
    reward of the last token and nothing follows. That token gets ``a_t = A_k``.

    Args:
        rewards: a :class:`~rollmath.Ragged` or padded ``[B, T]`` like ``values``: the reward of a turn is that of its
            last trained token; rewards of its other tokens (a KL penalty, say) stay inside the turn. Or one number a
            row, ``[B]``, given at its last trained token.
        values: ``V_t`` of each token; a Ragged or padded ``[B, T]``.
        turns: number of each token's turn, ints like ``values``, never decreasing along a row; -1 at gaps. Numbers may
            be left out.
        gamma: discount from token to token of a turn, in [0, 1].
        lam: decay there, in [0, 1].
        gamma_turn: discount from turn to turn, in [0, 1].
        lam_turn: decay there, in [0, 1]; ``lam`` by default, as RAGEN has but one.
        mask: trained tokens (bool or int, nonzero = True), like ``values``. Gaps are passed over.
        lengths: used columns of padded rows, ints ``[B]``.
        reward_on_gap: a reward at a gap: ``"raise"``; ``"previous"`` adds it to that of the last trained token before
            it in the row, so to the turn that it answers; ``"drop"`` loses it.
        bootstrap: value after the last turn: ``"zero"``, ``"last"`` that of the last trained token, or one a row.
        truncated: rows to which ``bootstrap`` applies; the others end with 0. Default: all.
        out: two arrays of the form and float type of the result, to write into.

    Returns:
        Advantages and returns ``a_t + V_t`` as of :func:`rollmath.temporal.gae`; 0 at gaps and padding. RAGEN whitens
        the advantages: ``temporal.whiten(advantages, mask=mask)``.

    Raises:
        ValueError: wrong shapes; a discount or decay outside [0, 1]; turns that decrease, or are -1 where the mask is
            not 0; a reward at a gap; a trained token whose reward or value is not finite.
        TypeError: wrong dtype, rank or form.

    Source: RAGEN's ``compute_bi_level_gae_advantage_return``, official code executed, with its configured defaults; not
    in the paper (arXiv 2504.20073) as far as we know. There a turn ends where a reward is not 0: a turn without reward
    is taken for the beginning of the next, and tokens after the last reward raise an IndexError. Here ``turns`` says.

    >>> two_level_gae([[0.0, 0.0, 1.0]], [[0.5, 0.5, 0.5]], [[0, 0, 1]], gamma_turn=0.5).advantages.tolist()
    [[0.0, 0.0, 0.5]]
    """
    who = "two_level_gae"
    low = {"gamma": _unit(who, "gamma", gamma), "lam": _unit(who, "lam", lam)}
    high = {
        "gamma": _unit(who, "gamma_turn", gamma_turn),
        "lam": low["lam"] if lam_turn is None else _unit(who, "lam_turn", lam_turn),
    }
    rows = TokenRows.of(who, "values", values, mask=mask, lengths=lengths)
    per_row, (r, v) = rewards_of(rows, rewards, values=values)
    trained, turn, inside = _trained(rows, turns, lengths)
    ends, of_rows = _turn_ends(trained, turn)
    reward = trained.rewards_of_rows(r, reward_on_gap) if per_row else trained.rewards(r, inside, reward_on_gap)
    value = trained.finite("values", v)
    last = ends[1:] - 1
    rule = Rule(bootstrap=bootstrap, truncated=truncated)
    reward[last] = _scan(who, reward[last], value[last], of_rows, rule, **high)[1]
    results = _scan(who, reward, value, ends, Rule(), **low)
    arrays, flat = rows.outputs(out, v.dtype, 2, [r, v, rows.mask])
    for target, x in zip(flat, results, strict=True):
        target.fill(0)
        target[trained.at] = x
    return TurnGAE(*(rows.wrap(array) for array in arrays))


def _unit(who: str, name: str, x: Any) -> float:
    value = number(who, name, x)
    if isinstance(x, (bool, np.bool_)) or not 0 <= value <= 1:
        msg = f"{who}(): {name!r} must be in [0, 1], got {x!r}"
        raise ValueError(msg)
    return value


def _scan(
    who: str, rewards: Any, values: Any, offsets: NDArray[np.int64], rule: Rule, *, gamma: float, lam: float
) -> list[NDArray[np.float64]]:
    """Advantages and returns of packed rows."""
    r, v = Ragged(rewards, offsets), Ragged(values, offsets)
    both = scan_values(TokenRows.of(who, "values", v), r, v, gamma=gamma, lam=lam, rule=rule)
    return [x.values for x in both]


def _starts(rows: TokenRows) -> NDArray[np.int64]:
    """Where each row begins in the flat arrays, and their end."""
    if rows.packed is not None:
        return rows.packed.offsets
    return np.arange(rows.shape[0] + 1) * rows.shape[1]


@dataclass(frozen=True)
class _Trained:
    """The trained tokens of rows: their places in the flat arrays, and where those of each row begin among them."""

    rows: TokenRows
    at: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def row_of(self, at: Any) -> Any:
        return np.searchsorted(_starts(self.rows), at, side="right") - 1

    def place(self, at: Any) -> str:
        row = int(self.row_of(at))
        return f"row {row}, position {at - _starts(self.rows)[row]}"

    def finite(self, name: str, flat: NDArray[Any], at: Any = None) -> NDArray[np.float64]:
        """Those of trained tokens (or these), float64."""
        at = self.at if at is None else at
        x = flat[at].astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(x))
        if len(wrong):
            value = "NaN" if np.isnan(x[wrong[0]]) else x[wrong[0]]
            what = f"got {value} at {self.place(at[wrong[0]])}"
            msg = f"{self.rows.who}(): {name!r} must be finite at trained tokens, {what}"
            raise ValueError(msg)
        return x

    def rewards_of_rows(self, r: NDArray[np.float64], on_gap: str) -> NDArray[np.float64]:
        """One a row, at its last trained token."""
        choice(self.rows.who, "reward_on_gap", on_gap, ("raise", "previous", "drop"))
        out, full = np.zeros(len(self.at)), np.diff(self.offsets) > 0
        lost = np.flatnonzero(~full & (r != 0))
        if len(lost) and on_gap != "drop":
            self._fail(
                f"has {r[lost[0]]} for row {lost[0]}, which has no trained token; reward_on_gap='drop' leaves it out"
            )
        if not np.isfinite(r[full]).all():
            row = np.flatnonzero(full & ~np.isfinite(r))[0]
            self._fail(f"must be finite, got {r[row]} at row {row}")
        out[self.offsets[1:][full] - 1] = r[full]
        return out

    def rewards(self, r: NDArray[Any], inside: NDArray[np.bool_], on_gap: str) -> NDArray[np.float64]:
        """Those of tokens, and where those at gaps go."""
        choice(self.rows.who, "reward_on_gap", on_gap, ("raise", "previous", "drop"))
        out = self.finite("rewards", r)
        stray = (r != 0) & inside
        stray[self.at] = False
        off = np.flatnonzero(stray)
        if not len(off) or on_gap == "drop":
            return out
        where = f"has {r[off[0]]} at {self.place(off[0])}, where no token is trained"
        if on_gap == "raise":
            self._fail(f"{where}; say where it goes with reward_on_gap='previous' or 'drop'")
        before = np.searchsorted(self.at, off) - 1
        nothing = np.flatnonzero(before < self.offsets[self.row_of(off)])
        if len(nothing):
            first = off[nothing[0]]
            where = f"has {r[first]} at {self.place(first)}, where no token is trained"
            self._fail(f"{where}, and no trained token before it; reward_on_gap='drop' leaves it out")
        # In the order of positions, so that nothing depends on other rows.
        np.add.at(out, before, self.finite("rewards", r, off))
        return out

    def _fail(self, reason: str) -> None:
        msg = f"{self.rows.who}(): 'rewards' {reason}"
        raise ValueError(msg)


def _trained(
    rows: TokenRows, turns: Any, lengths: ArrayLike | None
) -> tuple[_Trained, NDArray[np.int64], NDArray[np.bool_]]:
    """Trained tokens, the turn of each, and which positions of the flat arrays belong to rows at all."""
    numbers, _ = integers(rows.who, "turns", rows._flat("turns", turns, packed_too=True))
    inside = np.ones(rows.shape, bool)
    if lengths is not None:
        inside &= np.arange(rows.shape[1]) < integers(rows.who, "lengths", lengths)[0][:, None]
    inside = inside.reshape(-1)
    keep = inside & (numbers >= 0)
    if rows.mask is not None:
        keep &= rows.mask != 0
    at = np.flatnonzero(keep)
    trained = _Trained(rows, at, np.searchsorted(at, _starts(rows)))
    wrong = inside & (numbers < -1)
    if wrong.any():
        i = int(wrong.argmax())
        msg = f"{rows.who}(): 'turns' must be at least -1 (a gap), got {numbers[i]} at {trained.place(i)}"
        raise ValueError(msg)
    if rows.mask is not None and (wrong := inside & (rows.mask != 0) & (numbers < 0)).any():
        place = trained.place(int(wrong.argmax()))
        msg = f"{rows.who}(): 'turns' is -1 at {place}, where the mask is not 0; a trained token has a turn"
        raise ValueError(msg)
    return trained, numbers[at], inside


def _turn_ends(trained: _Trained, turn: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets of turns into the trained tokens, and of rows into the turns."""
    n = len(turn)
    first = np.zeros(n + 1, bool)
    first[trained.offsets] = True
    falls = np.flatnonzero((turn[1:] < turn[:-1]) & ~first[1:n])
    if len(falls):
        i = falls[0]
        what = f"got {turn[i + 1]} after {turn[i]} at {trained.place(trained.at[i + 1])}"
        msg = f"{trained.rows.who}(): 'turns' must not decrease along a row, {what}"
        raise ValueError(msg)
    first[1:n] |= turn[1:] != turn[:-1]
    ends = np.flatnonzero(first)
    return ends, np.searchsorted(ends, trained.offsets)
