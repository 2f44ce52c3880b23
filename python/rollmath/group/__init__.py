"""Group-relative advantages: one function a method, over the primitives of :mod:`rollmath.ops`."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.group._adora import adora
    from rollmath.group._aspo import aspo
    from rollmath.group._asymmetric import nsr, psr, w_reinforce
    from rollmath.group._beta_baseline import BetaBaseline
    from rollmath.group._bnpo import bnpo
    from rollmath.group._copo import Copo, copo
    from rollmath.group._dr_grpo import dr_grpo
    from rollmath.group._empg import empg
    from rollmath.group._gdpo import gdpo
    from rollmath.group._gpg import gpg
    from rollmath.group._grpo import grpo
    from rollmath.group._lite_ppo import lite_ppo
    from rollmath.group._mapo import mapo
    from rollmath.group._maxrl import maxrl
    from rollmath.group._opo import opo, optimal_baseline
    from rollmath.group._optimal_token_baseline import optimal_token_baseline
    from rollmath.group._passk import passk, passk_training
    from rollmath.group._quantile import quantile_baseline
    from rollmath.group._reinforce_pp import reinforce_pp, reinforce_pp_baseline
    from rollmath.group._remax import remax
    from rollmath.group._reward_hbpo import hbpo, hbpo_reward
    from rollmath.group._reward_kimi import kimi_length_reward
    from rollmath.group._reward_otc import otc_reward
    from rollmath.group._reward_overlong import overlong_penalty
    from rollmath.group._reward_tempsamp import tempsamp_anchor, tempsamp_reward
    from rollmath.group._reward_vote import majority_reward, vote_reward
    from rollmath.group._riskpo import BundleScores, bundle_scores, riskpo
    from rollmath.group._rloo import rloo
    from rollmath.group._single_stream import SingleStream, single_stream
    from rollmath.group._soft import a_star_po, opmd, soft_value
    from rollmath.group._stats import stats
    from rollmath.group._stratified import stratified
    from rollmath.group._tracker import QuantileTracker
    from rollmath.group._win_rate import win_rate

_load, __dir__ = lazy(
    __name__,
    {
        "_adora": ("adora",),
        "_aspo": ("aspo",),
        "_asymmetric": (
            "nsr",
            "psr",
            "w_reinforce",
        ),
        "_beta_baseline": ("BetaBaseline",),
        "_bnpo": ("bnpo",),
        "_copo": (
            "Copo",
            "copo",
        ),
        "_dr_grpo": ("dr_grpo",),
        "_empg": ("empg",),
        "_gdpo": ("gdpo",),
        "_gpg": ("gpg",),
        "_grpo": ("grpo",),
        "_lite_ppo": ("lite_ppo",),
        "_mapo": ("mapo",),
        "_maxrl": ("maxrl",),
        "_opo": (
            "opo",
            "optimal_baseline",
        ),
        "_optimal_token_baseline": ("optimal_token_baseline",),
        "_passk": (
            "passk",
            "passk_training",
        ),
        "_quantile": ("quantile_baseline",),
        "_reinforce_pp": (
            "reinforce_pp",
            "reinforce_pp_baseline",
        ),
        "_remax": ("remax",),
        "_reward_hbpo": (
            "hbpo",
            "hbpo_reward",
        ),
        "_reward_kimi": ("kimi_length_reward",),
        "_reward_otc": ("otc_reward",),
        "_reward_overlong": ("overlong_penalty",),
        "_reward_tempsamp": (
            "tempsamp_anchor",
            "tempsamp_reward",
        ),
        "_reward_vote": (
            "majority_reward",
            "vote_reward",
        ),
        "_riskpo": (
            "BundleScores",
            "bundle_scores",
            "riskpo",
        ),
        "_rloo": ("rloo",),
        "_single_stream": (
            "SingleStream",
            "single_stream",
        ),
        "_soft": (
            "a_star_po",
            "opmd",
            "soft_value",
        ),
        "_stats": ("stats",),
        "_stratified": ("stratified",),
        "_tracker": ("QuantileTracker",),
        "_win_rate": ("win_rate",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "BetaBaseline",
    "BundleScores",
    "Copo",
    "QuantileTracker",
    "SingleStream",
    "a_star_po",
    "adora",
    "aspo",
    "bnpo",
    "bundle_scores",
    "copo",
    "dr_grpo",
    "empg",
    "gdpo",
    "gpg",
    "grpo",
    "hbpo",
    "hbpo_reward",
    "kimi_length_reward",
    "lite_ppo",
    "majority_reward",
    "mapo",
    "maxrl",
    "nsr",
    "opmd",
    "opo",
    "optimal_baseline",
    "optimal_token_baseline",
    "otc_reward",
    "overlong_penalty",
    "passk",
    "passk_training",
    "psr",
    "quantile_baseline",
    "reinforce_pp",
    "reinforce_pp_baseline",
    "remax",
    "riskpo",
    "rloo",
    "single_stream",
    "soft_value",
    "stats",
    "stratified",
    "tempsamp_anchor",
    "tempsamp_reward",
    "vote_reward",
    "w_reinforce",
    "win_rate",
]
