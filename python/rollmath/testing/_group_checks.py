"""Checks of group statistics: whose mean and standard deviation it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._audit import audit
from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._cases import EVEN, EVEN_IDS, ROWS, UNEVEN, UNEVEN_IDS, apart, show
from rollmath.testing._registry import CallError, Remark, check, fail, not_applicable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath._audit_match import Match

#: Two float32 results that mean the same.
CLOSE = 1e-5
_BATCHES = {"batch": "the whole batch as one group", "consecutive": "slices by position as groups"}


@check("advantage")
def runs(f: AdvantageFunction) -> str:
    """It runs: four groups of four different rewards give as many finite numbers.

    Where it does not, no other check means anything. NumPy arrays are tried, then torch tensors; a function that takes
    or returns something else is wrapped: ``lambda rewards, groups: fn(rewards.tolist(), groups.tolist())``.
    """
    out = f.rollouts(EVEN, EVEN_IDS) if "groups" in f.has else f.tokens(ROWS)[0][ROWS.mask]
    if not np.isfinite(out).all():
        fail(f"ordinary rewards {show(EVEN[:4])} give {show(out[:4])}")
    return f"called with {f.way}: {len(out)} finite advantages"


def formulas(f: AdvantageFunction, rewards: NDArray[Any], ids: NDArray[Any]) -> tuple[Match | None, Match | None]:
    """The known formula whose numbers these are, or None; and the nearest one."""
    out = f.rollouts(rewards, ids)
    found = audit(rewards, ids, out, tolerance=CLOSE).matches
    fits = [m for m in found if m.off == 0]
    return (fits[0] if fits else None), (found[0] if found else None)


def _asked(f: AdvantageFunction, match: Match) -> bool:
    return f.formula is None or any(f.formula in {name, name.partition(" ")[2]} for name in match.names)


def _named(match: Match) -> str:
    # "DEFAULT" says something to those who know rollmath.
    names, more = sorted(match.names, key=lambda name: name.startswith("DEFAULT ")), len(match.names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


@check("advantage", "groups")
def group_statistics(f: AdvantageFunction) -> str:
    """Groups of equal size: mean and standard deviation are those of the group, by a formula that has a name.

    Trainers differ in eps, ddof and what they divide by, and code that was copied drifts; a batch taken for one
    group, or groups taken by position, still trains, on other numbers.
    """
    match, nearest = formulas(f, EVEN, EVEN_IDS)
    if match and match.grouping != "ids":
        out = f.rollouts(EVEN, EVEN_IDS)
        fail(
            f"these are the numbers of {_named(match)} with {_BATCHES[match.grouping]}: rewards {show(EVEN[:4])} of "
            f"the first of four groups get {show(out[:4])}"
        )
    if match and _asked(f, match):
        return f"follows {_named(match)}"
    if f.formula is not None:
        is_ = f"follows {_named(match)}" if match else f"follows no formula known here; rewards {show(EVEN[:4])} get "
        fail(f"{f.formula} was asked for, and it {is_}{'' if match else show(f.rollouts(EVEN, EVEN_IDS)[:4])}")
    near = f"; the nearest is {nearest.names[0]}, off by {nearest.difference:.2g}" if nearest else ""
    return Remark(f"follows no formula known here{near}")


@check("advantage", "groups")
def partition(f: AdvantageFunction) -> str:
    """Other groups in the batch change nothing: a group alone gets what it gets among others.

    An advantage that depends on which prompts share a batch changes with the batch size, the number of ranks and the
    filter. Whitening over the batch does this on purpose (REINFORCE++, GDPO); a second normalisation that nobody asked
    for does it by accident, as in reports to axon-rl/gem and amazon-science/reskill.
    """
    together = f.rollouts(EVEN, EVEN_IDS)
    for g in range(4):
        rows = g == EVEN_IDS
        alone = f.rollouts(EVEN[rows], np.zeros(4, dtype=np.int64))
        if apart(together[rows], alone) > CLOSE:
            fail(f"rewards {show(EVEN[rows])} get {show(alone)} alone and {show(together[rows])} among three others")
    return "a group alone gets what it gets among others"


def depends_on_others(f: AdvantageFunction) -> bool:
    """Whether another group in the batch changes an advantage, by more than rounding."""
    rows = EVEN_IDS < 1
    return apart(f.rollouts(EVEN, EVEN_IDS)[rows], f.rollouts(EVEN[rows], EVEN_IDS[rows])) > CLOSE


@check("advantage", "groups", "ids")
def uneven_groups(f: AdvantageFunction) -> str:
    """Groups of different sizes: each gets what it would get alone, by the formula of groups of equal size.

    slime 0.3.1 normalises the whole batch as one group when the number of rollouts is not the expected one; in its
    issue three rewards of 5.0 get -1.09. AReaL, by a pull request, divided what was left over from slices of the group
    size by eps: ``[1, 2, 3]`` in slices of two gave 300000.
    """
    together, other = f.rollouts(UNEVEN, UNEVEN_IDS), depends_on_others(f)
    for g in range(4):
        rows = g == UNEVEN_IDS
        if not other:
            alone = f.rollouts(UNEVEN[rows], np.zeros(np.count_nonzero(rows), dtype=np.int64))
            if apart(together[rows], alone) > CLOSE:
                fail(
                    f"in groups of 3, 2, 4 and 2, rewards {show(UNEVEN[rows])} get {show(together[rows])}; "
                    f"alone they get {show(alone)}"
                )
    even, uneven = formulas(f, EVEN, EVEN_IDS)[0], formulas(f, UNEVEN, UNEVEN_IDS)[0]
    if even and even.grouping == "ids" and not (uneven and set(even.names) & set(uneven.names)):
        by = f"that of {_named(uneven)}" if uneven else "none that is known here"
        fail(
            f"for groups of four the formula is {even.names[0]}, for groups of 3, 2, 4 and 2 it is {by}: rewards "
            f"{show(UNEVEN[:3])} get {show(together[:3])}"
        )
    if other and not (even and even.grouping == "ids"):
        not_applicable("its numbers depend on the other groups, see 'partition'")
    return "each group gets what it gets alone"


@check("advantage", "groups", "ids")
def interleaved_groups(f: AdvantageFunction) -> str:
    """Groups whose rows are not adjacent get the same numbers as groups in slices.

    Rows arrive in the order in which rollouts end, are sorted by length, or come from several ranks; a group by
    position is then of other prompts ("rewards not grouped as expected" in an issue of TRL, with two GPUs).
    """
    order = np.arange(16).reshape(4, 4).T.ravel()
    sliced, mixed = f.rollouts(EVEN, EVEN_IDS), f.rollouts(EVEN[order], EVEN_IDS[order])
    if apart(mixed, sliced[order]) > CLOSE:
        fail(
            f"rewards {show(EVEN[:4])} of one group get {show(sliced[:4])} as rows 0 to 3 and "
            f"{show(mixed[[0, 4, 8, 12]])} as rows 0, 4, 8, 12"
        )
    return "the same numbers as in slices"


@check("advantage", "groups")
def order(f: AdvantageFunction) -> str:
    """The order of groups, and of rows in a group, moves advantages and changes none.

    Otherwise a shuffle, or another number of workers, is another training run.
    """
    rows = np.arange(16).reshape(4, 4)[::-1, ::-1].ravel()
    first, second = f.rollouts(EVEN, EVEN_IDS), f.rollouts(EVEN[rows], np.repeat(np.arange(4), 4))
    if apart(second, first[rows]) > CLOSE:
        fail(f"rewards {show(EVEN[12:])} get {show(first[12:])}, and from the last to the first {show(second[:4])}")
    return "permuted rows get permuted advantages"


@check("advantage", "groups")
def order_bits(f: AdvantageFunction) -> str:
    """Permuted rows get the same bits.

    A sum in float32 depends on the order of its terms; two runs that only differ in the order of rows then drift apart,
    which makes a real difference hard to find.
    """
    rng = np.random.default_rng(0)
    rewards = np.asarray(rng.random((64, 8)), dtype=np.float32)
    ids, within = np.repeat(np.arange(64), 8), rng.permutation(8)
    first = f.rollouts(rewards.ravel(), ids, dtype="float32").reshape(64, 8)
    second = f.rollouts(rewards[:, within].ravel(), ids, dtype="float32").reshape(64, 8)
    off = first[:, within] != second
    if off.any():
        gap = np.abs(first[:, within] - second)[off]
        return Remark(f"{off.mean():.0%} of 512 float32 advantages change, by at most {gap.max():.2g}")
    return "no bit of 512 advantages changes"


@check("advantage", "groups", "ids")
def singletons(f: AdvantageFunction) -> str:
    """A group of one gets a finite number of ordinary size, and harms no other group.

    The sample standard deviation of one reward is NaN; slime 0.3.1 returns it, and one such row makes the loss NaN. A
    guard by eps alone returns the reward times a million. What is right is a choice: verl's GRPO returns the reward,
    TRL 0.
    """
    rewards = np.array([1.0, 0.25, 0.5, 0.7, 2.0, 1.0])
    ids = np.array([0, 0, 0, 1, 2, 2])
    try:
        out = f.rollouts(rewards, ids)
    except CallError as error:
        if error.refusal:
            return Remark(f"it refuses groups of one: {error.text}")
        raise
    x = out[3]
    if not np.isfinite(x) or abs(x) > 100:
        fail(f"the only reward of its group, 0.7, gets {show(x)}")
    if not np.isfinite(out).all():
        fail(f"with a group of one in the batch, rewards {show(rewards[:3])} of another group get {show(out[:3])}")
    lone = "0" if x == 0 else "its reward" if abs(x - 0.7) < 1e-4 else show(x)
    return f"the only reward of its group, 0.7, gets {lone}"
