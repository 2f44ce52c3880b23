"""Primitives that methods are composed of; public, so that your own method has what ours have."""

from rollmath._convention import Whiten
from rollmath.ops._backup import backup
from rollmath.ops._cut_expand import expand_segments, segment_of
from rollmath.ops._cut_lengths import cut_by_count, cut_by_length
from rollmath.ops._cut_tokens import cut_by_delimiter, cut_by_probability, cut_by_surprisal
from rollmath.ops._expand import expand
from rollmath.ops._forest import NodeWeights, leaf_to_node_weights, up
from rollmath.ops._forest_down import down, parent, root
from rollmath.ops._graph import graph_backup, graph_distance
from rollmath.ops._leaf_stat import leaf_stat
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
from rollmath.ops._segment_broadcast import segment_broadcast
from rollmath.ops._whiten import whiten

__all__ = [
    "BetaPdf",
    "LogMeanExp",
    "Moments",
    "NodeWeights",
    "Projection",
    "ProjectionStatus",
    "Quantile",
    "WeightedMean",
    "Whiten",
    "backup",
    "cut_by_count",
    "cut_by_delimiter",
    "cut_by_length",
    "cut_by_probability",
    "cut_by_surprisal",
    "discounted_sum",
    "down",
    "expand",
    "expand_segments",
    "gather",
    "graph_backup",
    "graph_distance",
    "leaf_stat",
    "leaf_to_node_weights",
    "loo_mean",
    "moments",
    "normalize",
    "order_project",
    "parent",
    "root",
    "segment_broadcast",
    "segment_count",
    "segment_logmeanexp",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_of",
    "segment_quantile",
    "segment_std",
    "segment_sum",
    "segment_var",
    "segment_weighted_mean",
    "up",
    "whiten",
]
