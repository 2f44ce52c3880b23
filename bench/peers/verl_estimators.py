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


def scalars(name: str, rewards: np.ndarray, ids: np.ndarray, lengths: np.ndarray | None = None) -> Callable[[], Any]:
    """An outcome estimator up to the scalars: one "token" a rollout, so that no time goes into the broadcast."""
    algos = _core_algos()
    import torch

    function = algos.get_adv_estimator_fn(name)
    width = 1 if lengths is None else int(lengths.max())
    mask = torch.ones(len(rewards), 1, dtype=torch.int64)
    scores = torch.zeros(len(rewards), width, dtype=torch.from_numpy(rewards).dtype)
    if lengths is not None:
        mask = (torch.arange(width) < torch.from_numpy(lengths)[:, None]).to(torch.int64)
    last = np.zeros(len(rewards), int) if lengths is None else lengths - 1
    scores[np.arange(len(rewards)), last] = torch.from_numpy(rewards)
    return lambda: function(scores, mask, index=ids)[0][:, 0]
