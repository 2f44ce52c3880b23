"""The blocks of docs/trainers.md that need verl or TRL do what they say."""

import importlib.util
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

TEXT = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
FOUND = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", TEXT, re.MULTILINE)


def block(start):
    """The one that begins so."""
    (found,) = [b for b in (re.sub("^    ", "", b, flags=re.MULTILINE) for b in FOUND) if b.startswith(start)]
    return found


@pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="verl is not installed")
def test_verl(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from verl import DataProto
        from verl.trainer.ppo import core_algos
        from verl.trainer.ppo.ray_trainer import compute_advantage
    from rollmath.adapters import verl as ours

    try:
        exec(block("from rollmath.adapters import verl"), {})
        assert "rollmath/rloo" in capsys.readouterr().out
        assert "rollmath/gspo" in core_algos.POLICY_LOSS_REGISTRY
        mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
        rewards = torch.zeros(4, 3)
        rewards[0, 1] = rewards[2, 0] = 1.0
        found = []
        for name in ("rollmath/rloo", "rloo"):
            data = DataProto.from_dict(
                {"token_level_rewards": rewards, "response_mask": mask},
                non_tensors={"uid": np.array(["a", "b", "a", "b"], object)},
            )
            found.append(compute_advantage(data, adv_estimator=name).batch["advantages"])
        torch.testing.assert_close(*found)
    finally:
        ours.unregister()


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_trl(tmp_path):
    import trl
    import trl_tiny as tiny

    torch.set_num_threads(1)  # the model is tiny
    torch.manual_seed(0)
    options = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12, "beta": 0.0}
    options |= {"report_to": [], "use_cpu": True, "save_strategy": "no", "bf16": False, "loss_type": "dapo"}
    world = {
        "model": tiny.model(), "reward_function": tiny.letters, "dataset": tiny.dataset(),
        "tokenizer": tiny.tokenizer(),
        "config": trl.GRPOConfig(str(tmp_path), max_steps=2, logging_steps=1, disable_tqdm=True, **options),
    }  # fmt: skip
    before = [p.detach().clone() for p in world["model"].parameters()]
    exec(block("from rollmath.adapters.trl import"), world)
    assert world["trainer"].state.global_step == 2
    assert any((p != q).any() for p, q in zip(world["model"].parameters(), before, strict=True))
