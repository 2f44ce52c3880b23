"""HintLadder: how much of a hint each prompt gets, by whether its rollouts all failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import ops
from rollmath._arrays import ArrayLike, choice, integers
from rollmath._checks import required_mask, whole
from rollmath.groups import Groups
from rollmath.select._prompt_index import By, PromptIndex
from rollmath.select._prompt_state import check_column, check_options, check_prompts, check_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VERSION = 1


class HintLadder:
    """A hint level for each prompt: ``level <- min(level + 1, levels)`` if all of its rollouts failed.

    Level 0 is the prompt alone, ``levels`` the most of a hint that there is; what a level shows is yours. A group that
    fails altogether has advantages of 0, and teaches nothing until some of its rollouts succeed.

    - GHPO: ``levels=3`` for 25, 50 and 75 % of the solution. Up to three times within one step, :meth:`advance` the
      prompts that failed, and roll them out again; then :meth:`reset` them all, since each step begins without hints.
    - Scaf-GRPO: roll out each prompt that failed at all of its 8 or 12 levels, and :meth:`settle` on the smallest that
      solved it; :meth:`reset` likewise. Both begin after a warm-up: until then, call none of these.
    - A hint of one size for hard prompts, as POPE's prefixes of an oracle: ``levels=1``.

    A response to a prompt with a hint is off-policy for the prompt without. Train it in the context in which it was
    sampled, hint included; where the hint is taken away, the old log-probabilities must be computed anew under the
    context that is trained, and the ratio between the two contexts is no ratio of two policies.

    Args:
        prompts: one id a prompt (strings, ints, UUIDs, tuples; one type), all different.
        levels: the top of the ladder, at least 1.
        success: where a prompt goes of which a rollout succeeded: ``"stay"`` (levels never fall), ``"down"`` by one, or
            ``"reset"`` to 0.

    Raises:
        ValueError: an id twice, ``levels`` below 1.
        TypeError: ids of several types; no whole number.

    Source: GHPO, arXiv 2507.10628 (official code read, commit af0a7dd); Scaf-GRPO, arXiv 2510.19807 (official code
    read, commit 1085db5: its warm-up is 50 steps); POPE (secondary description).

    >>> ladder = HintLadder(["p", "q"], levels=3)
    >>> ladder.advance(["p", "p", "q", "q"], failed=[1, 1, 0, 1]).tolist()
    [1, 1, 0, 0]
    >>> ladder.settle(["p", "p", "p"], tried=[1, 2, 3], solved=[0, 1, 1]).tolist()
    [2, 2, 2]
    """

    def __init__(
        self, prompts: Groups | ArrayLike, *, levels: int, success: Literal["stay", "down", "reset"] = "stay"
    ) -> None:
        who = "HintLadder"
        self._levels = whole(who, "levels", levels, most=2**53)
        choice(who, "success", success, ("stay", "down", "reset"))
        self._success = success
        self._index = PromptIndex.of(who, prompts)
        self._level = np.zeros(len(self._index), np.int64)

    @property
    def levels(self) -> int:
        """The top of the ladder."""
        return self._levels

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        hinted = np.count_nonzero(self._level)
        return f"HintLadder({len(self)} prompts, {hinted} hinted, levels={self._levels}, success={self._success!r})"

    def levels_of(self, prompts: Groups | ArrayLike, *, by: By = "id") -> NDArray[np.int64]:
        """The level of the prompt of each row, int64.

        Raises:
            ValueError: an unknown prompt.
            TypeError: ids of another type.
        """
        return self._level[self._index.find("HintLadder.levels_of", prompts, by)]

    def advance(self, prompts: Groups | ArrayLike, failed: ArrayLike, *, by: By = "id") -> NDArray[np.int64]:
        """Moves each prompt by what its rollouts at its present level gave.

        Args:
            prompts: of each row; a prompt may have several, such as one a rollout.
            failed: whether the row failed (bool or int, nonzero = True). A prompt fails if all its rows do: it goes one
                level up, however many they are, and stays at the top if it is there.
            by: whether ``prompts`` has ids or positions.

        Returns:
            The new level of the prompt of each row, int64.

        Raises:
            ValueError: an unknown prompt, a wrong length. Nothing is changed then.
            TypeError: no mask; ids of another type.
        """
        who = "HintLadder.advance"
        at = self._index.find(who, prompts, by)
        bad = required_mask(who, "failed", failed, len(at), "len(prompts)")
        groups = Groups(at)
        where = at[groups.first]
        level = self._level[where]
        solved = {"stay": level, "down": np.maximum(level - 1, 0), "reset": np.zeros_like(level)}[self._success]
        all_failed = ops.segment_count(groups, valid=~bad) == 0
        self._level[where] = np.where(all_failed, np.minimum(level + 1, self._levels), solved)
        return self._level[at]

    def settle(
        self, prompts: Groups | ArrayLike, tried: ArrayLike, solved: ArrayLike, *, by: By = "id"
    ) -> NDArray[np.int64]:
        """Puts each prompt on the smallest level that solved it; if none did, on the one above the largest tried.

        Args:
            prompts: of each row.
            tried: level of the hint in each row, from 0 to ``levels``.
            solved: whether the row succeeded (bool or int, nonzero = True).
            by: whether ``prompts`` has ids or positions.

        Returns:
            The new level of the prompt of each row, int64.

        Raises:
            ValueError: an unknown prompt, a wrong length, a level that does not exist. Nothing is changed then.
            TypeError: no integers, no mask; ids of another type.
        """
        who = "HintLadder.settle"
        at = self._index.find(who, prompts, by)
        level, _ = integers(who, "tried", tried, length=len(at), why="len(prompts)")
        check_column(who, "tried", level, (level >= 0) & (level <= self._levels), f"between 0 and {self._levels}")
        good = required_mask(who, "solved", solved, len(at), "len(prompts)")
        groups = Groups(at)
        least = ops.segment_min(np.where(good, level, self._levels + 1), groups)
        above = np.minimum(ops.segment_max(level, groups) + 1, self._levels)
        self._level[at[groups.first]] = np.where(least > self._levels, above, least)
        return self._level[at]

    def reset(self, prompts: Groups | ArrayLike, *, by: By = "id") -> None:
        """Puts prompts back to level 0.

        Raises:
            ValueError: an unknown prompt.
            TypeError: ids of another type.
        """
        self._level[self._index.find("HintLadder.reset", prompts, by)] = 0

    def add(self, prompts: Groups | ArrayLike) -> None:
        """Adds prompts, at level 0.

        Raises:
            ValueError: an id that is there already, or twice. Nothing is changed then.
            TypeError: ids of another type.
        """
        index = self._index.extended("HintLadder.add", prompts)
        self._level = np.concatenate([self._level, np.zeros(len(index) - len(self), np.int64)])
        self._index = index

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain values and arrays, for a checkpoint; pickling works, too."""
        saved = {"prompts": self._index.saved(), "level": self._level.copy()}
        return {"version": _VERSION, "options": self._options, **saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned.

        The prompts of this ladder must be the first of those saved, in the same order; options must be the same.

        Raises:
            ValueError: a state of another version, with other options or prompts, or that does not fit together.
                Nothing is changed then.
            TypeError: no mapping.
        """
        who = "HintLadder.load_state_dict"
        check_state(who, state, {"version", "options", "prompts", "level"}, _VERSION)
        check_options(who, state["options"], self._options)
        index = check_prompts(who, state["prompts"], self._index)
        level, _ = integers(who, "level", state["level"], length=len(index), why="len(prompts)")
        check_column(who, "level", level, (level >= 0) & (level <= self._levels), f"between 0 and {self._levels}")
        self._index, self._level = index, np.array(level)

    @property
    def _options(self) -> dict[str, Any]:
        return {"levels": self._levels, "success": self._success}
