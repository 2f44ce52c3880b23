"""Advantage estimators of ours as verl calls them, and what each is fed with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rollmath import group, temporal
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import RESERVED, check_known, method_options, plain, setting, table
from rollmath.groups import as_groups
from rollmath.ops import segment_max

#: ``(advantages, returns)``; the same array twice where verl returns the same tensor twice.
Both = tuple[NDArray[Any], NDArray[Any]]

#: Methods of :mod:`rollmath.group` with one number a rollout.
ROLLOUT = (
    "a_star_po", "adora", "bnpo", "dr_grpo", "gdpo", "gpg", "grpo", "lite_ppo", "mapo", "maxrl", "nsr", "opmd", "opo",
    "passk", "passk_training", "psr", "quantile_baseline", "reinforce_pp_baseline", "rloo", "stratified", "w_reinforce",
)  # fmt: skip
#: Where verl's keyword is an option of the method under another name.
_FLAG = "norm_adv_by_std_in_grpo"


@dataclass(frozen=True)
class Estimator:
    """A method, and the way from a batch to it.

    Attributes:
        name: ours, without ``rollmath/``.
        run: from the batch and the table ``algorithm.rollmath`` to advantages and returns, ``[B, T]``.
    """

    name: str
    run: Callable[[Batch, Mapping[str, Any]], Both]


def from_config(estimator: Estimator, batch: Batch) -> Both:
    """Runs it with the options of ``algorithm.rollmath``."""
    return estimator.run(batch, table(batch.who, batch.config))


def arrays_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters of a method that are arrays."""
    return tuple(name for name, p in inspect.signature(function).parameters.items() if "ArrayLike" in str(p.annotation))


def rollout_method(name: str) -> Callable[[Batch, Mapping[str, Any]], Both]:
    """A method of :mod:`rollmath.group` with one number a rollout: arrays by their names, options from the table."""

    def run(batch: Batch, options: Mapping[str, Any]) -> Both:
        function = getattr(group, name)
        known = arrays_of(function)
        keywords = method_options(batch.who, function, name, options, known, _from_verl(function, name, batch.config))
        renamed = _columns(batch.who, options, known)
        arrays = {}
        for parameter in known:
            required = inspect.signature(function).parameters[parameter].default is inspect.Parameter.empty
            if parameter == "rewards":
                arrays[parameter] = channels(batch) if name == "gdpo" else batch.scores()
            elif parameter == "groups":
                arrays[parameter] = batch.column("uid")
            elif parameter == "lengths":
                arrays[parameter] = weighing(batch) if name == "opo" else batch.lengths()
            elif parameter == "weights" and name == "gdpo":
                arrays[parameter] = options.get("weights", plain(setting(batch.config, "gdpo_reward_weights")))
            elif required or parameter in renamed:
                arrays[parameter] = batch.column(renamed.get(parameter, parameter), asked_for=parameter)
        return outcome(batch, np.asarray(function(**arrays, **keywords)))

    return run


def weighing(batch: Batch) -> NDArray[np.int64]:
    """The lengths, but 1 in a group without a trained token, which has no mean otherwise: nothing shows its numbers."""
    lengths = batch.lengths()
    if lengths.all():
        return lengths
    groups = as_groups(batch.who, batch.column("uid"))
    empty = segment_max(lengths, groups) == 0
    return np.where(empty[groups.index], 1, lengths)


def outcome(batch: Batch, values: NDArray[Any]) -> Both:
    """One number a rollout at all its trained tokens; returns are the same, as verl has it."""
    dense = batch.trained.expand(batch.to_rows(values).astype(np.float32, copy=False))
    return dense, dense


def channels(batch: Batch) -> NDArray[np.float32]:
    """The rewards that ``algorithm.gdpo_reward_keys`` lists, ``[N, C]``."""
    keys = setting(batch.config, "gdpo_reward_keys") or batch.need("gdpo_reward_keys")
    if not batch.whole and not set(keys) & set(batch.columns):
        batch.need("gdpo_reward_keys")
    return np.stack([batch.column(key).astype(np.float32) for key in keys], axis=1)


def _from_verl(function: Callable[..., Any], name: str, config: Any) -> dict[str, Any]:
    """Options that verl has keys for."""
    parameters = inspect.signature(function).parameters
    scaled = "scale" in parameters and (name == "passk" or parameters["scale"].default == "std")
    return {"scale": "std" if setting(config, _FLAG, True) else "none"} if scaled else {}


def _columns(who: str, options: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, str]:
    """``algorithm.rollmath.columns``: the column for a parameter of the method."""
    renamed = dict(options.get("columns", {}))
    check_known(who, "array in 'algorithm.rollmath.columns'", renamed, known)
    return renamed


# One number a token.


def gae(batch: Batch, options: Mapping[str, Any]) -> Both:
    """``(advantages, returns)``, the advantages whitened."""
    values = batch.tokens("values")
    keys = {"gamma": setting(batch.config, "gamma", 1.0), "lam": setting(batch.config, "lam", 1.0)}
    keywords = method_options(batch.who, temporal.gae, "gae", options, arrays_of_tokens(temporal.gae), keys)
    out = batch.trained.fresh(), batch.trained.fresh()
    _float32(batch, temporal.gae, out, batch.token_rewards(), values, **keywords)
    return out


