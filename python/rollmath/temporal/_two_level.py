"""Bi-level GAE: over turns, and over the tokens inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, number
from rollmath._token_rows import TokenRows
from rollmath.ops._scan import RewardOnGap, Rule, rewards_of, scan_values
from rollmath.ragged import Ragged
from rollmath.temporal._turn_rows import TurnGAE, TurnTokens

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    Source: RAGEN's ``compute_bi_level_gae_advantage_return``, official code executed, with its configured defaults; the
    Bi-Level GAE of VAGEN, Wang et al. 2025, arXiv 2510.16907, by secondary description, unverified. In RAGEN's code a
    turn ends where a reward is not 0, so a turn without reward is taken for the beginning of the next, and tokens after
    the last reward raise an IndexError. Here ``turns`` says.

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
    tokens = TurnTokens.of(rows, turns, lengths)
    ends, of_rows = tokens.ends()
    reward, value = _placed(tokens, r, per_row, reward_on_gap), tokens.finite("values", v)
    last = ends[1:] - 1
    rule = Rule(bootstrap=bootstrap, truncated=truncated)
    reward[last] = _scan(who, reward[last], value[last], of_rows, rule, **high)[1]
    results = _scan(who, reward, value, ends, Rule(), **low)
    arrays, flat = rows.outputs(out, v.dtype, 2, {"rewards": r, "values": v, "mask": rows.mask})
    for target, x in zip(flat, results, strict=True):
        target.fill(0)
        target[tokens.at] = x
    return TurnGAE(*(rows.wrap(array) for array in arrays))


def _placed(tokens: TurnTokens, r: NDArray[Any], per_row: bool, on_gap: str) -> NDArray[np.float64]:
    """Rewards of the trained tokens; a return that is discounted by 0 is the reward, at its place."""
    rule = Rule(reward_on_gap=on_gap).of(tokens.rows)
    out = np.empty(tokens.rows.layout.total)
    wide = r.astype(np.float64, copy=False)
    _core.gae(tokens.rows.who, tokens.rows.layout, wide, per_row, None, rule, (0.0, 1.0, None), out, None, False)
    return out[tokens.at]


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
