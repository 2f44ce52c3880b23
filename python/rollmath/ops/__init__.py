"""Primitives that methods are composed of; public, so that your own method has what ours have."""

from rollmath.ops._forest import parent, up
from rollmath.ops._normalize import BetaPdf, LogMeanExp, Quantile, WeightedMean, normalize
from rollmath.ops._segment import (
    gather,
    loo_mean,
    segment_count,
    segment_logmeanexp,
    segment_max,
    segment_mean,
    segment_min,
    segment_quantile,
    segment_std,
    segment_sum,
    segment_var,
    segment_weighted_mean,
)

__all__ = [
    "BetaPdf",
    "LogMeanExp",
    "Quantile",
    "WeightedMean",
    "gather",
    "loo_mean",
    "normalize",
    "parent",
    "segment_count",
    "segment_logmeanexp",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_quantile",
    "segment_std",
    "segment_sum",
    "segment_var",
    "segment_weighted_mean",
    "up",
]