def reinforce_pp(batch: Batch, options: Mapping[str, Any]) -> Both:
    """Returns are the discounted rewards, advantages the same whitened."""
    known = arrays_of_tokens(group.reinforce_pp)
    keys = {"gamma": setting(batch.config, "gamma", 1.0)}
    keywords = method_options(batch.who, group.reinforce_pp, "reinforce_pp", options, known, keys)
    whiten = keywords.pop("whiten")
    returns, advantages = batch.trained.fresh(), batch.trained.fresh()
    _float32(batch, group.reinforce_pp, returns, batch.token_rewards(), whiten=None, **keywords)
    if whiten is None:
        return returns, returns
    temporal.whiten(returns, how=whiten, out=advantages, **batch.trained.like())
    return advantages, returns


def remax(batch: Batch, options: Mapping[str, Any]) -> Both:
    """The reward to go against that of the greedy response, at each trained token."""
    check_known(batch.who, "option 'algorithm.rollmath'", [key for key in options if key not in RESERVED], ())
    baselines = batch.column("reward_baselines").astype(np.float32)
    returns = reward_to_go(batch)
    advantages = batch.trained.expand(batch.to_rows(baselines))
    np.subtract(returns, advantages, out=advantages)
    return advantages, returns


def optimal_token_baseline(name: str) -> Callable[[Batch, Mapping[str, Any]], Both]:
    """``optimal_token_baseline`` or ``tir_optimal_token_baseline`` of verl.

    The first compares columns, but begins the zero tail of the longest row at the column whose number is that of the
    trained tokens of the second longest: with gaps, before the end of that row. It is left there.
    """

    def run(batch: Batch, options: Mapping[str, Any]) -> Both:
        function = group.optimal_token_baseline
        keywords = method_options(batch.who, function, name, options, arrays_of_tokens(function), {})
        squares, logprobs = batch.tokens("sum_pi_squared"), batch.tokens("old_log_probs")
        weights = None if batch.columns.get("rollout_is_weights") is None else batch.tokens("rollout_is_weights")
        advantages = batch.trained.fresh()
        rewards = batch.token_rewards() if batch.outcomes is None else batch.outcomes
        arrays = (rewards, batch.need("uid"), logprobs, squares)
        columns = batch.trained.mask is not None and keywords.get("align") == "position"
        tail = keywords.pop("zero_tail", True)
        keywords |= {"zero_tail": tail and not columns, "reward_on_gap": "drop"}
        _float32(batch, function, advantages, *arrays, is_weights=weights, **keywords)
        returns = reward_to_go(batch)
        if tail and columns:
            _tail_by_column(batch, advantages, returns)
        return advantages, returns

    return run


def _tail_by_column(batch: Batch, advantages: NDArray[Any], returns: NDArray[Any]) -> None:
    """The returns, in the longest row of each group from the column on that verl takes."""
    counts, groups = batch.trained.counts, as_groups(batch.who, batch.need("uid"))
    order = np.lexsort((counts, groups.index))
    # The last of each group, if the one before it is in the same group and shorter.
    one, other = order[1:], order[:-1]
    last = np.append(groups.index[one[1:]] != groups.index[one[:-1]], True)[: len(one)]
    found = last & (groups.index[one] == groups.index[other]) & (counts[one] > counts[other])
    for row, column in zip(one[found], counts[other[found]], strict=True):
        advantages[row, column:] = returns[row, column:]


def reward_to_go(batch: Batch) -> NDArray[Any]:
    """The sum of the rewards from each trained token on; those at gaps are lost, as in verl."""
    if batch.outcomes is not None:
        return batch.trained.expand(batch.outcomes)
    out = batch.trained.fresh()
    _float32(batch, temporal.discounted_returns, out, batch.token_rewards(), reward_on_gap="drop")
    return out


def arrays_of_tokens(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arrays of a method on tokens; a decay may be an array and is an option."""
    return tuple(name for name in arrays_of(function) if name not in {"lam", "lam_returns", "bootstrap"})


def _float32(batch: Batch, function: Callable[..., Any], out: Any, *arrays: Any, **keywords: Any) -> None:
    """Calls a method with results in float32, as verl's tensors are; float64 inputs are rounded."""
    narrow = [x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x for x in arrays]
    function(*narrow, out=out, **batch.trained.like(), **keywords)


TOKEN = {
    "gae": gae,
    "optimal_token_baseline": optimal_token_baseline("optimal_token_baseline"),
    "reinforce_pp": reinforce_pp,
    "remax": remax,
    "tir_optimal_token_baseline": optimal_token_baseline("tir_optimal_token_baseline"),
}
METHODS: dict[str, Estimator] = {
    name: Estimator(name, run)
    for name, run in sorted([*((name, rollout_method(name)) for name in ROLLOUT), *TOKEN.items()])
}


def as_verl(both: Both) -> tuple[Any, Any]:
    """Tensors, without a copy; one if both are the same array."""
    first = torch.from_numpy(both[0])
    return first, first if both[1] is both[0] else torch.from_numpy(both[1])
