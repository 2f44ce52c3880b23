"""Ratios of two policies, in logs: the declared direction, tokens that the sampler did not score, and bounds."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch

from rollmath._arrays import choice
from rollmath._checks import real
from rollmath.loss._score import behaviour_of
from rollmath.loss._tokens import Tokens, equal

Ratio: TypeAlias = Literal[
    "prox/behaviour", "theta/behaviour", "theta/prox", "behaviour/prox", "behaviour/theta", "prox/theta"
]
RatioLevel: TypeAlias = Literal["token", "turn", "row", "rollout"]
Missing: TypeAlias = Literal["nan", "one", "zero"]

RATIOS = ("prox/behaviour", "theta/behaviour", "theta/prox", "behaviour/prox", "behaviour/theta", "prox/theta")
LEVELS = ("token", "turn", "row", "rollout")
MISSING = ("nan", "one", "zero")

# Log-probabilities stop here, so that -inf in both policies, or infinite ratios of both signs in one row, are not NaN.
# No real one is as far; its square still fits float32, and float64 holds the sum of a row of them.
FAR = 1e15
#: Where exponentials stop: rows of them have a finite sum in float64.
LARGEST = torch.finfo(torch.float32).max


def log_ratio(who: str, tokens: Tokens, ratio: str, missing: str = "nan") -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log of the ratio of each token, and 1.0 where its ``behaviour`` is a number; None if ``missing`` is "nan".

    With the others, a token whose behaviour is NaN has log-ratio 0. The NaN of another policy stays.
    """
    present: torch.Tensor | None = None

    def column(name: str) -> torch.Tensor:
        nonlocal present
        if name != "behaviour":
            x: torch.Tensor = getattr(tokens, name)
            return x.clamp(-FAR, FAR)
        x = behaviour_of(who, tokens)
        if missing == "nan":
            return x.clamp(-FAR, FAR)
        present = equal(x, x)
        return x.nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR).clamp_(-FAR, FAR)

    above, below = ratio.split("/")
    x = column(above) - column(below)
    return (x if present is None else x.mul_(present)), present


def log(x: float) -> float:
    """Natural logarithm with ``log(0) = -inf``."""
    return math.log(x) if x > 0 else -math.inf


def interval(who: str, value: object, least: float) -> tuple[float, float]:
    """``bounds``: ``(lo, hi)`` with ``least <= lo <= hi``, maybe infinite; one number is ``(least, hi)``.

    Raises:
        ValueError: not two, NaN, or out of order.
        TypeError: not numbers.
    """
    pair = tuple(value) if isinstance(value, (tuple, list)) else (least, value)
    if len(pair) != 2:
        msg = f"{who}(): 'bounds' must be (lo, hi) or one number, the upper bound, got {value!r}"
        raise ValueError(msg)
    lo, hi = (x if isinstance(x, float) and math.isinf(x) else real(who, "bounds", x) for x in pair)
    if not least <= lo <= hi or (least == 0 and hi == 0):
        order = "0 <= lo <= hi and hi above 0" if least == 0 else "lo <= hi"
        msg = f"{who}(): 'bounds' must be (lo, hi) with {order}, got {value!r}"
        raise ValueError(msg)
    return float(lo), float(hi)


def check_level(who: str, level: str, ratio: str, missing: str, ratios: tuple[str, ...] = RATIOS) -> None:
    """The options that corrections share.

    Raises:
        ValueError: an unknown choice.
    """
    choice(who, "level", level, LEVELS)
    choice(who, "ratio", ratio, ratios)
    choice(who, "missing", missing, MISSING)
