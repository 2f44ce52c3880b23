"""Selection: which rollouts to train on."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.select._group_filters import mean_band, nonzero_spread
    from rollmath.select._leaf_sample import leaf_sample
    from rollmath.select._replay import ReplayBuffer, ReplayDraw
    from rollmath.select._selection import Dropped, Selection, SelectionReport
    from rollmath.select._token_covariance import high_covariance_tokens
    from rollmath.select._token_random import random_tokens
    from rollmath.select._token_scores import d3s_tokens, high_entropy_tokens, low_probability_tokens
    from rollmath.select._token_search import TokenSearch
    from rollmath.select._token_top import TokenSelection, top_tokens

_load, __dir__ = lazy(
    __name__,
    {
        "_group_filters": ("mean_band", "nonzero_spread"),
        "_leaf_sample": ("leaf_sample",),
        "_replay": ("ReplayBuffer", "ReplayDraw"),
        "_selection": ("Dropped", "Selection", "SelectionReport"),
        "_token_covariance": ("high_covariance_tokens",),
        "_token_random": ("random_tokens",),
        "_token_scores": ("d3s_tokens", "high_entropy_tokens", "low_probability_tokens"),
        "_token_search": ("TokenSearch",),
        "_token_top": ("TokenSelection", "top_tokens"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "Dropped",
    "ReplayBuffer",
    "ReplayDraw",
    "Selection",
    "SelectionReport",
    "TokenSearch",
    "TokenSelection",
    "d3s_tokens",
    "high_covariance_tokens",
    "high_entropy_tokens",
    "leaf_sample",
    "low_probability_tokens",
    "mean_band",
    "nonzero_spread",
    "random_tokens",
    "top_tokens",
]
