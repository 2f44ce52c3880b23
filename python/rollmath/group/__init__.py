"""Group-relative advantages: one number a rollout, from the rewards of its group. One file per method family."""

from rollmath.group._adora import adora
from rollmath.group._aspo import aspo
from rollmath.group._asymmetric import nsr, psr, w_reinforce
from rollmath.group._beta_baseline import BetaBaseline
from rollmath.group._copo import Copo, copo
from rollmath.group._empg import empg
from rollmath.group._grpo import grpo
from rollmath.group._riskpo import BundleScores, bundle_scores, riskpo
from rollmath.group._rloo import rloo
from rollmath.group._single_stream import SingleStream, single_stream
from rollmath.group._soft import a_star_po, opmd, soft_value
from rollmath.group._stats import stats
from rollmath.group._tracker import QuantileTracker
from rollmath.group._win_rate import win_rate

__all__ = [
    "BetaBaseline",
    "BundleScores",
    "Copo",
    "QuantileTracker",
    "SingleStream",
    "a_star_po",
    "adora",
    "aspo",
    "bundle_scores",
    "copo",
    "empg",
    "grpo",
    "nsr",
    "opmd",
    "psr",
    "riskpo",
    "rloo",
    "single_stream",
    "soft_value",
    "stats",
    "w_reinforce",
    "win_rate",
]
