"""verl's own estimators computed here, with the arguments and the numbers of verl.

They read verl's configuration where verl does, and never ``algorithm.rollmath``: who replaces a function by name wants
the numbers that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from rollmath import group
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import plain, setting
from rollmath.adapters.verl._estimators import METHODS, TOKEN, as_verl, channels, outcome
from rollmath.conventions import VERL_0_9, Convention

Result = tuple[torch.Tensor, torch.Tensor]


def gae(*, token_level_rewards: Any, response_mask: Any, gamma: Any, lam: Any, values: Any = None) -> Result:
    """GAE with whitened advantages; 0 where the mask is 0, where verl leaves what the scan carries."""
    config = SimpleNamespace(gamma=float(gamma), lam=float(lam))
    batch = Batch("gae", token_level_rewards, response_mask, config, {"values": values})
    return as_verl(METHODS["gae"].run(batch, {}))


def grpo(
    *,
    token_level_rewards: Any,
    response_mask: Any,
    index: Any = None,
    epsilon: float = 1e-6,
    norm_adv_by_std_in_grpo: bool = True,
    config: Any = None,
) -> Result:
    """GRPO; also verl's grpo_vectorized, which merges ids that read as one integer."""
    batch = Batch("grpo", token_level_rewards, response_mask, config, {"uid": index})
    rules = replace(VERL_0_9["grpo"], eps=float(epsilon))
    scale = "std" if norm_adv_by_std_in_grpo else "none"
    values = group.grpo(batch.scores(), batch.column("uid"), scale=scale, convention=rules)  # type: ignore[arg-type]
    return as_verl(outcome(batch, np.asarray(values)))


def gdpo(
    *,
    token_level_rewards: Any,
    response_mask: Any,
    index: Any = None,
    epsilon: float = 1e-6,
    norm_adv_by_std_in_grpo: bool = True,
    config: Any = None,
    non_tensor_batch: Mapping[str, Any] | None = None,
    batch: Any = None,
    **kwargs: Any,
) -> Result:
    """GDPO of the rewards in ``config.gdpo_reward_keys``; without a batch, of the rewards as one channel."""
    del kwargs
    columns = {**(non_tensor_batch or {}), "uid": index}
    one = config is None or non_tensor_batch is None or batch is None
    given = Batch("gdpo", token_level_rewards, response_mask, config, columns, whole=not one)
    table = given.scores()[:, None] if one else channels(given)
    weights = None if one else plain(setting(config, "gdpo_reward_weights"))
    values = group.gdpo(
        table,
        given.column("uid"),
        weights=weights,
        lengths=given.lengths(),
        scale="std" if norm_adv_by_std_in_grpo else "none",
        convention=replace(VERL_0_9["gdpo"], eps=float(epsilon)),
    )
    return as_verl(outcome(given, np.asarray(values)))


def outcome_function(name: str, method: str, convention: Convention | None = None) -> Callable[..., Result]:
    """Outcome estimators as verl calls them, which take an ``epsilon`` and, but for passk, have no use for it."""
    run = METHODS[method].run

    def function(
        *,
        token_level_rewards: Any,
        response_mask: Any,
        index: Any = None,
        epsilon: float = 1e-6,
        config: Any = None,
        **kwargs: Any,
    ) -> Result:
        batch = Batch(name, token_level_rewards, response_mask, config, {"uid": index})
        options: dict[str, Any] = {} if convention is None else {"convention": convention}
        options |= {"f_norm": kwargs["f_norm"]} if "f_norm" in kwargs else {}
        options |= {"eps": float(epsilon)} if method == "passk" else {}
        return as_verl(run(batch, options))

    return function


def token_function(name: str, method: str) -> Callable[..., Result]:
    """Estimators on tokens other than GAE as verl calls them; columns are keywords of their names."""

    def function(
        *, token_level_rewards: Any, response_mask: Any, config: Any = None, index: Any = None, **kwargs: Any
    ) -> Result:
        known = {"handle_zero_tail": "zero_tail", "epsilon": "eps"} if "baseline" in method else {}
        options = {known[key]: kwargs.pop(key) for key in list(kwargs) if key in known}
        columns = {"uid": index, **kwargs}
        batch = Batch(name, token_level_rewards, response_mask, config, columns)
        return as_verl(TOKEN[method](batch, options))

    return function


#: verl's names, and ours for each.
REPLACEMENTS: Mapping[str, Callable[..., Result]] = MappingProxyType(
    {
        "gae": gae,
        "grpo": grpo,
        "grpo_vectorized": grpo,
        "gdpo": gdpo,
        "grpo_passk": outcome_function("grpo_passk", "passk"),
        "reinforce_plus_plus_baseline": outcome_function("reinforce_plus_plus_baseline", "reinforce_pp_baseline"),
        "rloo": outcome_function("rloo", "rloo"),
        "rloo_vectorized": outcome_function("rloo_vectorized", "rloo", VERL_0_9["rloo_vectorized"]),
        "opo": outcome_function("opo", "opo"),
        "gpg": outcome_function("gpg", "gpg"),
        "reinforce_plus_plus": token_function("reinforce_plus_plus", "reinforce_pp"),
        "remax": token_function("remax", "remax"),
        "optimal_token_baseline": token_function("optimal_token_baseline", "optimal_token_baseline"),
        "tir_optimal_token_baseline": token_function("tir_optimal_token_baseline", "tir_optimal_token_baseline"),
    }
)
#: Those that verl's ``compute_advantage`` takes from its module and not from its registry.
INLINE: Mapping[str, str] = MappingProxyType(
    {"gae": "compute_gae_advantage_return", "grpo": "compute_grpo_outcome_advantage"}
)
