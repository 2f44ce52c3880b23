"""Prompts among which a function chooses, or to which it hands out rollouts: read and checked, one number each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, choice, integers
from rollmath._checks import Back, column, finite, mask, rows, whole
from rollmath.groups import Groups, as_groups
from rollmath.ops._hash import Uids, seeded, unit
from rollmath.select._candidates import Candidates, Nan, Short
from rollmath.select._selection import Selection, selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHY = "len(prompts)"


def read_prompts(
    who: str,
    name: str,
    values: ArrayLike,
    prompts: Groups | ArrayLike | None,
    *,
    must: str = "finite",
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
    ties: ArrayLike | None = None,
    seed: int | None = None,
) -> tuple[Candidates, Back]:
    """One number a prompt, and the way back. The ids of the prompts are what breaks ties; without them, the rows do.

    Raises:
        ValueError: wrong lengths, numbers that are not what they ``must`` be, a prompt twice, a negative seed.
        TypeError: wrong dtype or rank.
    """
    choice(who, "nan", nan, ("raise", "omit"))
    if prompts is None:
        x, back = rows(who, name, values)
        made, why = Groups(np.arange(len(x))), f"len({name})"
    else:
        made, why = as_groups(who, prompts, name="prompts"), WHY
        x, back = rows(who, name, values, len(made), why)
    there = mask(who, "valid", valid, len(x), why)
    missing = np.isnan(x) & there if nan == "omit" else np.zeros(len(x), bool)
    seen = there & ~missing
    finite(who, name, x, seen, must=must)
    of = Candidates(
        who,
        np.where(seen, x, 0.0) + 0.0,
        made,
        back.kind,
        there,
        missing,
        None if ties is None else column(who, "ties", ties, there, why=why)[0],
        None if prompts is None else Uids.of(who, prompts, len(x), name="prompts", why=why),
        None if seed is None else whole(who, "seed", seed, least=0),
    )
    return of, back


def chosen(of: Candidates, dropped: Sequence[tuple[str, NDArray[np.bool_]]]) -> Selection:
    """Drops prompts that take no part, then prompts for these reasons."""
    return selection(of.who, of.groups, [("not valid", ~of.valid), *dropped], of.kind, unit="prompt")


def drawn(of: Candidates, able: NDArray[np.bool_], keep: int, *, race: int = 0) -> NDArray[np.bool_]:
    """``keep`` of the prompts that are ``able`` without replacement, one after another with odds ``x``; all if fewer.

    A race: prompt i arrives at the time -log(u_i) / x_i, and who arrives first is drawn first. In logarithms, so that
    no weight is too large or too small. The time of a prompt depends on its id, its weight, the seed and the number of
    the race alone.
    """
    uids, seed = of.uids, of.seed
    if uids is None or seed is None:
        msg = f"{of.who}: a draw needs ids and a seed"
        raise RuntimeError(msg)
    if keep < 1 or int(able.sum()) <= keep:
        return able.copy() if keep > 0 else np.zeros(len(able), bool)
    # A race of its own has words of its own: who lost the last one must not lose this one for that.
    words = uids.words(seed) if race == 0 else seeded(uids.words(seed), race)
    time = np.full(len(of.x), np.inf)
    time[able] = np.log(-np.log(unit(words[able]))) - np.log(of.x[able])
    last = np.partition(time, keep - 1)[keep - 1]
    taken = np.asarray(time < last, bool)
    equal = np.flatnonzero(time == last)
    taken[equal[np.argsort(uids.rank[equal])][: keep - int(taken.sum())]] = True
    return taken


def too_few(of: Candidates, able: int, keep: int, short: Short, what: str) -> bool:
    """Whether nothing is kept because there are fewer than ``keep``, by the policy ``short``.

    Raises:
        ValueError: ``short="raise"``, and there are.
    """
    choice(of.who, "short", short, ("keep", "drop", "raise"))
    if able < keep and short == "raise":
        msg = f"{of.who}(): 'keep' must be at most the prompts {what}, got {keep}, but there are {able}"
        raise ValueError(msg)
    return able < keep and short == "drop"


def part_of(share: float, n: int) -> int:
    """``floor(share n)``; a product that is whole but for rounding counts as whole."""
    exact = share * n
    near = round(exact)
    return near if abs(exact - near) <= n * 2.0**-51 else math.floor(exact)


def numbers_of_rollouts(
    who: str, name: str, value: Any, seen: NDArray[np.bool_], *, least: int, why: str
) -> NDArray[np.int64]:
    """One whole number for all prompts, or one for each; 0 for those not ``seen``, whatever theirs is.

    Raises:
        ValueError: too small, past int64, a wrong length.
        TypeError: no whole numbers.
    """
    if not hasattr(value, "__len__") or getattr(value, "shape", None) == ():
        return np.where(seen, within_int64(who, name, value, least), 0)
    counts, _ = integers(who, name, value, length=len(seen), why=why)
    if len(bad := np.flatnonzero(seen & (counts < least))):
        msg = f"{who}(): {name!r} must be at least {least}, got {counts[bad[0]]} at index {bad[0]}"
        raise ValueError(msg)
    return np.where(seen, counts, 0)


def within_int64(who: str, name: str, value: Any, least: int) -> int:
    """A whole number that the core can read."""
    n = whole(who, name, value, least)
    if n >= 2**62:
        msg = f"{who}(): {name!r} must be below 2**62, got {n}"
        raise ValueError(msg)
    return n
