"""Checks of functions that take values: GAE and its like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rollmath.conventions import Whiten
from rollmath.temporal import gae
from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._cases import ROWS, apart, show
from rollmath.testing._registry import Remark, check, fail, not_applicable

#: Ways to whiten that trainers have, and how they are said.
_WHITEN: tuple[tuple[str, Whiten | None], ...] = (
    ("", None),
    (", whitened over the batch (ddof 1)", Whiten()),
    (", whitened over the batch (ddof 0)", Whiten(ddof=0, eps=1e-4, eps_place="max")),
)


@check("advantage", "tokens", "values")
def gae_formula(f: AdvantageFunction) -> str:
    """On rows without gaps it is GAE: A_t = delta_t + gamma lam A_(t+1), delta_t = r_t + gamma V_(t+1) - V_t.

    The value after the last token is 0, of that row and not of the padding. A reverse loop that starts at the width of
    the batch takes the critic's guess at padding for it.
    """
    gamma, lam = (f.options.get(name, 1.0 if f.style == "verl" else None) for name in ("gamma", "lam"))
    if not isinstance(gamma, float | int) or not isinstance(lam, float | int):
        not_applicable("no options={'gamma': ..., 'lam': ...} to compare with")
    out = f.tokens(ROWS)[0]
    for text, whiten in _WHITEN:
        wanted = gae(ROWS.rewards, ROWS.values, mask=ROWS.mask, gamma=gamma, lam=lam, whiten=whiten).advantages
        if apart(out[ROWS.mask], np.asarray(wanted)[ROWS.mask]) < 1e-4:
            return f"GAE with gamma {gamma}, lam {lam}{text}"
    plain = np.asarray(gae(ROWS.rewards, ROWS.values, mask=ROWS.mask, gamma=gamma, lam=lam).advantages)
    return fail(
        f"rewards {show(ROWS.rewards[0][:4])} and values {show(ROWS.values[0][:4])} get {show(out[0][:4])}; GAE gives "
        f"{show(plain[0][:4])}, and no whitening known here leads from one to the other"
    )


@check("advantage", "tokens", "values")
def row_order(f: AdvantageFunction) -> str:
    """The order of rows moves advantages and changes none.

    A state that is carried from one row to the next does not see that the row ended.
    """
    back = slice(None, None, -1)
    first = f.tokens(ROWS)[0]
    out = f.tokens(replace(ROWS, **{n: getattr(ROWS, n)[back].copy() for n in ("rewards", "mask", "values", "ids")}))[0]
    if apart(out[back][ROWS.mask], first[ROWS.mask]) > 1e-5:
        fail(f"the first row gets {show(first[0][:4])}, and as the last {show(out[-1][:4])}")
    return "rows in reverse get the same"


@check("advantage", "tokens", "values")
def zero_token_reward(f: AdvantageFunction) -> str:
    """A reward of 0 on the last token is a reward: it gets what 0.000001 gets.

    Code that finds the end of a turn by its reward not being 0 loses the turn, or raises IndexError (RAGEN's bi-level
    GAE).
    """
    zero: Any = ROWS.rewards.copy()
    zero[:2] = 0.0
    near = zero.copy()
    near[0, 3] = near[1, 1] = 1e-6
    a, b = (f.tokens(replace(ROWS, rewards=x))[0] for x in (zero, near))
    if apart(a[ROWS.mask], b[ROWS.mask]) > 1e-4:
        fail(f"a row whose reward is 0 gets {show(a[0][:4])}, and with 0.000001 {show(b[0][:4])}")
    return "0 gets what 0.000001 gets"


@check("advantage", "tokens", "values")
def returns(f: AdvantageFunction) -> str:
    """The returns, if it gives them, are finite at trained tokens, and 0 at others.

    The loss of the critic reads them; numbers behind the mask count where a mean forgets it.
    """
    out = f.tokens(ROWS)[1]
    if out is None:
        not_applicable("it gives no returns")
    if not np.isfinite(out[ROWS.mask]).all():
        fail(f"the first row gets the returns {show(out[0])}")
    if (out[~ROWS.mask] != 0).any():
        return Remark(f"the first row, of four tokens, gets the returns {show(out[0])}")
    return f"the first row gets the returns {show(out[0])}"
