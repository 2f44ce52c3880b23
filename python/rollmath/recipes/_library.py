"""The recipes that come with the library, and where each of their numbers is from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from rollmath import loss
from rollmath._checks import real
from rollmath.loss import KL, PPO, Aggregation, Reinforce
from rollmath.recipes._advantage import Advantage
from rollmath.recipes._parts import Filter, Overlong
from rollmath.recipes._recipe import Recipe


class Entry(NamedTuple):
    """A recipe of the library.

    Attributes:
        make: makes it of its settings.
        settings: their names, and whether they are required.
        origin: for parts of it, where they are from.
    """

    make: Callable[..., Recipe]
    settings: Mapping[str, bool]
    origin: Mapping[str, str]


GRPO = Recipe(
    name="grpo",
    advantage=Advantage("group.grpo"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="seq_mean_token_mean",
    kl=KL(0.04, kind="k3"),
    source="Shao et al. 2024, DeepSeekMath, arXiv 2402.03300",
)
DAPO = Recipe(
    name="dapo",
    advantage=Advantage("group.grpo"),
    objective=PPO(clip=(0.2, 0.28)),
    aggregation="token_mean",
    filter=Filter("nonzero_spread"),
    source="Yu et al. 2025, DAPO, arXiv 2503.14476",
)
GSPO = Recipe(
    name="gspo",
    advantage=Advantage("group.grpo"),
    objective=loss.GSPO(clip=(3e-4, 4e-4)),
    aggregation="rollout_mean_token_mean",
    source="Zheng et al. 2025, GSPO, arXiv 2507.18071",
)
CISPO = Recipe(
    name="cispo",
    advantage=Advantage("group.grpo"),
    objective=loss.CISPO(cap=5.0),
    aggregation="token_mean",
    source="MiniMax 2025, MiniMax-M1, arXiv 2506.13585",
)
REINFORCE_PP = Recipe(
    name="reinforce_pp",
    advantage=Advantage("group.reinforce_pp"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="token_mean",
    reward_kl=0.01,
    source="Hu 2025, REINFORCE++, arXiv 2501.03262",
)
RLOO = Recipe(
    name="rloo",
    advantage=Advantage("group.rloo"),
    objective=Reinforce(),
    aggregation="rollout_mean_token_sum",
    reward_kl=0.05,
    source="Ahmadian et al. 2024, Back to Basics, arXiv 2402.14740",
)
STRATIFIED = Recipe(
    name="stratified_grpo",
    advantage=Advantage("group.stratified"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="seq_mean_token_mean",
    source="Zhu et al. 2025, Stratified GRPO, arXiv 2510.06214",
)
SPO_TREE = Recipe(
    name="spo_tree",
    advantage=Advantage("tree.spo", convention="SPO"),
    objective=PPO(clip=(0.2, 0.2), max_log_ratio=10.0),
    aggregation="token_mean",
    kl=KL(1e-4, kind="k3"),
    shared="once",
    zeros="drop",
    source="Guo et al. 2025, SPO, arXiv 2505.23564",
)
TREE_RL = Recipe(
    name="tree_rl",
    advantage=Advantage("tree.tree_rl"),
    objective=PPO(clip=(0.2, 0.26)),
    aggregation="seq_mean_token_mean",
    source="Hou et al. 2025, TreeRL, arXiv 2506.11902",
)
TREE_GRPO = Recipe(
    name="tree_grpo",
    advantage=Advantage("tree.tree_grpo", convention="TREE_GRPO"),
    objective=PPO(clip=(0.2, 0.2), dual_clip=3.0),
    aggregation="token_mean",
    kl=KL(0.001, kind="k3"),
    source="Ji et al. 2025, Tree-GRPO, arXiv 2509.21240",
)
TREE_OPO = Recipe(
    name="tree_opo",
    advantage=Advantage("tree.tree_opo"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="rollout_mean_token_sum",
    source="2025, Tree-OPO, arXiv 2509.09284",
)
GIGPO = Recipe(
    name="gigpo",
    advantage=Advantage("graph.gigpo", options={"statistics": "trajectories"}, convention="GIGPO"),
    objective=PPO(clip=(0.2, 0.2), dual_clip=3.0),
    aggregation="token_mean",
    kl=KL(0.01, kind="k3"),
    source="Feng et al. 2025, GiGPO, arXiv 2505.10978",
)
HGPO = Recipe(
    name="hgpo",
    advantage=Advantage("graph.hgpo", convention="HGPO"),
    objective=PPO(clip=(0.2, 0.2), dual_clip=3.0),
    aggregation="token_mean",
    kl=KL(0.01, kind="k3"),
    source="2026, HGPO, arXiv 2602.22817",
)
SALT = Recipe(
    name="salt",
    advantage=Advantage("graph.salt", base="group.grpo"),
    objective=PPO(clip=(0.2, 0.2)),
    aggregation="seq_mean_token_mean",
    source="2025, SALT (a reconstruction), arXiv 2510.20022",
)


def dr_grpo(*, max_length: float) -> Recipe:
    """GRPO without the standard deviation, and with a constant in the place of the length of a response.

    Args:
        max_length: the constant, tokens that a response may have at most: a token weighs
            ``1 / (rows * max_length)``.

    Raises:
        ValueError: not finite and positive.
        TypeError: not a number.

    >>> dr_grpo(max_length=4096).aggregation
    Aggregation(unit='row', within='sum', divisor=4096.0, empty='exclude')
    """
    longest = real("dr_grpo", "max_length", max_length, above=0.0)
    return Recipe(
        name="dr_grpo",
        advantage=Advantage("group.dr_grpo"),
        objective=PPO(clip=(0.2, 0.2)),
        aggregation=Aggregation(unit="row", within="sum", divisor=longest),
        source="Liu et al. 2025, Understanding R1-Zero-Like Training (Dr. GRPO), arXiv 2503.20783",
    )


def _dapo(*, max_length: float | None = None) -> Recipe:
    if max_length is None:
        return DAPO
    longest = real("get", "max_length", max_length, above=0.0)
    return DAPO.replace(overlong=Overlong(max_length=longest, buffer=longest / 5))


_GRPO_CLIP = "0.2 is PPO's usual clip; the GRPO paper names none that we could verify"
_GRPO_ADVANTAGE = "paper; ddof 1 and eps 1e-6 are our reading, it writes neither"
_EVERY_COPY = "official code: a rollout is a sample, and trains all of its tokens"
_ALL_TOKENS = (
    "the paper's formula is the mean over the tokens of a prompt, then over prompts: 'prompt_mean_token_mean'; here {}"
)

LIBRARY: Mapping[str, Entry] = MappingProxyType(
    {
        "grpo": Entry(
            lambda: GRPO,
            {},
            {
                "advantage": _GRPO_ADVANTAGE,
                "objective": _GRPO_CLIP,
                "aggregation": "paper: mean over the tokens of a response (here a row), then over responses",
                "kl": "paper: k3 to the reference, coefficient 0.04",
            },
        ),
        "dr_grpo": Entry(
            dr_grpo,
            {"max_length": True},
            {
                "advantage": "paper and authors' code: no standard deviation",
                "objective": "0.2 is the usual clip; not verified in the paper",
                "aggregation": "paper: a constant in place of the length; which one is your max_length",
                "kl": "none, as in the paper",
            },
        ),
        "dapo": Entry(
            _dapo,
            {"max_length": False},
            {
                "advantage": _GRPO_ADVANTAGE,
                "objective": "paper: 0.2 and 0.28",
                "aggregation": _ALL_TOKENS.format("all tokens of the step are alike, as the README of its code says"),
                "filter": "paper: dynamic sampling, here without the refill, which is the trainer's",
                "kl": "none, as in the paper",
                "overlong": (
                    "paper: factor 1, the last 4096 of 20480 tokens, for rewards 1 and -1; get('dapo', max_length=...) "
                    "has it, with that share of the limit, 1/5"
                ),
            },
        ),
        "gspo": Entry(
            lambda: GSPO,
            {},
            {
                "advantage": _GRPO_ADVANTAGE,
                "objective": "paper: 3e-4 and 4e-4",
                "aggregation": "paper: mean over responses; a response is a rollout, all its rows",
                "kl": "none in the formula of the paper",
            },
        ),
        "cispo": Entry(
            lambda: CISPO,
            {},
            {
                "advantage": _GRPO_ADVANTAGE,
                "filter": (
                    "none; the paper has DAPO's dynamic sampling and penalty on long responses besides (secondary "
                    "descriptions)"
                ),
                "objective": "paper: no lower bound; it gives no upper one, 5.0 is the advice of TRL's documentation",
                "aggregation": _ALL_TOKENS.format("all tokens of the step are alike"),
                "kl": "none in the formula of the paper",
            },
        ),
        "reinforce_pp": Entry(
            lambda: REINFORCE_PP,
            {},
            {
                "advantage": "paper: returns of tokens, whitened over the batch; the eps of the whitening is verl's",
                "objective": "0.2 is PPO's usual clip; unverified",
                "aggregation": "our reading: mean over all tokens",
                "kl": "none: the penalty is in the reward",
                "reward_kl": "paper: k1 at each token; the coefficient 0.01 is unverified",
            },
        ),
        "rloo": Entry(
            lambda: RLOO,
            {},
            {
                "advantage": "paper: the mean of the other rollouts",
                "objective": "paper: REINFORCE, without a ratio, and so for one step on fresh rollouts",
                "aggregation": "paper: a response is one action, so its log-probabilities are summed",
                "kl": "none: the penalty is in the reward",
                "reward_kl": "paper: k1 of the response; the coefficient 0.05 is TRL's default",
            },
        ),
        "stratified_grpo": Entry(
            lambda: STRATIFIED,
            {},
            {
                "advantage": (
                    "abstract: strata, blended with the group; the weight is unverified, and blend 1.0 is strata "
                    "alone; ddof 1 is unverified too"
                ),
                "objective": "as GRPO; unverified",
                "aggregation": "as GRPO; unverified",
                "kl": "none; the paper's is unverified",
            },
        ),
        "spo_tree": Entry(
            lambda: SPO_TREE,
            {},
            {
                "advantage": (
                    "official code: the difference ('rloo' there); edge='normalized' is its 'grpo', with ddof 0 and "
                    "eps 1e-8. Left out: the whitening of advantages, which its configurations have on"
                ),
                "objective": "official code: 0.2, log-ratios clamped to 10",
                "aggregation": (
                    "official code: mean over trained tokens. Left out: that it masks tokens of probability 0.9 and "
                    "more; mask them in the rows"
                ),
                "kl": "official code: k3 to the reference, 0.0001 in its configurations",
                "shared": "official code: a sample is an edge of the tree, and so a token trains once",
                "zeros": "official code: edges of advantage 0 are no samples",
            },
        ),
        "tree_rl": Entry(
            lambda: TREE_RL,
            {},
            {
                "advantage": (
                    "paper, from descriptions: the sum of both terms, divided by the root of n; convention='TREE_RL' "
                    "is what the script of the official code does. Left out: that it trains 16 of 30 rollouts; the "
                    "column selected= says which"
                ),
                "shared": _EVERY_COPY,
                "objective": "official code: 0.2, and 1.3 times that above",
                "aggregation": "official code: mean over the tokens of a rollout, then over rollouts",
                "kl": "official code: its script has coefficient 0",
            },
        ),
        "tree_grpo": Entry(
            lambda: TREE_GRPO,
            {},
            {
                "advantage": (
                    "official code, executed: all rollouts of a prompt, plus those of a tree, ddof 1 and eps 1e-6; "
                    "several trees a prompt come as paths= or forest=, or sampled_jointly= says what is of one tree"
                ),
                "shared": _EVERY_COPY,
                "objective": "official code: 0.2, and 3.0 for the dual clip",
                "aggregation": "official code: mean over all tokens",
                "kl": "official code: k3 to the reference, 0.001 in its scripts",
            },
        ),
        "tree_opo": Entry(
            lambda: TREE_OPO,
            {},
            {
                "advantage": (
                    "secondary descriptions: reward minus alpha times the value of the prefix, alpha 0.5; the staged "
                    "estimation is the method tree.staged_advantage"
                ),
                "objective": "unverified; descriptions mention one ratio a sequence, which is loss.GSPO",
                "aggregation": "secondary descriptions: no division by lengths; the mean over rollouts is our reading",
                "kl": "none; the paper's is unverified",
            },
        ),
        "gigpo": Entry(
            lambda: GIGPO,
            {},
            {
                "advantage": (
                    "paper: means over trajectories; statistics='step_rows' is the official code, executed. gamma 0.95 "
                    "and weight 1 are those of its scripts; scale 'none' is its default and that of its WebShop "
                    "script, 'std' that of ALFWorld. Left out: its penalty of 0.1 for an invalid action, which belongs "
                    "into rewards and step_rewards"
                ),
                "objective": "configuration of the official code: 0.2, and 3.0 for the dual clip",
                "aggregation": "configuration of the official code: mean over all tokens",
                "kl": "official code: k3 to the reference, 0.01 in its scripts for ALFWorld and WebShop",
            },
        ),
        "hgpo": Entry(
            lambda: HGPO,
            {},
            {
                "advantage": (
                    "official code, executed: history 2, alpha 1, gamma 0.95 and no base group are those of its "
                    "scripts; scale 'std' that of ALFWorld, 'none' that of WebShop. Left out: the penalty for an "
                    "invalid action"
                ),
                "objective": "configuration of the official code: 0.2, and 3.0 for the dual clip",
                "aggregation": "configuration of the official code: mean over all tokens",
                "kl": "official code: k3 to the reference, 0.01 in its scripts",
            },
        ),
        "salt": Entry(
            lambda: SALT,
            {},
            {
                "advantage": (
                    "a reconstruction: abstract and secondary descriptions, no code was found. Known: equal steps of "
                    "rollouts of a prompt get the mean of advantages of GRPO or RLOO (base='group.rloo'); every option "
                    "is our reading"
                ),
                "objective": "as GRPO; unverified",
                "aggregation": "as GRPO; unverified",
                "kl": "none; the paper's is unverified",
            },
        ),
    }
)


def base_of(recipe: Recipe) -> tuple[Recipe, Mapping[str, str]] | None:
    """The recipe of the library with that name, of the same settings as far as they show, and its origins."""
    entry = LIBRARY.get(recipe.name)
    if entry is None:
        return None
    settings: dict[str, Any] = {}
    if recipe.name == "dr_grpo":
        made = recipe.aggregation
        settings["max_length"] = made.divisor if isinstance(made, Aggregation) else 1.0
    if recipe.name == "dapo" and recipe.overlong is not None:
        settings["max_length"] = recipe.overlong.max_length
    return entry.make(**settings), entry.origin
