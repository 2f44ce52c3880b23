"""Checks of padded token-level functions: padding, gaps and masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._cases import ROWS, TokenRows, apart, show
from rollmath.testing._group_checks import CLOSE
from rollmath.testing._registry import CallError, Remark, check, fail, not_applicable

_JUNK = (float("nan"), 1e30)


@check("advantage", "tokens")
def padding_width(f: AdvantageFunction) -> str:
    """More padding on the right changes nothing.

    The width is that of the longest row of the batch: what depends on it depends on another row's length.
    """
    narrow = ROWS.first(4)
    first, wide = f.tokens(narrow)[0], f.tokens(narrow.padded(3))[0]
    if apart(wide[:, :4][narrow.mask], first[narrow.mask]) > CLOSE:
        fail(f"the first row gets {show(first[0])} in 4 columns and {show(wide[0][:4])} in 7")
    return "4 columns and 7 give the same"


@check("advantage", "tokens")
def masked_output(f: AdvantageFunction) -> str:
    """Advantages are 0 where nothing is trained.

    A later sum or mean that forgets the mask counts them. verl 0.9.1's GAE leaves numbers there.
    """
    junk = f.tokens(ROWS.with_gap(1, 1, 0.5))[0]
    mask = ROWS.with_gap(1, 1, 0.5).mask
    if not (junk[~mask] == 0).all():
        row = int(np.flatnonzero(((junk != 0) & ~mask).any(1))[0])
        fail(f"a row with the mask {mask[row].astype(int).tolist()} gets {show(junk[row])}")
    return "0 at padding and gaps"


@check("advantage", "tokens")
def rewards_behind_mask(f: AdvantageFunction) -> str:
    """What stands in the rewards' padding (NaN, 1e30) reaches no advantage.

    A sum over the whole row counts it. Trainers put 0 there, until one has NaN for "no reward" or a buffer that is used
    again.
    """
    return _behind(f, "rewards")


@check("advantage", "tokens", "values")
def values_behind_mask(f: AdvantageFunction) -> str:
    """What stands in the values' padding (NaN, 1e30) reaches no advantage.

    The critic says something at every position, padding included.
    """
    return _behind(f, "values")


def _behind(f: AdvantageFunction, name: str) -> str:
    rows = ROWS.padded(1)
    clean = f.tokens(rows)[0]
    for junk in _JUNK:
        try:
            out = f.tokens(rows.behind(name, junk))[0]
        except CallError as error:
            if error.refusal:
                return f"it refuses: {error.text}"
            raise
        if apart(out[rows.mask], clean[rows.mask]) > CLOSE:
            row = int(np.argmax([apart(a[m], b[m]) for a, b, m in zip(out, clean, rows.mask, strict=True)]))
            m = rows.mask[row]
            fail(f"with {junk} in the padding of the {name} a row gets {show(out[row][m])}, not {show(clean[row][m])}")
        if not (out[~rows.mask] == 0).all() and (clean[~rows.mask] == 0).all():
            fail(f"with {junk} in the padding of the {name} advantages of {show(out[~rows.mask][:3])} stand there")
    return "NaN and 1e30 in the padding change nothing"


@check("advantage", "tokens")
def gap_neutrality(f: AdvantageFunction) -> str:
    """Masked tokens between trained ones (tool output) change nothing at trained tokens.

    A scan that steps through them discounts by the length of the tool's output, or takes the critic's guess there for a
    state: slime, SkyRL and ROLL run GAE through the gap, OpenRLHF takes the value there for 0.
    """
    first = f.tokens(ROWS)[0]
    rows = ROWS.with_gap(1, 2, 5.0)
    out = f.tokens(rows)[0]
    if apart(np.delete(out, [1, 2], axis=1)[ROWS.mask], first[ROWS.mask]) > CLOSE:
        fail(
            f"a row of four tokens gets {show(first[0][:4])}; with two masked ones after the first it gets "
            f"{show(out[0][rows.mask[0]])}"
        )
    return "two masked tokens inside a row change nothing at the others"


@check("advantage", "tokens")
def reward_on_gap(f: AdvantageFunction) -> str:
    """A reward on a masked token inside a row counts, or is refused; it is not lost silently.

    Environments pay when the tool answers, on a token that is not trained. GAE and REINFORCE++ multiply by the mask and
    drop it: the rollout trains as if it had earned nothing.
    """
    rows = ROWS.with_gap(1, 1, 0.5)
    paid = rows.rewards.copy()
    paid[1, 1] = 4.0
    none = f.tokens(rows)[0]
    try:
        out = f.tokens(replace(rows, rewards=paid))[0]
    except CallError as error:
        if error.refusal:
            return f"it refuses: {error.text}"
        raise
    if apart(out[rows.mask], none[rows.mask]) < 1e-6:
        fail(
            f"a reward of 4 on a masked token between trained ones changes nothing: the row gets {show(none[1][:4])} "
            "with and without it"
        )
    return "it counts"


@check("advantage", "tokens")
def empty_row(f: AdvantageFunction) -> str:
    """A row without a trained token gets 0, and every other row finite numbers.

    A rollout that ended at once, or a dummy row that fills a rank, divides by its length 0.
    """
    more = TokenRows(
        np.vstack([ROWS.rewards, np.zeros((1, 5))]),
        np.vstack([ROWS.mask, np.zeros((1, 5), dtype=bool)]),
        np.append(ROWS.ids, 1),
        np.vstack([ROWS.values, ROWS.values[:1]]),
    )
    out, alone = f.tokens(more)[0], f.tokens(ROWS)[0]
    if not np.isfinite(out).all():
        fail(f"with a row without a trained token in the batch, rows get {show(out[~np.isfinite(out)][:3])}")
    if (out[-1] != 0).any():
        return Remark(f"a row without a trained token gets {show(out[-1])}")
    if "groups" not in f.has and apart(out[:4][ROWS.mask], alone[ROWS.mask]) > CLOSE:
        fail(f"a row without a trained token changes another row from {show(alone[0])} to {show(out[0])}")
    return "it gets 0"


@check("advantage", "tokens")
def one_token(f: AdvantageFunction) -> str:
    """A batch with one trained token gives a finite number.

    The last micro-batch can be that small. A variance of one value is NaN, or an error as in verl 0.9.1's
    ``masked_whiten``.
    """
    mask = np.array([[True, False]])
    rows = TokenRows(np.array([[1.0, 0.0]]), mask, np.array([0]), np.array([[0.25, 0.5]]))
    try:
        out = f.tokens(rows)[0]
    except CallError as error:
        if "groups" in f.has and error.refusal:
            _refuses_alone(f)
        raise
    if not np.isfinite(out[0, 0]):
        fail(f"a reward of 1 on the only trained token of the batch gives {show(out[0, 0])}")
    return f"a reward of 1 on the only trained token of the batch gives {show(out[0, 0])}"


def _refuses_alone(f: AdvantageFunction) -> None:
    """Not applicable if a row alone in its group is refused whatever its length."""
    try:
        f.rollouts([1.0], np.array([0]))
    except CallError as error:
        not_applicable(f"it refuses groups of one: {error.text}")
