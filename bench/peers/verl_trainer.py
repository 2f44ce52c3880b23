"""verl's own functions, called as its trainer calls them. Everything that is prepared here is outside the time."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def _core_algos() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("verl", reason="verl is not installed")
        from verl.trainer.ppo import core_algos
    return core_algos


def grpo(rewards: np.ndarray, ids: np.ndarray, *, vectorized: bool = False) -> Callable[[], Any]:
    """Up to the scalars: one "token" a rollout with mask 1, so that no time goes into the broadcast over tokens."""
    algos = _core_algos()
    import torch

    name = "compute_grpo_vectorized_outcome_advantage" if vectorized else "compute_grpo_outcome_advantage"
    function = getattr(algos, name)
    scores, mask = torch.from_numpy(rewards)[:, None], torch.ones(len(rewards), 1, dtype=torch.int64)
    return lambda: function(scores, mask, ids)[0][:, 0]


def collate(lists: list[list[int]]) -> Callable[[], Any]:
    _core_algos()
    from verl.utils.torch_functional import pad_2d_list_to_length

    return lambda: pad_2d_list_to_length(lists, 0)


def _padded(x: np.ndarray, lengths: np.ndarray) -> tuple[Any, Any, Any]:
    _core_algos()
    import torch
    from verl.utils import attention_utils

    mask = torch.arange(x.shape[1])[None, :] < torch.from_numpy(lengths)[:, None]
    return attention_utils, torch.from_numpy(x)[:, :, None], mask.to(torch.int64)


def unpad(x: np.ndarray, lengths: np.ndarray) -> Callable[[], Any]:
    """From the attention mask."""
    utils, states, mask = _padded(x, lengths)
    return lambda: utils.unpad_input(states, mask)[0][:, 0]


def index(x: np.ndarray, lengths: np.ndarray) -> Callable[[], Any]:
    """The gather alone; the indices are given."""
    utils, states, mask = _padded(x, lengths)
    indices = mask.flatten().nonzero().flatten()
    flat = states.reshape(-1, 1)
    return lambda: utils.index_first_axis(flat, indices)[:, 0]


def pad(packed: np.ndarray, x: np.ndarray, lengths: np.ndarray) -> Callable[[], Any]:
    """The scatter into zeros; the indices are given."""
    utils, states, mask = _padded(x, lengths)
    import torch

    indices = mask.flatten().nonzero().flatten()
    values = torch.from_numpy(packed)[:, None]
    return lambda: utils.pad_input(values, indices, *states.shape[:2])[:, :, 0]
