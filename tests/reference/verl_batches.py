"""Batches as verl's trainer has them: outcomes or rewards of tokens, masks with or without gaps, uids, columns."""

import numpy as np
import torch


class Config(dict):
    """Keys as attributes, as a DictConfig has them."""

    __getattr__ = dict.get


def columns(seed, *, gaps=False, per_token=False, sizes=(1, 1, 2, 3, 4, 8), width=150, dtype="float32"):
    """Tensors and the other columns of a DataProto, rows of groups in random order."""
    rng = np.random.default_rng([seed, gaps, per_token])
    uid = rng.permutation(np.repeat([f"prompt-{i}" for i in range(len(sizes))], sizes)).astype(object)
    n = len(uid)
    lengths = rng.integers(1, width + 1, n)
    lengths[0] = width
    inside = np.arange(width) < lengths[:, None]
    mask = inside & (rng.random((n, width)) < 0.8) if gaps else inside
    mask[np.arange(n), lengths - 1] = True
    outcomes = rng.integers(0, 5, n) / 4
    rewards = np.zeros((n, width))
    rewards[np.arange(n), lengths - 1] = outcomes
    if per_token:
        rewards += mask * rng.normal(scale=0.01, size=mask.shape)
    pi = rng.random((n, width)) * 0.98 + 0.01
    tensors = {
        "token_level_rewards": rewards,
        "values": rng.normal(size=(n, width)),
        "old_log_probs": np.log(pi),
        "sum_pi_squared": pi**2 + (1 - pi) ** 2 * rng.random((n, width)),
        "reward_baselines": rng.random(n),
    }
    tensors = {name: torch.from_numpy(x.astype(dtype)) for name, x in tensors.items()}
    tensors["response_mask"] = torch.from_numpy(mask.astype(np.int64))
    tensors["prompts"] = torch.ones(n, 2, dtype=torch.int64)
    tensors["attention_mask"] = torch.cat([tensors["prompts"], torch.from_numpy(inside.astype(np.int64))], 1)
    others = {
        "uid": uid,
        "accuracy": rng.integers(0, 2, n).astype(float),
        "format": rng.integers(0, 5, n) / 4,
        "n_tool_calls": rng.integers(0, 2, n),
    }
    return tensors, others


def proto(tensors, others):
    """A DataProto of copies."""
    from verl import DataProto

    return DataProto.from_dict(
        tensors={k: x.clone() for k, x in tensors.items()}, non_tensors={k: x.copy() for k, x in others.items()}
    )
