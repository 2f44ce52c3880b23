"""Checks of what a call does beside its result."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import is_tensor
from rollmath.testing._advantage import AdvantageFunction, Call
from rollmath.testing._cases import EVEN, EVEN_IDS, ROWS, show
from rollmath.testing._registry import Remark, check, fail

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _one_call(f: AdvantageFunction) -> Call:
    if "groups" in f.has:
        f.rollouts(EVEN, EVEN_IDS)
    else:
        f.tokens(ROWS)
    assert f.last is not None
    return f.last


@check("advantage")
def inputs_mutated(f: AdvantageFunction) -> str:
    """The inputs are as they were.

    Rewards that are centred in place are logged, and used again in the next epoch, as something else.
    """
    call = _one_call(f)
    for given, before in zip(call.given, call.before, strict=True):
        if is_tensor(given) or isinstance(given, np.ndarray):
            now, then = np.asarray(given), np.asarray(before)
            if now.shape != then.shape:
                fail(f"an input of shape {list(then.shape)} has the shape {list(now.shape)} after the call")
            both_nan = (now != now) & (then != then)  # noqa: PLR0124 - ids are objects
            changed = (now != then) & ~both_nan
            if changed.any():
                fail(f"an input of {show(then[changed][:4])} is {show(now[changed][:4])} after the call")
    return "all inputs are as they were"


@check("advantage")
def aliasing(f: AdvantageFunction) -> str:
    """Advantages share no memory with the returns, or with an input.

    Whoever whitens the advantages in place then changes the targets of the critic too. In verl 0.9.1's outcome
    estimators advantages and returns are one tensor.
    """
    call = _one_call(f)
    out = call.out if isinstance(call.out, tuple) else (call.out,)
    first = _memory(out[0])
    if len(out) > 1 and _shared(first, _memory(out[1])):
        return Remark("advantages and returns are the same memory: a change in place of one is one of both")
    if any(_shared(first, _memory(given)) for given in call.given):
        return Remark("the advantages are an input's memory: a change in place of one is one of both")
    return "the result has memory of its own"


def _memory(x: Any) -> NDArray[Any] | None:
    if is_tensor(x):
        torch = sys.modules["torch"]
        x = x.detach().cpu()
        return np.asarray(x.view(torch.int16) if x.dtype == torch.bfloat16 else x)
    return x if isinstance(x, np.ndarray) else None


def _shared(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return a is not None and b is not None and bool(np.shares_memory(a, b))


@check("advantage")
def determinism(f: AdvantageFunction) -> str:
    """Four calls with the same inputs give the same bits.

    Noise or a subsample from the global generator makes every run another one, and a resumed one yet another.
    """

    def once() -> NDArray[np.float64]:
        return f.rollouts(EVEN, EVEN_IDS) if "groups" in f.has else f.tokens(ROWS)[0].ravel()

    first = once()
    for _ in range(3):
        again = once()
        off = ~((again == first) | (np.isnan(again) & np.isnan(first)))
        if off.any():
            fail(f"two calls with the same inputs give {show(first[off])} and {show(again[off])}")
    return "four calls give the same bits"
