"""Polychromic objectives: sets of trajectories that succeed in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, describe, floats, host, host_only, integers
from rollmath._checks import rows, whole
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, segment_mean
from rollmath.ragged import Ragged
from rollmath.tree._common import finite_at

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Polychromic(NamedTuple):
    """What :func:`polychromic` returns.

    Attributes:
        advantages: of each trajectory, ``[N]``: the mean over the sets that it is in, 0 if it is in none.
        set_advantages: of each set, ``[M]``.
        scores: of each set, ``[M]``.
    """

    advantages: Array
    set_advantages: Array
    scores: Array


def polychromic(
    returns: ArrayLike,
    signatures: Groups | ArrayLike | None,
    sets: ArrayLike,
    *,
    states: Groups | ArrayLike | None = None,
    diversity: ArrayLike | None = None,
) -> Polychromic:
    """Advantages that the members of a set share: ``A(S) = f(S) - mean_T f(T)``, ``f(S) = mean_{i in S}(R_i) d(S)``.

    ``d(S)`` is the fraction of distinct signatures in the set, so that ``f`` is high only where a set both succeeds and
    varies; ``T`` are the sets of the same state. Every member gets the advantage of its set, a failure that adds to the
    variety as well; in several sets, the mean. The method gives it to the tokens that follow the branch
    (:func:`polychromic_window`) and leaves GAE elsewhere.

    Args:
        returns: ``R``, one number a trajectory, ``[N]``, best in [0, 1] (a negative return is made less bad by lack of
            variety).
        signatures: what tells trajectories apart, one id each (rooms visited, final answer, ...), ``[N]``, or
            :class:`~rollmath.Groups`. None with ``diversity``.
        sets: numbers of the members of each set, ints ``[M, n]``, such as :func:`rollmath.tree.trajectory_sets`.
        states: state from which each trajectory was sampled, one id each, ``[N]``. Default: one for all.
        diversity: ``d`` of each set, ``[M]``, instead of the signatures'.

    Returns:
        A :class:`Polychromic`, in the kind and float type of ``returns``. Sets of equal scores have exactly 0.

    Raises:
        ValueError: wrong lengths; numbers out of range, twice in a set or of different states; values that are not
            finite; signatures as well as a diversity, or neither.
        TypeError: wrong dtype or rank.

    Source: arXiv 2509.25424; secondary description and a third-party implementation (read), which averages over the
    sets of a trajectory; unverified.

    >>> from rollmath.tree import trajectory_sets
    >>> sets = trajectory_sets([0, 0, 0, 0], size=2)
    >>> out = polychromic([1.0, 1.0, 0.0, 0.0], ["x", "x", "y", "z"], sets)
    >>> out.scores.tolist(), out.advantages.round(6).tolist()
    ([0.5, 0.5, 0.5, 0.5, 0.5, 0.0], [0.083333, 0.083333, -0.083333, -0.083333])
    """
    who = "polychromic"
    r, back = rows(who, "returns", returns)
    finite_at(who, "returns", r, "index")
    members = _members(who, sets, len(r))
    state = _ids(who, "states", np.zeros(len(r), np.int64) if states is None else states, len(r)).index[members]
    if len(bad := np.flatnonzero((state != state[:, :1]).any(axis=1))):
        msg = f"{who}(): 'sets' must have members of one state, but set {bad[0]} has several"
        raise ValueError(msg)
    n_sets, size = members.shape
    flat, number = members.ravel(), Groups(np.repeat(np.arange(n_sets), size))
    f = np.asarray(segment_mean(r[flat], number)) * _diversity(who, signatures, diversity, members, len(r))
    family = Groups(state[:, 0].copy())
    shared = f - gather(segment_mean(f, family), family)
    trajectories, out = Groups(flat), np.zeros(len(r))
    out[flat[trajectories.first]] = segment_mean(np.repeat(shared, size), trajectories)
    return Polychromic(back(out), back(shared), back(f))


def polychromic_window(base: Ragged, advantages: ArrayLike, branch: ArrayLike, *, width: int = 5) -> Ragged:
    """Set advantages where trajectories branched: ``A_i`` for ``branch_i <= t <= branch_i + width``, else ``base_t``.

    Args:
        base: advantages of tokens or steps, such as GAE, a :class:`~rollmath.Ragged` with one row a trajectory.
        advantages: one number a trajectory, ``[N]``.
        branch: position in each row at which the trajectory left the others, ints ``[N]``; -1 for none.
        width: positions after the branch that get it, too (5 in the paper); windows end with their row.

    Returns:
        A new :class:`~rollmath.Ragged` like ``base``, float; in its kind and float type.

    Raises:
        ValueError: wrong lengths, a branch below -1, values that are not finite, a negative width.
        TypeError: wrong dtype or rank, or a ``base`` that is no Ragged.

    Source: polychromic objectives, arXiv 2509.25424; see :func:`polychromic`.

    >>> gae = Ragged.from_lists([[0.1, 0.2, 0.3], [0.4, 0.5]])
    >>> polychromic_window(gae, [1.0, -1.0], [1, 0], width=0).to_lists()
    [[0.1, 1.0, 0.3], [-1.0, 0.5]]
    """
    who = "polychromic_window"
    if not isinstance(base, Ragged):
        msg = f"{who}(): 'base' must be a rollmath.Ragged, got {describe(base)}; make one with Ragged.from_padded"
        raise TypeError(msg)
    host_only(who, "base", base.values)
    flat, kind = floats(who, "base", base.values)
    n = len(base)
    a = rows(who, "advantages", advantages, n, "len(base)")[0]
    finite_at(who, "advantages", a, "index")
    at, _ = integers(who, "branch", branch, length=n, why="len(base)")
    if len(bad := np.flatnonzero(at < -1)):
        msg = f"{who}(): 'branch' must be at least -1 (none), got {at[bad[0]]} at index {bad[0]}"
        raise ValueError(msg)
    reach = whole(who, "width", width, least=0)
    counts = np.where(at < 0, 0, np.clip(base.lengths - at, 0, reach + 1))
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    out = flat.copy()
    out[np.repeat(base.offsets[:-1] + at, counts) + within] = np.repeat(a, counts)
    return base.with_values(kind.wrap(out))


def _members(who: str, sets: ArrayLike, n: int) -> NDArray[np.int64]:
    """Members of each set, ``[M, size]``."""
    array, _ = host(who, "sets", sets)
    if array.ndim != 2 or (array.size and array.dtype.kind not in "iu"):
        msg = f"{who}(): 'sets' must be a 2-D array of ints, one row a set, got {describe(array)}"
        raise TypeError(msg)
    if len(array) and not array.shape[1]:
        msg = f"{who}(): 'sets' must have members, got shape {array.shape}"
        raise ValueError(msg)
    members = np.ascontiguousarray(array, dtype=np.int64)
    if len(bad := np.flatnonzero((members < 0) | (members >= n))):
        row, got = bad[0] // members.shape[1], members.ravel()[bad[0]]
        msg = f"{who}(): 'sets' must hold numbers from 0 to {n - 1} (= len(returns) - 1), got {got} in set {row}"
        raise ValueError(msg)
    ordered = np.sort(members, axis=1)
    if len(bad := np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))):
        msg = f"{who}(): 'sets' must have each member once, but set {bad[0]} repeats one"
        raise ValueError(msg)
    return members


def _ids(who: str, name: str, ids: Groups | ArrayLike, n: int) -> Groups:
    made = as_groups(who, ids, name=name)
    if len(made) != n:
        msg = f"{who}(): {name!r} must have length {n} (= len(returns)), got {len(made)}"
        raise ValueError(msg)
    return made


def _diversity(
    who: str, signatures: Groups | ArrayLike | None, given: ArrayLike | None, members: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """``d`` of each set."""
    if (signatures is None) == (given is None):
        what = "one of them, got " + ("neither" if given is None else "both")
        msg = f"{who}(): 'signatures' and 'diversity' say the same thing; give {what}"
        raise ValueError(msg)
    if signatures is None:
        d = rows(who, "diversity", given, len(members), "len(sets)")[0]
        finite_at(who, "diversity", d, "set")
        return d
    seen = np.sort(_ids(who, "signatures", signatures, n).index[members], axis=1)
    out: NDArray[np.float64] = (1 + np.count_nonzero(np.diff(seen, axis=1), axis=1)) / members.shape[1]
    return out
