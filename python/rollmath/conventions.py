"""Conventions: the numerical choices on which trainers silently disagree, by name.

A :class:`Convention` says how a standard deviation is taken and what happens where it does not exist. What is
subtracted and what is divided by belongs to the method. ``conventions.VERL`` and its relatives map method names to
conventions, because a framework differs from method to method::

    rm.group.grpo(rewards, groups, convention=rm.conventions.VERL)

A convention reproduces the framework's *formula* in our arithmetic: float64, an exact mean for equal values, sums that
do not depend on row order. Some frameworks return a rounding residue for groups without spread (for three float32
rewards of 1000.1 verl returns 0.81 and OpenRLHF 0.82 instead of 0); that residue is not reproduced. Nor is NaN, which
spreads over the group wherever a framework has no rule for a missing reward: here it is an error, unless
``nan="propagate"`` asks for it.

Each framework says which version of it is meant, and how its choices are known: ``"live"`` means that a test compares
us with that version's own function, ``"golden"`` with its recorded outputs, ``"read"`` that its source was read;
``"paper"`` stands for the papers' own text. :func:`table` prints all of them side by side; ``docs/conventions.md`` has
the same table, and notes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollmath._convention import (
    Convention,
    EpsPlace,
    Framework,
    Known,
    Nan,
    Override,
    Singleton,
    Whiten,
    ZeroSpread,
    resolve,
)

if TYPE_CHECKING:
    from rollmath._convention_table import ConventionTable

#: The papers' formula: sample standard deviation plus 1e-6; a group of one and a group without spread get 0.
DEFAULT = Convention()

_RAW = Convention(singleton="raw")
#: (x - mean) / sqrt(max(var, 1e-8)), population variance.
_RMS = Whiten(ddof=0, eps=1e-4, eps_place="max")

#: What the authors write, and no more: GRPO (arXiv 2402.03300) divides by a standard deviation, without eps. It does
#: not say which one; ddof 1 is our reading. RLOO (2402.14740) and Dr. GRPO (2503.20783, known from its authors' code)
#: divide by nothing. None says what a group of one or without spread gets: 0, as in DEFAULT.
PAPER = Framework(
    "PAPER",
    {"grpo": Convention(eps=0.0), "dr_grpo": Convention(eps=0.0), "rloo": Convention(eps=0.0)},
    version="the authors",
    known={"grpo": "paper", "rloo": "paper"},
)

#: ``rloo`` and ``rloo_vectorized`` disagree on a group of one. ``gdpo`` whitens over tokens: give ours ``lengths=``.
VERL_0_9 = Framework(
    "VERL_0_9",
    {
        "grpo": _RAW,
        "rloo": _RAW,
        "rloo_vectorized": DEFAULT,
        "dr_grpo": _RAW,
        "gdpo": _RAW,
        "gpg": _RAW,
        "opo": _RAW,
        "passk": Convention(singleton="raise"),
        "reinforce_pp_baseline": _RAW,
        "remax": DEFAULT,
    },
    version="verl 0.9.1",
    known="live",
    options={
        "gae": {"gaps": "carry", "reward_on_gap": "drop", "whiten": Whiten()},
        "gpg": {"correction": "nonzero_reward"},
        "optimal_token_baseline": {"align": "position", "singleton": "raw"},
        "passk": {"scale": "std"},
        "reinforce_pp": {"gaps": "carry", "reward_on_gap": "drop", "whiten": Whiten()},
        "tir_optimal_token_baseline": {"align": "trained", "singleton": "raw"},
    },
)
VERL = VERL_0_9

#: A missing reward is NaN and gets 0, and so does the only reward of a group whose others are missing.
TRL_1_16 = Framework(
    "TRL_1_16",
    {
        "grpo": Convention(eps=1e-4, nan="omit"),
        "rloo": Convention(nan="omit"),
        "dr_grpo": Convention(nan="omit"),
        "gdpo": Convention(eps=1e-4, nan="omit"),
        "lite_ppo": Convention(eps=1e-4, nan="omit"),
    },
    version="TRL 1.16.0",
    known="live",
    options={
        "gdpo": {"whiten": Whiten(eps=1e-4, eps_place="add")},
    },
)
TRL = TRL_1_16
#: The asynchronous GRPO worker; its numbers differ from the synchronous trainer's.
TRL_ASYNC = Framework(
    "TRL_ASYNC",
    {"grpo": Convention(ddof=0, eps=1e-8, nan="omit")},
    version="TRL 1.16.0",
    known="live",
)
#: group_norm and rloo. The command line refuses groups of one; the function gives them NaN.
OPENRLHF = Framework(
    "OPENRLHF",
    {
        "grpo": Convention(eps=1e-9, singleton="raise"),
        "rloo": Convention(singleton="raise"),
        "dr_grpo": Convention(singleton="raise"),
        "reinforce_pp_baseline": Convention(singleton="raise"),
    },
    version="OpenRLHF 0.11.2",
    known="golden",
    options={
        "discounted_returns": {"gaps": "state", "reward_on_gap": "drop"},
        "gae": {"gaps": "state", "reward_on_gap": "drop", "whiten": _RMS},
        "reinforce_pp": {"gaps": "state", "reward_on_gap": "drop", "whiten": _RMS},
        "reinforce_pp_baseline": {"whiten": _RMS},
    },
)
#: The sample standard deviation of one reward is NaN; without it (``grpo_std_normalization=False``) one gets 0.
#: Advantages are whitened with ``--normalize-advantages`` only.
SLIME = Framework(
    "SLIME",
    {
        "grpo": Convention(singleton="nan"),
        "dr_grpo": DEFAULT,
    },
    version="slime 0.3.1",
    known="golden",
    options={
        "discounted_returns": {"gaps": "state"},
        "gae": {"gaps": "ignore"},
        "reinforce_pp": {"gaps": "state"},
    },
)
#: A group of one keeps its reward in GRPO and gets 0 in RLOO.
SKYRL = Framework(
    "SKYRL",
    {
        "grpo": _RAW,
        "rloo": DEFAULT,
        "dr_grpo": _RAW,
        "maxrl": _RAW,
    },
    version="SkyRL 0.3.0",
    known="golden",
    options={
        "gae": {"gaps": "ignore", "whiten": Whiten()},
        "reinforce_pp": {"gaps": "cut", "reward_on_gap": "drop"},
    },
)
_NEMO = Convention(eps_place="where_positive", zero_spread="unscaled")

#: Its default GRPO leaves each rollout out of its mean and standard deviation; ``normalize_rewards=false`` makes it
#: ``rloo``, and ``use_leave_one_out_baseline=false`` besides ``dr_grpo``.
NEMO_RL = Framework(
    "NEMO_RL",
    {
        "grpo": _NEMO,
        "dr_grpo": DEFAULT,
        "gdpo": _NEMO,
        "reinforce_pp_baseline": DEFAULT,
    },
    version="NeMo-RL 0.6.0",
    known="golden",
    options={
        "gae": {"reward_on_gap": "drop", "whiten": Whiten()},
        "gdpo": {"leave_one_out": True, "whiten": Whiten(eps=0.0, eps_place="where_positive")},
        "grpo": {"leave_one_out": True},
        "reinforce_pp": {"whiten": _RMS},
        "reinforce_pp_baseline": {"whiten": _RMS},
    },
)
#: Normalization with group mean and unbiased group std (grpo), or with leave-one-out group mean and no std (rloo),
#: which keeps a lone reward.
AREAL = Framework(
    "AREAL",
    {
        "grpo": Convention(eps=1e-5),
        "rloo": _RAW,
        "dr_grpo": DEFAULT,
        "lite_ppo": Convention(eps=1e-5),
    },
    version="AReaL 1.0.4",
    known="golden",
    options={
        "gae": {"reward_on_gap": "drop"},
        "lite_ppo": {"batch_std": "residuals"},
    },
)
#: Divides by nothing; its MaxRL guards a mean of 0 or less.
PRIME_RL = Framework(
    "PRIME_RL",
    {"dr_grpo": DEFAULT, "maxrl": Convention(eps=0.0)},
    version="prime-rl 0.8.0",
    known="golden",
)
#: Agentic reward normalisation. Rewards at gaps count for nothing, values there do.
ROLL = Framework(
    "ROLL",
    {
        "grpo": DEFAULT,
        "dr_grpo": DEFAULT,
        "lite_ppo": DEFAULT,
    },
    version="ROLL 0.3.0",
    known="golden",
    options={
        "discounted_returns": {"gaps": "state", "reward_on_gap": "drop"},
        "gae": {"gaps": "ignore"},
    },
)
#: GRPOGroupedAdvantage, GRPOAdvantageFn, RLOOAdvantageFn, OPMDGroupAdvantage.
TRINITY = Framework(
    "TRINITY",
    {
        "grpo": _RAW,
        "rloo": _RAW,
        "opmd": _RAW,
        "remax": DEFAULT,
        "gigpo": _RAW,
    },
    version="Trinity-RFT 0.6.0",
    known="golden",
    options={
        "gae": {"gaps": "ignore", "whiten": Whiten()},
        "gigpo": {"gamma": 1.0},
        "reinforce_pp": {"gaps": "ignore"},
    },
)
#: Population standard deviation. Its REINFORCE++ baseline, one number a rollout, is ``lite_ppo``.
RLLM = Framework(
    "RLLM",
    {
        "grpo": Convention(ddof=0, singleton="raw"),
        "rloo": _RAW,
        "dr_grpo": _RAW,
        "lite_ppo": Convention(ddof=0),
    },
    version="rLLM 0.3.0.pre",
    known="golden",
    options={
        "lite_ppo": {"batch_std": "residuals"},
    },
)
OPEN_INSTRUCT = Framework("OPEN_INSTRUCT", {"grpo": Convention(ddof=0, eps=1e-8)}, version="open-instruct, August 2026")
#: MCAdvantage on trajectories of one reward. With ``trajectory_return=`` it has the same formula and refuses groups of
#: one.
TORCHRL = Framework(
    "TORCHRL",
    {"grpo": Convention(eps_place="max", singleton="nan")},
    version="torchrl 0.14.1",
    known="golden",
)
#: Its standard advantages.
GRPO_COMPOSER = Framework(
    "GRPO_COMPOSER",
    {
        "grpo": Convention(eps=1e-8, singleton="nan"),
        "stratified": Convention(eps=1e-8, singleton="nan"),
    },
    version="grpo-composer, May 2026",
)
#: Among the rollouts that its selection kept.
PODS = Framework("PODS", {"grpo": Convention(eps=1e-4, singleton="nan")}, version="PODS, 2025")
#: Population standard deviation of the siblings.
SPO = Framework("SPO", {"spo": Convention(ddof=0, eps=1e-8)}, version="SPO, 2025", known="golden")
#: Among all rollouts of a prompt, and among those of a tree. A lone reward stays.
TREE_GRPO = Framework("TREE_GRPO", {"tree_grpo": _RAW}, version="Tree-GRPO, 2025", known="golden")
#: The rollout of a prompt with no other keeps its reward. Segments start from the reward less the mean, then 0; its
#: "SPO" divides by the population standard deviation without eps, and an only child keeps its value.
TREEPO = Framework(
    "TREEPO",
    {"treepo": _RAW, "treepo_segment": DEFAULT, "treepo_spo": Convention(ddof=0, eps=0.0, singleton="raw")},
    version="TreePO, 2025",
    known="golden",
)
#: Refuses a prompt of one rollout. The options are those of its training script.
TREE_RL = Framework(
    "TREE_RL",
    {"tree_rl": Convention(singleton="raise")},
    version="TreeRL, 2025",
    known="golden",
    options={"tree_rl": {"global_term": "value", "sqrt": "code", "zero_fill": True}},
)
#: The trajectory of a task with no other keeps its reward, a state that one row has seen gets 0. The options are those
#: of the official code, which takes statistics over the steps of a task; the paper takes them over its trajectories.
GIGPO = Framework(
    "GIGPO",
    {"gigpo": _RAW, "gigpo_episode": _RAW, "gigpo_step": DEFAULT},
    version="GiGPO, 2025",
    known="golden",
    options={"gigpo": {"statistics": "step_rows"}, "gigpo_episode": {"statistics": "step_rows"}},
)
#: Population standard deviation of the rows with the same state and history.
HGPO = Framework("HGPO", {"hgpo": Convention(ddof=0)}, version="HGPO, 2026", known="golden")
#: The trajectory of a task with no other keeps its reward, a state visited once gets 0. The options are those of the
#: official code, as for GIGPO.
G2PO = Framework(
    "G2PO",
    {"g2po": _RAW},
    version="G2PO, 2026",
    known="golden",
    options={"g2po": {"statistics": "step_rows"}},
)
GRAPHGPO = Framework(
    "GRAPHGPO",
    {"graphgpo": _RAW},
    version="GraphGPO, 2026",
    known="golden",
    options={"graphgpo": {"statistics": "step_rows"}},
)
REWARDFLOW = Framework(
    "REWARDFLOW",
    {"rewardflow": _RAW},
    version="RewardFlow, 2026",
    known="golden",
    options={"rewardflow": {"statistics": "step_rows"}},
)
#: Among the steps from a state. A lone one keeps its sign; ddof and eps are ours.
GRAFT = Framework("GRAFT", {"graft": Convention(singleton="abs")}, version="GRAFT, 2026", known="paper")


def frameworks() -> dict[str, Framework]:
    """All of the above by name, an object with several names under its shortest (``VERL``, not ``VERL_0_9``)."""
    named = [(name, value) for name, value in globals().items() if isinstance(value, Framework)]
    shortest: dict[int, str] = {}
    for name, value in named:
        shortest[id(value)] = min(name, shortest.get(id(value), name), key=len)
    return {name: value for name, value in named if shortest[id(value)] == name}


def table(method: str | None = None) -> ConventionTable:
    """The conventions of all frameworks side by side, to print.

    Args:
        method: only the conventions for this method.

    Returns:
        What prints as a table; its ``rows`` are a list of dicts, ``markdown()`` is the table of the documentation.

    Raises:
        ValueError: a method that no framework has a convention for.

    >>> print(table("spo"))
    convention  method  denominator  eps   ddof  group of one  no spread  missing reward  known from
    DEFAULT     all     s + eps      1e-6  1     0             0          error           our choice
    SPO         spo     s + eps      1e-8  0     0             0          error           SPO, 2025, golden vector
    """
    from rollmath._convention_table import ConventionTable  # noqa: PLC0415 - only those who print pay for it

    return ConventionTable(DEFAULT, frameworks(), method)


__all__ = [
    "AREAL",
    "DEFAULT",
    "G2PO",
    "GIGPO",
    "GRAFT",
    "GRAPHGPO",
    "GRPO_COMPOSER",
    "HGPO",
    "NEMO_RL",
    "OPENRLHF",
    "OPEN_INSTRUCT",
    "PAPER",
    "PODS",
    "PRIME_RL",
    "REWARDFLOW",
    "RLLM",
    "ROLL",
    "SKYRL",
    "SLIME",
    "SPO",
    "TORCHRL",
    "TREEPO",
    "TREE_GRPO",
    "TREE_RL",
    "TRINITY",
    "TRL",
    "TRL_1_16",
    "TRL_ASYNC",
    "VERL",
    "VERL_0_9",
    "Convention",
    "EpsPlace",
    "Framework",
    "Known",
    "Nan",
    "Override",
    "Singleton",
    "Whiten",
    "ZeroSpread",
    "frameworks",
    "resolve",
    "table",
]
