"""Reverse scans over the tokens of rows, gaps and truncation included: what returns and advantages in time are made of.

Every row is scanned from its last token to its first with a float64 carry, so the numbers of a row depend on that row
alone: not on padding, on the form (packed or padded), on other rows, or on threads. Tensors on a GPU are scanned
there, as :mod:`rollmath.ops._device_scan` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, number
from rollmath._convention import Whiten
from rollmath._token_rows import TokenRows, lengths_only, rank
from rollmath.ops._device_rows import DeviceRows, on_device, rows_of
from rollmath.ops._device_scan import discounted_on_device, scan_on_device
from rollmath.ops._moments import Moments
from rollmath.ops._whiten import checked
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

Gaps: TypeAlias = Literal["carry", "state", "ignore"]
RewardOnGap: TypeAlias = Literal["raise", "previous", "drop"]
GAPS = ("carry", "state", "ignore")


@dataclass(frozen=True)
class Rule:
    """How a scan treats gaps, rewards on them, and the ends of rows; as the public keywords are."""

    gaps: str = "carry"
    reward_on_gap: str = "raise"
    bootstrap: ArrayLike = "zero"
    truncated: ArrayLike | None = None

    def of(
        self, rows: TokenRows | DeviceRows, *, gaps: tuple[str, ...] = GAPS, ends: tuple[str, ...] = ("zero", "last")
    ) -> Any:
        """Checked, as the core takes it."""
        choice(rows.who, "gaps", self.gaps, gaps)
        choice(rows.who, "reward_on_gap", self.reward_on_gap, ("raise", "previous", "drop"))
        end: Any = self.bootstrap
        applies: Any = rows.bytes_per_row("truncated", self.truncated)
        if isinstance(end, str) or end is None:
            if end not in ends:
                listed = " or ".join(map(repr, ends))
                msg = f"{rows.who}(): 'bootstrap' must be {listed}, or an array with one number a row, got {end!r}"
                raise ValueError(msg)
        else:
            end = rows.per_row("bootstrap", end)
        if isinstance(rows, TokenRows) and rows.valid is not None:
            applies = rows.valid if applies is None else applies & (rows.valid != 0)
        finished = isinstance(end, str) and end == "zero"
        if not finished and self.gaps != "carry" and rows.mask is not None and not rows.ends_known:
            msg = (
                f"{rows.who}(): 'lengths' is needed where gaps={self.gaps!r} and 'bootstrap' is not 'zero': "
                "without it the padding that the mask leaves out is a gap at the end of a row"
            )
            raise ValueError(msg)
        return (rows.mask, self.gaps, self.reward_on_gap, end, applies)


def check_whiten(who: str, whiten: object) -> None:
    """Raises unless it is a Whiten or None."""
    if whiten is not None and not isinstance(whiten, Whiten):
        msg = f"{who}(): 'whiten' must be a Whiten or None, got {whiten!r}"
        raise TypeError(msg)


def rate(who: str, name: str, value: object) -> float:
    """A discount or decay; the core checks its range."""
    if isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a number, got {value!r}"
        raise TypeError(msg)
    return number(who, name, value)


def lam_of(rows: TokenRows | DeviceRows, name: str, lam: ArrayLike) -> Any:
    """A decay for all rows or one a row; the core checks its range."""
    if isinstance(lam, (int, float, np.number, np.bool_)):
        return rate(rows.who, name, lam)
    if isinstance(rows, DeviceRows) and not (isinstance(lam, np.ndarray) and lam.ndim == 0):
        # Looked at where it is.
        return lam
    if getattr(lam, "shape", None) == ():
        return rate(rows.who, name, lam.item())
    return rows.per_row(name, lam)


def rewards_of(rows: TokenRows, rewards: ArrayLike, **others: Any) -> tuple[bool, list[NDArray[Any]]]:
    """Whether rewards are one a row, and all arrays: rewards first, the others of one dtype."""
    if rows.is_per_row(rewards):
        r = rows.per_row("rewards", rewards)
        if rows.valid is not None:
            r = np.where(rows.valid != 0, r, 0.0)
        return True, [r, *rows.read(**others)]
    return False, rows.read(rewards=rewards, **others)


def scan_values(
    rows: TokenRows | DeviceRows,
    rewards: ArrayLike,
    values: ArrayLike,
    *,
    gamma: float,
    lam: ArrayLike,
    lam_returns: ArrayLike | None = None,
    rule: Rule,
    whiten: Whiten | None = None,
    only_returns: bool = False,
    out: Any = None,
) -> list[Array]:
    """``A_t = delta_t + gamma lam A_{t+1}`` and ``A_t + V_t``, with ``delta_t = r_t + gamma V_{t+1} - V_t``.

    ``rows`` is the form of ``values``. What :func:`rollmath.temporal.gae` and its relatives share.
    """
    given = rule.of(rows)
    check_whiten(rows.who, whiten)
    decay = (
        rate(rows.who, "gamma", gamma),
        lam_of(rows, "lam", lam),
        None if lam_returns is None else lam_of(rows, "lam_returns", lam_returns),
    )
    if isinstance(rows, DeviceRows):
        g, a, b = decay
        return scan_on_device(
            rows, rewards, values, gamma=g, lam=a, lam_returns=b, rule=given,
            whiten=whiten, only_returns=only_returns, out=out,
        )  # fmt: skip
    per_row, (r, v) = rewards_of(rows, rewards, values=values)
    inputs = {"rewards": r, "values": v, "lam": decay[1], "lam_returns": decay[2], **inputs_of(given)}
    arrays, flat = rows.outputs(out, v.dtype, 1 if only_returns else 2, inputs)
    advantages = None if only_returns else flat[0]
    parts = _core.gae(rows.who, rows.layout, r, per_row, v, given, decay, advantages, flat[-1], whiten is not None)
    if whiten is not None and parts is not None:
        whiten_in_place(rows, "rewards", flat[0], whiten, Moments(*parts))
    return [rows.wrap(array) for array in arrays]


def inputs_of(rule: tuple[Any, ...]) -> dict[str, Any]:
    """The arrays of a rule by name, with which results may not share memory."""
    return {"mask": rule[0], "bootstrap": rule[3], "truncated": rule[4]}


def whiten_in_place(rows: TokenRows, name: str, flat: NDArray[Any], how: Whiten, moments: Moments) -> None:
    """Whitens trained tokens; all else is 0 and stays 0. ``name`` is what the caller calls what they came from."""
    if moments.count:
        _core.affine(rows.who, name, rows.layout, None, rows.mask, checked(rows.who, name, how, moments), flat)


def discounted_sum(
    x: ArrayLike,
    *,
    decay: float = 1.0,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    gaps: Literal["carry", "state", "ignore", "cut"] = "carry",
    reward_on_gap: RewardOnGap = "raise",
    bootstrap: ArrayLike = "zero",
    truncated: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    whiten: Whiten | None = None,
    out: Array | Ragged | None = None,
    name: str = "x",
    who: str = "discounted_sum",
) -> Array | Ragged:
    """``y_t = x_t + decay * y_{t+1}`` over the trained tokens of each row.

    The primitive under :func:`rollmath.temporal.discounted_returns`, where the arguments are described.

    Args:
        x: a Ragged, padded ``[B, T]``, or one number a row, which is that of its last trained token.
        decay: in [0, 1].
        mask: nonzero is trained.
        lengths: used columns of padded rows.
        gaps: what positions with mask 0 are.
        reward_on_gap: what becomes of a number there.
        bootstrap: ``"zero"``, or the sum after the last token, one a row.
        truncated: rows to which ``bootstrap`` applies.
        valid: rows that take part; the others get 0.
        whiten: whiten the result over all its tokens.
        out: where to write.
        name: what your own method calls ``x``, for error messages.
        who: its name, likewise.

    >>> discounted_sum([[0.0, 0.0, 1.0]], decay=0.5).tolist()
    [[0.25, 0.5, 1.0]]
    """
    check_whiten(who, whiten)
    per_row = rank(who, name, x) == 1
    rows = _form(who, name, x, mask, lengths, valid, per_row)
    rule = Rule(gaps, reward_on_gap, bootstrap, truncated).of(rows, gaps=(*GAPS, "cut"), ends=("zero",))
    by = rate(who, "gamma" if name == "rewards" else "decay", decay)
    if isinstance(rows, DeviceRows):
        return discounted_on_device(rows, name, x, decay=by, rule=rule, whiten=whiten, out=out)
    if per_row:
        flat = rows.per_row(name, x)
        if rows.valid is not None:
            flat = np.where(rows.valid != 0, flat, 0.0)
        # The result is of the kind and float type of what came, in the form of what says the rows.
        values, kind = floats(who, name, x)
        rows, dtype = rows.like_kind(kind), values.dtype
    else:
        (flat,) = rows.read(**{name: x})
        dtype = flat.dtype
    arrays, views = rows.outputs(out, dtype, 1, {name: flat, **inputs_of(rule)})
    decays = (by, 1.0, None)
    try:
        parts = _core.gae(who, rows.layout, flat, per_row, None, rule, decays, views[0], None, whiten is not None)
    except ValueError as wrong:
        # The core knows the names of gae.
        text = str(wrong) if name == "rewards" else str(wrong).replace("'gamma'", "'decay'", 1)
        raise ValueError(text.replace("'rewards'", repr(name), 1)) from None
    if whiten is not None and parts is not None:
        whiten_in_place(rows, name, views[0], whiten, Moments(*parts))
    return rows.wrap(arrays[0])


def _form(who: str, name: str, x: Any, mask: Any, lengths: Any, valid: Any, per_row: bool) -> TokenRows | DeviceRows:
    if not per_row:
        return rows_of(who, name, x, mask=mask, lengths=lengths, valid=valid)
    if mask is not None and on_device(mask):
        return DeviceRows.of(who, "mask", mask, mask=mask, lengths=lengths, valid=valid)
    if mask is not None:
        return TokenRows.of(who, "mask", mask, lengths=lengths).masked(mask).only(valid)
    if lengths is None:
        msg = f"{who}(): one number a row in {name!r} needs 'mask' or 'lengths', which say what the rows are"
        raise ValueError(msg)
    return lengths_only(who, lengths).only(valid)
