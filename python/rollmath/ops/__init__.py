"""Primitives that methods are composed of; public, so that your own method has what ours have."""

from rollmath._convention import Whiten
from rollmath.ops._expand import expand
from rollmath.ops._forest import parent, up
from rollmath.ops._moments import Moments, moments
from rollmath.ops._normalize import BetaPdf, LogMeanExp, Quantile, WeightedMean, normalize
from rollmath.ops._project import Projection, ProjectionStatus, order_project
from rollmath.ops._scan import discounted_sum
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
from rollmath.ops._whiten import whiten

__all__ = [
    "BetaPdf",
    "LogMeanExp",
    "Moments",
    "Projection",
    "ProjectionStatus",
    "Quantile",
    "WeightedMean",
    "Whiten",
    "discounted_sum",
    "expand",
    "gather",
    "loo_mean",
    "moments",
    "normalize",
    "order_project",
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
    "whiten",
]
