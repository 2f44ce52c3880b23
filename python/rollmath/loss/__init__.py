"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  so that a missing torch is said here, not at the first use

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.loss._aggregate import Aggregation
    from rollmath.loss._aggregate_values import aggregate
    from rollmath.loss._chord import chord, chord_phi
    from rollmath.loss._cispo import CISPO
    from rollmath.loss._controllers import AdaptiveEntropy, AdaptiveKL
    from rollmath.loss._cov import ClipCov, KLCov
    from rollmath.loss._decoupled_ppo import DecoupledPPO
    from rollmath.loss._disco import TrustRegion, disco, disco_constraint, drpo
    from rollmath.loss._distillation import distillation_reward
    from rollmath.loss._dppo import DPPO
    from rollmath.loss._flowrl import FlowLoss, flowrl
    from rollmath.loss._gmpo import GMPO
    from rollmath.loss._group_loss import GroupLoss
    from rollmath.loss._gspo import GSPO, LUSPO
    from rollmath.loss._high_entropy import entropy_mask, entropy_threshold
    from rollmath.loss._hpt import HPTGate, OffPolicyShaping, hpt_gate, off_policy_shaping
    from rollmath.loss._kl import KL, kl_estimate
    from rollmath.loss._low_probability import low_probability_weight
    from rollmath.loss._lp_reg import LpReg
    from rollmath.loss._metrics import LossMetrics
    from rollmath.loss._mismatch_compose import Corrections
    from rollmath.loss._mismatch_gate import Gate
    from rollmath.loss._mismatch_report import MismatchReport, correction_weights, mismatch, mismatch_report
    from rollmath.loss._mismatch_staleness import Staleness
    from rollmath.loss._mismatch_weight import ImportanceWeight, WeightPart
    from rollmath.loss._nft import NFT
    from rollmath.loss._normalizer import Normalizer
    from rollmath.loss._objectives import Objective, TokenLoss
    from rollmath.loss._pairwise import copg, gvpo, rebel
    from rollmath.loss._policy_loss import PolicyLoss, policy_loss
    from rollmath.loss._ppo import PPO
    from rollmath.loss._process_q import process_q
    from rollmath.loss._quadratic import OPMD, Quadratic
    from rollmath.loss._real import real
    from rollmath.loss._regression import a_star_po, tbrm
    from rollmath.loss._reinforce import Reinforce
    from rollmath.loss._sapo import SAPO
    from rollmath.loss._schedules import chord_mu, remix_lambda
    from rollmath.loss._scores import sequence_scores
    from rollmath.loss._shifted_clip import ShiftedClip
    from rollmath.loss._simple_po import SimplePO
    from rollmath.loss._terms import Correction, EntropyBonus
    from rollmath.loss._tokens import Tokens
    from rollmath.loss._topr import TOPR
    from rollmath.loss._value_loss import ValueLoss, explained_variance, value_loss
    from rollmath.loss._vespo import VESPO

_load, __dir__ = lazy(
    __name__,
    {
        "_aggregate": ("Aggregation",),
        "_aggregate_values": ("aggregate",),
        "_chord": (
            "chord",
            "chord_phi",
        ),
        "_cispo": ("CISPO",),
        "_controllers": (
            "AdaptiveEntropy",
            "AdaptiveKL",
        ),
        "_cov": (
            "ClipCov",
            "KLCov",
        ),
        "_decoupled_ppo": ("DecoupledPPO",),
        "_disco": (
            "TrustRegion",
            "disco",
            "disco_constraint",
            "drpo",
        ),
        "_distillation": ("distillation_reward",),
        "_dppo": ("DPPO",),
        "_flowrl": (
            "FlowLoss",
            "flowrl",
        ),
        "_gmpo": ("GMPO",),
        "_group_loss": ("GroupLoss",),
        "_gspo": (
            "GSPO",
            "LUSPO",
        ),
        "_high_entropy": (
            "entropy_mask",
            "entropy_threshold",
        ),
        "_hpt": (
            "HPTGate",
            "OffPolicyShaping",
            "hpt_gate",
            "off_policy_shaping",
        ),
        "_kl": (
            "KL",
            "kl_estimate",
        ),
        "_low_probability": ("low_probability_weight",),
        "_lp_reg": ("LpReg",),
        "_metrics": ("LossMetrics",),
        "_mismatch_compose": ("Corrections",),
        "_mismatch_gate": ("Gate",),
        "_mismatch_report": (
            "MismatchReport",
            "correction_weights",
            "mismatch",
            "mismatch_report",
        ),
        "_mismatch_staleness": ("Staleness",),
        "_mismatch_weight": (
            "ImportanceWeight",
            "WeightPart",
        ),
        "_nft": ("NFT",),
        "_normalizer": ("Normalizer",),
        "_objectives": (
            "Objective",
            "TokenLoss",
        ),
        "_pairwise": (
            "copg",
            "gvpo",
            "rebel",
        ),
        "_policy_loss": (
            "PolicyLoss",
            "policy_loss",
        ),
        "_ppo": ("PPO",),
        "_process_q": ("process_q",),
        "_quadratic": (
            "OPMD",
            "Quadratic",
        ),
        "_real": ("real",),
        "_regression": (
            "a_star_po",
            "tbrm",
        ),
        "_reinforce": ("Reinforce",),
        "_sapo": ("SAPO",),
        "_schedules": (
            "chord_mu",
            "remix_lambda",
        ),
        "_scores": ("sequence_scores",),
        "_shifted_clip": ("ShiftedClip",),
        "_simple_po": ("SimplePO",),
        "_terms": (
            "Correction",
            "EntropyBonus",
        ),
        "_tokens": ("Tokens",),
        "_topr": ("TOPR",),
        "_value_loss": (
            "ValueLoss",
            "explained_variance",
            "value_loss",
        ),
        "_vespo": ("VESPO",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "CISPO",
    "DPPO",
    "GMPO",
    "GSPO",
    "KL",
    "LUSPO",
    "NFT",
    "OPMD",
    "PPO",
    "SAPO",
    "TOPR",
    "VESPO",
    "AdaptiveEntropy",
    "AdaptiveKL",
    "Aggregation",
    "ClipCov",
    "Correction",
    "Corrections",
    "DecoupledPPO",
    "EntropyBonus",
    "FlowLoss",
    "Gate",
    "GroupLoss",
    "HPTGate",
    "ImportanceWeight",
    "KLCov",
    "LossMetrics",
    "LpReg",
    "MismatchReport",
    "Normalizer",
    "Objective",
    "OffPolicyShaping",
    "PolicyLoss",
    "Quadratic",
    "Reinforce",
    "ShiftedClip",
    "SimplePO",
    "Staleness",
    "TokenLoss",
    "Tokens",
    "TrustRegion",
    "ValueLoss",
    "WeightPart",
    "a_star_po",
    "aggregate",
    "chord",
    "chord_mu",
    "chord_phi",
    "copg",
    "correction_weights",
    "disco",
    "disco_constraint",
    "distillation_reward",
    "drpo",
    "entropy_mask",
    "entropy_threshold",
    "explained_variance",
    "flowrl",
    "gvpo",
    "hpt_gate",
    "kl_estimate",
    "low_probability_weight",
    "mismatch",
    "mismatch_report",
    "off_policy_shaping",
    "policy_loss",
    "process_q",
    "real",
    "rebel",
    "remix_lambda",
    "sequence_scores",
    "tbrm",
    "value_loss",
]
