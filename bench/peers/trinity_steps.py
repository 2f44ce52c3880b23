"""GiGPO of Trinity-RFT on its own objects, which are made before the clock starts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.step_inputs import GAMMA, LENGTH, OF, Planted


def gigpo(x: Planted) -> Callable[[], np.ndarray]:
    module = pytest.importorskip(
        "trinity.algorithm.advantage_fn.gigpo_advantage", reason="trinity-rft is not installed"
    )
    import torch
    from trinity.common.experience import EID, Experience

    # Its anchors are those of all tasks together, so that the hash tells the task, too.
    experiences: list[Any] = [
        Experience(
            eid=EID(batch=0, task=task, run=t % OF, step=row % LENGTH),
            tokens=torch.zeros(2, dtype=torch.int32),
            prompt_length=1,
            reward=float(x.rewards[t]),
            info={"env_state_hash": f"{task}/{x.states[row]}"},
        )
        for row, (task, t) in enumerate(zip(x.task.tolist(), x.trajectory.tolist(), strict=True))
    ]
    method = module.GiGPOAdvantageFn(gamma=GAMMA)

    def call() -> np.ndarray:
        done, _ = method.process(experiences)
        return np.array([float(e.advantages.reshape(-1)[0]) for e in done])

    return call
