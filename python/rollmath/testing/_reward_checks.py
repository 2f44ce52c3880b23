"""Checks of rewards that are special: equal, missing, large, zero, integers."""

from __future__ import annotations

import numpy as np

from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._cases import EVEN, EVEN_IDS, apart, show
from rollmath.testing._group_checks import CLOSE, depends_on_others
from rollmath.testing._registry import CallError, FailedCheckError, Remark, check, fail, not_applicable

_FOUR = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
#: Rewards whose float32 mean need not be the reward: the value, and how many.
_EQUAL = ((5.0, 3), (0.3, 8), (0.1, 10), (0.7, 12), (0.7, 64), (0.9, 64), (1000.1, 3))


@check("advantage", "groups")
def zero_spread(f: AdvantageFunction) -> str:
    """A group whose rewards are equal gets exactly 0.

    The mean of n equal float32 numbers need not be that number, and the residue is divided by eps: for three rewards of
    1000.1 verl 0.9.1's GRPO returns 0.81. Such a group has no signal; a filter that looks for 0 keeps it, and it
    trains. Where the largest reward of a group is its smallest, return 0; less than 0.01 is remarked on, not failed.
    """
    found = []
    for reward, count in _EQUAL:
        for dtype in ("float32", None):
            other = np.linspace(0.0, 1.0, count)
            rewards, ids = np.concatenate([np.full(count, reward), other]), np.repeat([0, 1], count)
            out = f.rollouts(rewards, ids, dtype=dtype)[:count]
            if not np.isfinite(out).all():
                fail(f"{count} rewards of {reward} get {show(out[:3])}")
            kind = "float32" if dtype or f.way.arrays == "torch" else "float64"
            found.append((float(np.abs(out).max()), count, reward, kind))
    ordinary = max(each for each in found if each[2] <= 5)
    size, count, reward, kind = ordinary if ordinary[0] > 1e-2 else max(found)
    text = f"{count} {kind} rewards of {reward} get {show(size)} instead of 0"
    if size > 1e-2:
        fail(text)
    return Remark(f"{text}, the rounding of the mean") if size else "exactly 0 for seven sizes and values"


@check("advantage", "groups")
def lone_success(f: AdvantageFunction) -> str:
    """One success among failures gets an advantage of ordinary size, and so do the failures.

    With a leave-one-out standard deviation the success is divided by that of equal failures: an issue of NeMo-RL has
    advantages of 1,000,000 for it.
    """
    out = f.rollouts([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], EVEN_IDS[:8])
    if not np.isfinite(out).all() or np.abs(out).max() > 100:
        fail(f"rewards [1, 0, 0, 0] get {show(out[:4])}, rewards [0, 1, 1, 1] get {show(out[4:])}")
    return f"rewards [1, 0, 0, 0] get {show(out[:4])}"


@check("advantage", "groups")
def nan_reward(f: AdvantageFunction) -> str:
    """A missing reward (NaN) is refused, or stays in its group; its rollout gets 0 or NaN.

    A sandbox times out, a judge returns None. NaN that reaches the rest of the batch makes the step NaN; NaN that
    counts as a failure trains against a rollout that nobody judged (issues and fixes in TRL and slime).
    """
    rewards = np.array([1.0, 0.0, np.nan, 0.5, 2.0, 1.0, 0.25, 0.5])
    try:
        out = f.rollouts(rewards, EVEN_IDS[:8])
    except CallError as error:
        if error.refusal:
            return f"it refuses: {error.text}"
        raise
    if not np.isfinite(out[4:]).all():
        fail(f"one NaN in a group, and rewards {show(rewards[4:])} of another group get {show(out[4:])}")
    if np.isfinite(out[2]) and out[2] != 0:
        fail(f"the rollout without a reward gets {show(out[2])}: rewards {show(rewards[:4])} give {show(out[:4])}")
    if not depends_on_others(f):
        whole = f.rollouts(np.where(np.isnan(rewards), 0.25, rewards), EVEN_IDS[:8])
        if apart(out[4:], whole[4:]) > CLOSE:
            fail(
                f"a NaN in one group, and rewards {show(rewards[4:])} of another get {show(out[4:])}, not "
                f"{show(whole[4:])}"
            )
    return f"rewards {show(rewards[:4])} get {show(out[:4])}; the other group is not touched"


def moves_with_shift(f: AdvantageFunction) -> tuple[float, str]:
    """How far advantages move when all rewards grow by 2, and what is seen."""
    rewards = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    first, second = f.rollouts(rewards, EVEN_IDS[:8]), f.rollouts(rewards + 2.0, EVEN_IDS[:8])
    seen = f"rewards [1, 0, 0, 0] get {show(first[:4])}, rewards [3, 2, 2, 2] get {show(second[:4])}"
    return apart(second, first), seen


@check("advantage", "groups")
def shift(f: AdvantageFunction) -> str:
    """The same number added to all rewards changes nothing.

    A baseline should take it away. Where it does not, rewards of 0 and 1 train otherwise than -1 and 0. A method that
    divides by the mean (MaxRL) does so on purpose; verl 0.9.1's GPG does because it counts rewards that are not 0.
    """
    moved, seen = moves_with_shift(f)
    if moved > 1e-4:
        fail(seen)
    return "a constant added to all rewards changes nothing"


