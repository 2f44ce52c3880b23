"""Checks of group ids: names, not numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rollmath.testing._advantage import AdvantageFunction
from rollmath.testing._cases import apart, show
from rollmath.testing._group_checks import CLOSE
from rollmath.testing._registry import CallError, Remark, check, fail, not_applicable

_REWARDS = np.array([1.0, 0.0, 0.5, 2.0, 3.0, 2.5])
#: Two ids that are different, and that some reading of them makes one.
_STRINGS = (("7", "07"), ("10", "1_0"), ("3", " 3"), ("a", "A"), ("prompt", "prompt "))
#: 2^53 and its neighbour are one float64.
_INTEGERS = ((-1, -2), (0, -1), (2**53, 2**53 + 1), (7, 2**62))


def _compare(f: AdvantageFunction, pairs: tuple[tuple[Any, Any], ...], kind: str) -> str:
    wanted = f.rollouts(_REWARDS, np.array([0, 0, 0, 1, 1, 1]))
    refused: list[tuple[Any, Any, str]] = []
    for one, other in pairs:
        ids = [one] * 3 + [other] * 3
        try:
            out = f.rollouts(_REWARDS, ids)
        except CallError as error:
            if kind == "ints" and not error.refusal:
                fail(f"with the ids {one!r} and {other!r} {error}")
            refused.append((one, other, error.text))
            continue
        if apart(out, wanted) > CLOSE:
            fail(
                f"rewards {show(_REWARDS[:3])} of {one!r} and {show(_REWARDS[3:])} of {other!r} get {show(out)}; "
                f"with the ids 0 and 1 they get {show(wanted)}"
            )
    if len(refused) == len(pairs):
        not_applicable(f"it refuses such ids: {refused[0][2]}")
    if refused:
        one, other, text = refused[0]
        return Remark(f"it refuses the ids {one!r} and {other!r}: {text}")
    return f"ids of {kind} are told apart"


@check("advantage", "groups", "ids")
def string_ids(f: AdvantageFunction) -> str:
    """Ids of strings that differ are different groups: '7' and '07', '10' and '1_0', '3' and ' 3', 'a' and 'A'.

    Ids that are read as numbers merge prompts: verl 0.9.1's ``grpo_vectorized`` takes '7' and '07' for one group.
    """
    return _compare(f, _STRINGS, "strings")


@check("advantage", "groups", "ids")
def integer_ids(f: AdvantageFunction) -> str:
    """Ids of ints are names: negative ones, and large ones that float64 does not tell apart.

    A table as long as the largest id, or a cast to float, raises, takes gigabytes, or merges two prompts; a hash as an
    id is a large int, and a missing one -1.
    """
    return _compare(f, _INTEGERS, "ints")
