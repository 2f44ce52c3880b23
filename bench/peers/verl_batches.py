"""verl's ``compute_advantage`` on a DataProto, as its trainer calls it. What is prepared is outside the time."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.peers.verl_trainer import _core_algos
from bench.token_inputs import GAMMA, LAM, Tokens

#: The rewards of GDPO, by name.
CHANNELS = ("accuracy", "format", "length")


def trainer() -> Any:
    """The module of verl's trainer that has ``compute_advantage``."""
    _core_algos()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "verl.trainer.ppo.ray_trainer", reason="verl's trainers cannot be imported", exc_type=ImportError
        )


def batch(data: Tokens, **columns: np.ndarray) -> Any:
    """Rewards, values and an int64 mask, and what else an estimator reads, as tensors of a DataProto."""
    import torch
    from verl import DataProto

    mask = torch.from_numpy(data.mask.astype(np.int64))
    prompts = torch.ones(len(mask), 1, dtype=torch.int64)
    tensors = {
        "token_level_rewards": torch.from_numpy(data.rewards),
        "values": torch.from_numpy(data.values),
        "response_mask": mask,
        "prompts": prompts,
        "attention_mask": torch.cat([prompts, mask], 1),
        **{name: torch.from_numpy(x) for name, x in columns.items() if x.ndim == 2},
    }
    uids = np.array([f"prompt-{i:032x}" for i in data.ids], object)
    others = {"uid": uids, **{name: x for name, x in columns.items() if x.ndim == 1}}
    return DataProto.from_dict(tensors=tensors, non_tensors=others)


def advantages(module: Any, given: Any, name: str) -> Callable[[], Any]:
    """Advantages and returns that ``compute_advantage`` puts into the batch."""
    config = SimpleNamespace(gdpo_reward_keys=list(CHANNELS), gamma=GAMMA, lam=LAM)
    config.get = lambda key, default=None: getattr(config, key, default)

    def call() -> Any:
        # The results of the last call are let go first, as those of the last step are.
        for key in ("advantages", "returns"):
            if key in given.batch.keys():  # noqa: SIM118 - a TensorDict
                given.batch.pop(key)
        out = module.compute_advantage(given, name, gamma=GAMMA, lam=LAM, config=config)
        return out.batch["advantages"], out.batch["returns"]

    return call
