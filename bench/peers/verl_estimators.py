"""verl's estimators over ``[B, T]``, with the int64 mask that its trainer has. What is prepared is outside the time."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.peers.verl_trainer import _core_algos


def _tensors(*arrays: np.ndarray) -> list[Any]:
    import torch

    return [torch.from_numpy(x.astype(np.int64) if x.dtype == bool else x) for x in arrays]


def gae(rewards: np.ndarray, values: np.ndarray, mask: np.ndarray, gamma: float, lam: float) -> Callable[[], Any]:
    algos = _core_algos()
    r, v, m = _tensors(rewards, values, mask)
    return lambda: algos.compute_gae_advantage_return(r, v, m, gamma, lam)[0]


def reinforce_pp(rewards: np.ndarray, mask: np.ndarray, gamma: float) -> Callable[[], Any]:
    algos = _core_algos()
    r, m = _tensors(rewards, mask)
    config = SimpleNamespace(gamma=gamma)
    return lambda: algos.compute_reinforce_plus_plus_outcome_advantage(r, m, config=config)[0]


def optimal_token_baseline(
    rewards: np.ndarray, mask: np.ndarray, ids: np.ndarray, logprobs: np.ndarray, squares: np.ndarray,
    *, multi_turn: bool = False,
) -> Callable[[], Any]:  # fmt: skip
    algos = _core_algos()
    r, m, lp, s2 = _tensors(rewards, mask, logprobs, squares)
    name = f"compute_{'multi_turn_' if multi_turn else ''}optimal_token_baseline_advantage"
    function = getattr(algos, name)
    return lambda: function(r, m, ids, lp, s2)[0]


def _token_rewards(rewards: np.ndarray, lengths: np.ndarray, width: int) -> tuple[Any, Any]:
    """The outcome at the last token, and the mask."""
    import torch

    mask = (torch.arange(width) < torch.from_numpy(lengths)[:, None]).to(torch.int64)
    scores = torch.zeros(len(rewards), width, dtype=torch.from_numpy(rewards).dtype)
    scores[np.arange(len(rewards)), lengths - 1] = torch.from_numpy(rewards)
    return scores, mask


def scalars(
    name: str, rewards: np.ndarray, ids: np.ndarray, lengths: np.ndarray | None = None, **options: Any
) -> Callable[[], Any]:
    """An outcome estimator up to the scalars: where it allows, one "token" a rollout, so that none is broadcast."""
    algos = _core_algos()
    function = algos.get_adv_estimator_fn(name)
    if lengths is None:
        lengths = np.ones(len(rewards), int)
    scores, mask = _token_rewards(rewards, lengths, int(lengths.max()))
    if name == "grpo_passk":
        options = {"config": options}
    return lambda: function(scores, mask, index=ids, **options)[0][:, 0]


def gdpo(channels: np.ndarray, ids: np.ndarray, lengths: np.ndarray, width: int) -> Callable[[], Any]:
    """With its whitening over tokens, as its trainer calls it."""
    algos = _core_algos()
    names = [f"reward_{c}" for c in range(channels.shape[1])]
    scores, mask = _token_rewards(channels.sum(1).astype(np.float32), lengths, width)
    parts = {name: channels[:, c] for c, name in enumerate(names)}
    import torch

    prompts = torch.ones(len(mask), 1, dtype=torch.int64)
    batch = {"prompts": prompts, "attention_mask": torch.cat([prompts, mask], 1)}
    config = {"gdpo_reward_keys": names}
    function = algos.compute_gdpo_outcome_advantage
    return lambda: function(
        scores, mask, index=ids, config=config, non_tensor_batch=parts, batch=batch, norm_adv_by_std_in_grpo=True
    )[0]
