"""Aggregations: the weight that the loss of a token has in that of the batch."""

from __future__ import annotations

from rollmath._arrays import choice
from rollmath.loss._check import require
from rollmath.loss._normalizer import Normalizer
from rollmath.rows import Rows

AGGREGATIONS = ("token_mean",)


def token_weight(who: str, aggregation: str, rows: Rows, normalizer: Normalizer) -> float:
    """``1 / tokens`` for the mean over all trained tokens of the step; 0 if there are none.

    Raises:
        ValueError: an unknown aggregation, or a normalizer that counts less than these rows have.
        TypeError: what is no Normalizer.
    """
    choice(who, "aggregation", aggregation, AGGREGATIONS)
    require(who, "normalizer", normalizer, Normalizer, "a Normalizer (see Normalizer.local)")
    trained = int(rows.trained.sum())
    if trained > normalizer.tokens:
        msg = (
            f"{who}(): 'normalizer' must count the whole step: normalizer.tokens is {normalizer.tokens}, "
            f"but these rows alone have {trained} trained tokens"
        )
        raise ValueError(msg)
    return 1 / normalizer.tokens if normalizer.tokens else 0.0