@check("advantage", "groups")
def scale(f: AdvantageFunction) -> str:
    """Rewards times 4 give the same advantages, or 4 times those: one or the other for all rows.

    Otherwise the scale is taken from something else than the group, or a constant is in the way.
    """
    first, second = f.rollouts(EVEN, EVEN_IDS), f.rollouts(4 * EVEN, EVEN_IDS)
    told = np.abs(first) > 1e-3
    if not told.any():
        not_applicable("all its advantages are 0")
    factors = second[told] / first[told]
    for factor, text in ((1.0, "the same advantages"), (4.0, "4 times the advantages")):
        if np.abs(factors / factor - 1).max() < 1e-2:
            return f"rewards times 4 give {text}"
    worst = int(np.argmax(np.minimum(np.abs(factors - 1), np.abs(factors / 4 - 1))))
    return fail(
        f"a reward of {show(EVEN[told][worst])} gets {show(first[told][worst])}, all rewards times 4 give it "
        f"{show(second[told][worst])}: {show(float(factors[worst]))} times"
    )


@check("advantage", "groups")
def sign(f: AdvantageFunction) -> str:
    """In a group, the better reward never gets the smaller advantage, and the best gets more than the worst.

    A flipped sign, or a loss taken for a reward, trains towards the worst rollout, and every curve but the reward's
    looks healthy.
    """
    out = f.rollouts(EVEN, EVEN_IDS).reshape(4, 4)
    for rewards, given in zip(EVEN.reshape(4, 4), out, strict=True):
        ranked = given[np.argsort(rewards)]
        if ranked[-1] <= ranked[0] or (np.diff(ranked) < -CLOSE).any():
            fail(f"rewards {show(rewards)} get {show(given)}")
    return f"rewards {show(EVEN[:4])} get {show(out[0])}"


@check("advantage", "groups")
def zero_reward(f: AdvantageFunction) -> str:
    """A reward of 0 is a reward: it gets what 0.000001 gets.

    Code that finds the end of a turn, or counts rollouts, by looking for rewards that are not 0, loses those that are:
    RAGEN's bi-level GAE loses the turn, or raises IndexError.
    """
    rewards = np.array([1.0, 0.0, 0.5, 0.0, 0.0, 2.0, 1.0, 1.0])
    zero, near = f.rollouts(rewards, EVEN_IDS[:8]), f.rollouts(np.where(rewards == 0, 1e-6, rewards), EVEN_IDS[:8])
    if apart(zero, near) > 1e-4:
        worst = slice(4) if apart(zero[:4], near[:4]) > 1e-4 else slice(4, 8)
        fail(
            f"rewards {show(rewards[worst])} get {show(zero[worst])}, and with 0.000001 for each 0 {show(near[worst])}"
        )
    return "0 gets what 0.000001 gets"


@check("advantage", "groups")
def cancellation(f: AdvantageFunction) -> str:
    """float32 rewards of 1000 and a little get what the little alone gets, to a twentieth.

    A variance as E[x^2] - E[x]^2 in float32 loses it: that of NeMo-RL 0.6.0 takes 1000 +- 0.0094 for equal, and in a
    pull request of it a group of equal rewards of 0.95 got -2075, where rounding went the other way.
    """
    if moves_with_shift(f)[0] > 1e-4:
        not_applicable("a constant added to all rewards changes its advantages, see 'shift'")
    large = np.asarray(1000 + 0.01 * np.array([1.0, -1.0, 0.5, -0.25, 0.75, -0.5, 1.0, 0.0]), dtype=np.float32)
    small = large.astype(np.float64) - 1000
    try:
        given, wanted = (f.rollouts(x, EVEN_IDS[:8], dtype="float32") for x in (large, small))
    except CallError as error:
        raise FailedCheckError(f"with float32 rewards {error}") from None
    if not (np.abs(given - wanted) <= 0.05 * np.maximum(np.abs(wanted), np.abs(wanted).max() / 4)).all():
        fail(f"rewards 1000 + {show(small[:4])} get {show(given[:4])}; without the 1000, {show(wanted[:4])}")
    return f"rewards 1000 + {show(small[:4])} get {show(given[:4])}"


@check("advantage", "groups")
def integer_rewards(f: AdvantageFunction) -> str:
    """Rewards of ints get what the same floats get, or are refused.

    A result that is made like its input is of ints, and cuts advantages of 0.87 to 0.
    """
    rewards = _FOUR.copy()
    rewards[[1, 5]] = 3.0
    wanted = f.rollouts(rewards, EVEN_IDS[:8])
    try:
        given = f.rollouts(rewards, EVEN_IDS[:8], dtype="int64")
    except CallError as error:
        return f"it refuses ints: {error.text}"
    if apart(given, wanted) > CLOSE:
        fail(f"rewards {show(rewards[:4])} get {show(given[:4])} as ints and {show(wanted[:4])} as floats")
    return "the same as floats"
