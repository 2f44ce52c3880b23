"""Selection: which rollouts, tokens and prompts to train on."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.select._allocate import Allocation, allocate
    from rollmath.select._balanced import balanced
    from rollmath.select._depo import depo, explorability, normal_weights
    from rollmath.select._group_filters import mean_band, nonzero_spread, pivot
    from rollmath.select._group_outcomes import all_fail, all_pass
    from rollmath.select._hint_ladder import HintLadder
    from rollmath.select._knapsack import knapsack, knapsack_value
    from rollmath.select._leaf_sample import leaf_sample
    from rollmath.select._max_variance import max_variance
    from rollmath.select._policy_filtration import Filtration, policy_filtration
    from rollmath.select._prompt_priority import PromptStats
    from rollmath.select._prompt_sampler import PromptDraw, PromptSampler
    from rollmath.select._quota import quota
    from rollmath.select._rank import bottom, nearest, random, top
    from rollmath.select._replay import ReplayBuffer, ReplayDraw
    from rollmath.select._resample import resample
    from rollmath.select._round_to_multiple import round_to_multiple
    from rollmath.select._schedules import cosine_schedule, linear_schedule
    from rollmath.select._selection import Dropped, Selection, SelectionReport
    from rollmath.select._token_covariance import high_covariance_tokens
    from rollmath.select._token_random import random_tokens
    from rollmath.select._token_scores import d3s_tokens, high_entropy_tokens, low_probability_tokens
    from rollmath.select._token_search import TokenSearch
    from rollmath.select._token_top import TokenSelection, top_tokens
    from rollmath.select._vas import learnability, vas, vas_weights
    from rollmath.select._weighted_sample import weighted_sample

_load, __dir__ = lazy(
    __name__,
    {
        "_allocate": ("Allocation", "allocate"),
        "_balanced": ("balanced",),
        "_depo": ("depo", "explorability", "normal_weights"),
        "_group_filters": ("mean_band", "nonzero_spread", "pivot"),
        "_group_outcomes": ("all_fail", "all_pass"),
        "_hint_ladder": ("HintLadder",),
        "_knapsack": ("knapsack", "knapsack_value"),
        "_leaf_sample": ("leaf_sample",),
        "_max_variance": ("max_variance",),
        "_policy_filtration": ("Filtration", "policy_filtration"),
        "_prompt_priority": ("PromptStats",),
        "_prompt_sampler": ("PromptDraw", "PromptSampler"),
        "_quota": ("quota",),
        "_rank": ("bottom", "nearest", "random", "top"),
        "_replay": ("ReplayBuffer", "ReplayDraw"),
        "_resample": ("resample",),
        "_round_to_multiple": ("round_to_multiple",),
        "_schedules": ("cosine_schedule", "linear_schedule"),
        "_selection": ("Dropped", "Selection", "SelectionReport"),
        "_token_covariance": ("high_covariance_tokens",),
        "_token_random": ("random_tokens",),
        "_token_scores": ("d3s_tokens", "high_entropy_tokens", "low_probability_tokens"),
        "_token_search": ("TokenSearch",),
        "_token_top": ("TokenSelection", "top_tokens"),
        "_vas": ("learnability", "vas", "vas_weights"),
        "_weighted_sample": ("weighted_sample",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "Allocation",
    "Dropped",
    "Filtration",
    "HintLadder",
    "PromptDraw",
    "PromptSampler",
    "PromptStats",
    "ReplayBuffer",
    "ReplayDraw",
    "Selection",
    "SelectionReport",
    "TokenSearch",
    "TokenSelection",
    "all_fail",
    "all_pass",
    "allocate",
    "balanced",
    "bottom",
    "cosine_schedule",
    "d3s_tokens",
    "depo",
    "explorability",
    "high_covariance_tokens",
    "high_entropy_tokens",
    "knapsack",
    "knapsack_value",
    "leaf_sample",
    "learnability",
    "linear_schedule",
    "low_probability_tokens",
    "max_variance",
    "mean_band",
    "nearest",
    "nonzero_spread",
    "normal_weights",
    "pivot",
    "policy_filtration",
    "quota",
    "random",
    "random_tokens",
    "resample",
    "round_to_multiple",
    "top",
    "top_tokens",
    "vas",
    "vas_weights",
    "weighted_sample",
]
