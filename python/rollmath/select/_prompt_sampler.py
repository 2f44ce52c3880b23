"""PromptSampler: which prompts to roll out next, by what is known of their success."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rollmath import _core, ops
from rollmath._arrays import ArrayLike, choice, frozen
from rollmath._checks import finite, flag, real, rows, whole
from rollmath.groups import Groups
from rollmath.ops._hash import seeded, unit
from rollmath.select import _prompt_priority as priorities
from rollmath.select._prompt_index import By, PromptIndex
from rollmath.select._prompt_priority import LARGEST, Priority, PromptStats
from rollmath.select._prompt_state import LAST, Columns, restored, saved

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Draws have words of their own: a seed that is used for ids as well gives others there.
_DRAWS = np.uint64(0xBB67AE8584CAA73B)

#: One lock for all samplers. Whoever forks takes it first, so that no child begins amid another thread's update, or
#: with a lock that nobody will ever release.
_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class PromptDraw(NamedTuple):
    """What :meth:`PromptSampler.draw` drew, in the order of the draws.

    Attributes:
        positions: of the prompts, in the order in which the sampler got them; int64.
        prompts: their ids: an int64 array if ids are integers, a tuple otherwise.
        probability: of each prompt, to be the one that is drawn first; float64.
    """

    positions: NDArray[np.int64]
    prompts: NDArray[np.int64] | tuple[Any, ...]
    probability: NDArray[np.float64]


class PromptSampler:
    """Draws prompts in proportion to a priority, ``P(i) = (1 - explore) w_i / sum(w) + explore / n``, and learns.

    The ``n`` prompts are those that are not retired. Each has a Beta(alpha, beta) posterior of its success rate, as
    :class:`~rollmath.group.BetaBaseline` has: an update turns alpha into ``decay alpha + successes`` and beta into
    ``decay beta + failures``. Its mean ``p = alpha / (alpha + beta)`` gives the priority ``w``, at least ``least``:

    - ``"uniform"``: 1.
    - ``"learnability"``: ``p (1 - p)``, the variance of a reward of 0 or 1.
    - ``"failure"``: ``1 - p`` (Kimi k1.5).
    - ``"nearest"``: ``exp(-abs(p - target) / width)``, or ``max(0, 1 - abs(p - target) / width)`` if ``kernel`` is
      ``"triangular"``.
    - a callable: takes :class:`PromptStats` of some prompts, returns one number each, finite and not negative. It is
      asked for the prompts of an update, and for all by :meth:`refresh`. It may read the sampler, and must not change
      it, nor wait for another thread that uses one.

    A draw and an update take O(log n) a prompt. Weights are summed in a tree in which each node is the sum of its two
    children: the state is a function of the weights alone, with no drift, so that a restored sampler draws what the one
    that was saved would have drawn. A weight of 0 is never drawn, but for the share ``explore``; a retired prompt is
    never drawn at all.

    Draws depend on the order of the prompts: ranks that build their samplers from the same list, and make the same
    updates, draw the same. It may be used by several threads at once; each call is atomic.

    Args:
        prompts: one id a prompt (strings, ints, UUIDs, tuples; one type), all different. ``range(n)`` is the cheapest:
            it needs no index.
        priority: see above.
        prior: alpha and beta of a prompt that was never seen, positive.
        decay: of alpha and beta at each update of a prompt, from 0 (the last update alone counts) to 1 (all alike).
        explore: share of draws in which all prompts that are not retired are equal, from 0 to 1.
        least: smallest priority.
        target: of ``"nearest"``: the success rate that is wanted, default 0.5.
        width: of ``"nearest"``: how far from it, default 0.25.
        kernel: of ``"nearest"``: ``"exponential"`` (default) or ``"triangular"``.

    Edge cases: with the priority ``"learnability"`` or ``"failure"`` a prompt that is always solved keeps a small
    weight as long as the prior counts (``decay=1``), and may reach 0 otherwise: ``least`` or ``explore`` keep it in
    play.

    What others do: prime-rl (commit 559b447, executed) takes the mean of the last group alone, ``decay=0`` here, puts
    prompts into pools by thresholds, gives unseen ones weight 1, and goes through all prompts for each draw. Trinity
    0.6.0 (executed) lets alpha and beta decay towards 1 instead of 0, for all prompts at every update, adds predicted
    counts to those that were not drawn, and draws by a softmax of ``-abs(p - target) / tau``: ``"nearest"`` with
    ``width=tau``. SPO (verl-recipe, read) keeps such counts as a baseline, and does not draw by them.

    Raises:
        ValueError: ids twice, options out of range, a priority that is negative or not finite.
        TypeError: ids of several types; no numbers.

    Source: prioritised sampling by ``1 - p``: Kimi k1.5, arXiv 2501.12599 (secondary description). Success rates near
    a target: BOTS, arXiv 2510.26374 (its code in Trinity executed). Discounted Beta counts: see
    :func:`~rollmath.group.single_stream`.

    >>> sampler = PromptSampler(["easy", "hard", "odd"], priority="learnability")
    >>> sampler.update(["easy", "hard", "odd"], [8, 0, 3], [8, 8, 8])
    >>> sampler.mean.round(2).tolist(), sampler.priority.round(2).tolist()
    ([0.9, 0.1, 0.4], [0.09, 0.09, 0.24])
    >>> sampler.draw(2, seed=2).prompts
    ('odd', 'hard')
    """

    def __init__(
        self,
        prompts: Groups | ArrayLike,
        *,
        priority: Priority = "uniform",
        prior: tuple[float, float] = (1.0, 1.0),
        decay: float = 1.0,
        explore: float = 0.0,
        least: float = 0.0,
        target: float | None = None,
        width: float | None = None,
        kernel: Literal["exponential", "triangular"] | None = None,
    ) -> None:
        who = "PromptSampler"
        if not isinstance(prior, (tuple, list)) or len(prior) != 2:
            msg = f"{who}(): 'prior' must be two numbers, got {prior!r}"
            raise TypeError(msg)
        self._options = {
            **priorities.options(who, priority, target, width, kernel),
            "prior": tuple(real(who, "prior", x, high=LARGEST, above=0.0) for x in prior),
            "decay": real(who, "decay", decay, 0.0, 1.0),
            "explore": real(who, "explore", explore, 0.0, 1.0),
            "least": real(who, "least", least, 0.0, LARGEST),
        }
        self._plant(self._new(who, PromptIndex.of(who, prompts)))

    # What is drawn.

    def draw(
        self,
        n: int,
        *,
        seed: int,
        replace: bool = False,
        exclude: Groups | ArrayLike | None = None,
        short: Literal["raise", "keep"] = "raise",
        by: By = "id",
    ) -> PromptDraw:
        """``n`` prompts in proportion to their priorities, one after the other.

        Without replacement, a prompt that was drawn has weight 0 in the draws after it. Draw number ``k`` depends on
        the weights by position, on ``(seed, k)``, and on the draws before it if they are without replacement: no
        generator has a state, and the first draws of a longer call are those of a shorter one.

        Args:
            n: draws, at least 1.
            seed: whole number of at least 0; another in every call, such as the step.
            replace: the same prompt may come several times.
            exclude: prompts that are not to be drawn, such as those in flight; repeats do no harm.
            short: fewer than ``n`` can be drawn: ``"raise"``, an error; ``"keep"``, all that can. None at all is always
                an error.
            by: whether ``exclude`` has ids or positions.

        Raises:
            ValueError: too few prompts, or none with a positive weight; an unknown prompt; a negative seed.
            TypeError: no whole number; ids of another type.
        """
        who = "PromptSampler.draw"
        size, key = whole(who, "n", n), whole(who, "seed", seed, least=0)
        again = flag(who, "replace", replace)
        choice(who, "short", short, ("raise", "keep"))
        explore: float = self._options["explore"]
        with _LOCK:
            index = self._columns.index
            out = np.zeros(0, np.int64) if exclude is None else index.find(who, exclude, by, name="exclude")
            draws = size if again else min(size, len(index))
            words = unit(seeded(np.arange(2 * draws, dtype=np.uint64) + _DRAWS, key)).reshape(draws, 2)
            u, coin = (np.ascontiguousarray(column) for column in words.T)
            positions, probability = self._tree.draw(who, u, coin, again, out)
        if not len(positions):
            what = "not retired" if explore else "of a positive priority"
            msg = f"{who}(): 'prompts' must have one that is {what} and not excluded, got none among {len(index)}"
            raise ValueError(msg)
        if len(positions) < size and short == "raise":
            msg = (
                f"{who}(): 'n' must be at most the prompts that can be drawn, {len(positions)}, got {size}; "
                "pass short='keep' for fewer"
            )
            raise ValueError(msg)
        return PromptDraw(positions, index.take(positions), probability)

    # What is learned.

    def update(
        self,
        prompts: Groups | ArrayLike,
        successes: ArrayLike,
        trials: ArrayLike | None = None,
        *,
        step: int | None = None,
        by: By = "id",
    ) -> None:
        """Takes in what rollouts of some prompts gave. All rows of a prompt are one update, in any order.

        Args:
            prompts: of each row; a prompt may have several, such as one a rollout.
            successes: of each row, from 0 to its trials; need not be whole, so rewards in [0, 1] will do.
            trials: of each row, finite and positive; None for 1 each.
            step: in which the rollouts were sampled, at least 0; None for one after the largest so far.
            by: whether ``prompts`` has ids or positions.

        Raises:
            ValueError: an unknown prompt, wrong lengths, successes outside 0 to trials, a bad priority by a callable.
                Nothing is changed then.
            TypeError: wrong dtype or rank; ids of another type.
        """
        who = "PromptSampler.update"
        with _LOCK:
            have = self._columns
            at = have.index.find(who, prompts, by)
            won, lost = _outcomes(who, have.index, at, successes, trials)
            now = whole(who, "step", have.step + 1 if step is None else step, least=0, most=LAST)
            groups = Groups(at)
            where = np.ascontiguousarray(at[groups.first])
            decay = self._options["decay"]
            with np.errstate(over="ignore"):
                alpha = decay * have.alpha[where] + ops.segment_sum(won, groups)
                beta = decay * have.beta[where] + ops.segment_sum(lost, groups)
                bad = np.flatnonzero(~np.isfinite(alpha + beta))
            if len(bad):
                prompt = have.index.name(where[bad[0]])
                msg = f"{who}(): 'trials' must add up to something finite, got more for the prompt {prompt!r}"
                raise ValueError(msg)
            steps = np.full(len(where), now, np.int64)
            weights = self._weigh(who, have.index, PromptStats(where, alpha, beta, have.visits[where] + 1, steps))
            self._tree.set(who, where, weights, have.active[where])
            have.alpha[where], have.beta[where], have.priority[where] = alpha, beta, weights
            have.visits[where] += 1
            have.last_step[where] = now
            have.step = max(have.step, now)

    def set_priorities(self, prompts: Groups | ArrayLike, values: ArrayLike, *, by: By = "id") -> None:
        """Gives prompts priorities from elsewhere, until their next update. ``least`` holds for them, too.

        Raises:
            ValueError: an unknown prompt or one twice, a wrong length, a value that is negative or not finite.
            TypeError: wrong dtype or rank; ids of another type.
        """
        who = "PromptSampler.set_priorities"
        with _LOCK:
            have = self._columns
            at = have.index.find(who, prompts, by, once=True)
            weights = self._checked(
                who, "values", have.index, at, rows(who, "values", values, len(at), "len(prompts)")[0]
            )
            self._tree.set(who, at, weights, have.active[at])
            have.priority[at] = weights

    def refresh(self) -> None:
        """Computes all priorities anew: for a callable that looks at the time, and in place of :meth:`set_priorities`.

        Raises:
            ValueError: a bad priority by a callable. Nothing is changed then.
        """
        who = "PromptSampler.refresh"
        with _LOCK:
            have = self._columns
            have.priority[:] = self._weigh(who, have.index, have.stats())
            self._plant(have)

    # Which prompts there are.

    def add(self, prompts: Groups | ArrayLike) -> None:
        """Adds prompts that were never seen, after the others. Copies the state: O(n).

        Raises:
            ValueError: an id that is there already, or twice. Nothing is changed then.
            TypeError: ids of another type.
        """
        who = "PromptSampler.add"
        with _LOCK:
            have = self._columns
            self._plant(have.followed_by(self._new(who, have.index.extended(who, prompts), len(have.index))))

    def retire(self, prompts: Groups | ArrayLike, *, by: By = "id") -> None:
        """Takes prompts out of all draws; what is known of them stays, and they may be updated.

        Raises:
            ValueError: an unknown prompt.
            TypeError: ids of another type.
        """
        self._activate("PromptSampler.retire", prompts, by, False)

    def enable(self, prompts: Groups | ArrayLike, *, by: By = "id") -> None:
        """Takes prompts that were retired back into the draws.

        Raises:
            ValueError: an unknown prompt.
            TypeError: ids of another type.
        """
        self._activate("PromptSampler.enable", prompts, by, True)

    def _activate(self, who: str, prompts: Groups | ArrayLike, by: By, active: bool) -> None:
        with _LOCK:
            have = self._columns
            at = have.index.find(who, prompts, by)
            self._tree.set(who, at, have.priority[at], np.full(len(at), active, np.uint8))
            have.active[at] = active

    # What it knows: copies, so that nobody writes to the state, and no array changes while it is read.

    def __len__(self) -> int:
        return len(self._columns.index)

    @property
    def prompts(self) -> NDArray[np.int64] | tuple[Any, ...]:
        """Ids by position: an array if they are integers, a tuple otherwise."""
        ids = self._columns.index.ids
        return tuple(ids) if isinstance(ids, list) else frozen(ids.copy())

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Of the posterior of each prompt; a read-only copy, as all of these."""
        return self._copy("alpha")

    @property
    def beta(self) -> NDArray[np.float64]:
        """Of the posterior of each prompt."""
        return self._copy("beta")

    @property
    def mean(self) -> NDArray[np.float64]:
        """Success rate of each prompt: the mean of its posterior."""
        with _LOCK:
            return frozen(self._columns.stats().mean)

    @property
    def visits(self) -> NDArray[np.int64]:
        """Updates in which each prompt took part."""
        return self._copy("visits")

    @property
    def last_step(self) -> NDArray[np.int64]:
        """Step of the last update of each prompt; -1 for none."""
        return self._copy("last_step")

    @property
    def priority(self) -> NDArray[np.float64]:
        """What each prompt is drawn in proportion to; 0 if it is retired."""
        with _LOCK:
            have = self._columns
            return frozen(np.where(have.active, have.priority, 0.0))

    @property
    def retired(self) -> NDArray[np.bool_]:
        """Whether each prompt is out of all draws."""
        with _LOCK:
            return frozen(self._columns.active == 0)

    def _copy(self, name: str) -> NDArray[Any]:
        with _LOCK:
            return frozen(getattr(self._columns, name).copy())

    def __repr__(self) -> str:
        how = self._options["priority"]
        named = repr(how) if isinstance(how, str) else getattr(how, "__name__", type(how).__name__)
        with _LOCK:
            seen, gone = np.count_nonzero(self._columns.visits), np.count_nonzero(self._columns.active == 0)
        return f"PromptSampler({len(self)} prompts, {seen} seen, {gone} retired, priority={named})"

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain values and arrays, for a checkpoint; pickling works, too."""
        with _LOCK:
            return saved(self._options, self._columns)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned, in place of everything.

        The prompts of this sampler must be the first of those saved, in the same order, since positions count; what was
        added later comes along. Options must be the same; of a callable only that there is one. To go on with others,
        put them into ``state["options"]``, load, and :meth:`refresh`.

        Raises:
            ValueError: a state of another version, with other options or prompts, or that does not fit together.
                Nothing is changed then.
            TypeError: no mapping.
        """
        who = "PromptSampler.load_state_dict"
        with _LOCK:
            self._plant(restored(who, state, self._options, self._columns.index))

    def __getstate__(self) -> dict[str, Any]:
        with _LOCK:
            return {"options": dict(self._options), "columns": self._columns.copied()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options = state["options"]
        self._plant(state["columns"])

    # How it works.

    def _new(self, who: str, index: PromptIndex, first: int = 0) -> Columns:
        """The state of prompts from position ``first`` on that were never seen."""
        n = len(index) - first
        made = Columns.unseen(index, first, self._options["prior"])
        stats = made.stats(first)
        # Most often one number for all: but a callable may tell positions apart.
        if n and not callable(self._options["priority"]):
            made.priority[:] = self._weigh(who, index, made.stats(first, first + 1))[0]
        else:
            made.priority[:] = self._weigh(who, index, stats)
        return made

    def _weigh(self, who: str, index: PromptIndex, stats: PromptStats) -> NDArray[np.float64]:
        before = self.__dict__.get("_columns")
        with np.errstate(under="ignore"):
            x = priorities.weights(who, self._options, stats)
        if self.__dict__.get("_columns") is not before:
            msg = f"{who}(): 'priority' must not change its sampler; call add() or load_state_dict() elsewhere"
            raise RuntimeError(msg)
        return self._checked(who, "priority", index, stats.positions, x)

    def _checked(
        self, who: str, name: str, index: PromptIndex, at: NDArray[np.int64], x: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if len(bad := np.flatnonzero(~((x >= 0) & (x <= LARGEST)))):
            msg = (
                f"{who}(): {name!r} must be between 0 and {LARGEST:g}, got {x[bad[0]]:g} for the prompt "
                f"{index.name(at[bad[0]])!r}"
            )
            raise ValueError(msg)
        return np.asarray(np.maximum(x, self._options["least"]), np.float64)

    def _plant(self, columns: Columns) -> None:
        self._tree = _core.Sampler("PromptSampler", columns.priority, columns.active, self._options["explore"])
        self._columns = columns


def _outcomes(
    who: str, index: PromptIndex, at: NDArray[np.int64], successes: ArrayLike, trials: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Successes and failures of each row."""
    all_rows = np.ones(len(at), bool)
    won, _ = rows(who, "successes", successes, len(at), "len(prompts)")
    of = np.ones(len(at)) if trials is None else rows(who, "trials", trials, len(at), "len(prompts)")[0]
    finite(who, "trials", of, all_rows, must="finite and positive")
    if len(bad := np.flatnonzero(~((won >= 0) & (won <= of)))):
        i = bad[0]
        msg = (
            f"{who}(): 'successes' must be from 0 to the trials, {of[i]:g}, got {won[i]:g} at index {i}, "
            f"of the prompt {index.name(at[i])!r}"
        )
        raise ValueError(msg)
    return won, of - won
