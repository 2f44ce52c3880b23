"""TRL's A2PO: the value that it estimates from reference samples, and the target of its regression.

Both are inside the trainer's methods. As in ``test_trl.py``, a trainer object made without its constructor gets the
attributes that these methods read, with generation, scoring and the model's forward pass replaced.
"""

import importlib.util
from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def a2po(peer):
    return peer("trl.experimental.a2po.a2po_trainer")


def bare_trainer(a2po, rewards, beta):
    """One whose reference samples have these rewards, ``[prompts, samples]``."""
    import torch

    trainer = object.__new__(a2po.A2POTrainer)
    prompts = [{"prompt": f"p{i}"} for i in range(len(rewards))]
    tokens = SimpleNamespace(to=lambda _: {"input_ids": torch.zeros(len(rewards), 1)})
    attributes = {
        "args": SimpleNamespace(
            beta1=beta,
            beta2=1e-3,
            num_value_samples=rewards.shape[1],
            per_device_train_batch_size=len(rewards),
            max_prompt_length=8,
            filter_all_incorrect=False,
        ),
        "accelerator": SimpleNamespace(prepare=lambda x: x, device=torch.device("cpu")),
        "train_dataset": prompts,
        "eval_dataset": None,
        "processing_class": _Tokenizer(tokens),
        "ref_model": None,
        "value_generation_config": None,
        "model": SimpleNamespace(training=True),
        "_calculate_rewards": lambda *_, **__: torch.from_numpy(rewards.ravel().copy()),
        "_metrics": {"train": defaultdict(list)},
        "_get_sequence_logps": lambda *_: torch.zeros(len(rewards)),
    }
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


class _Tokenizer:
    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, *_, **__):
        return self.tokens

    def batch_decode(self, *_, **__):
        return ["x"]


def estimate(a2po, rewards, beta):
    import torch

    @contextmanager
    def unwrapped(*_, **__):
        yield SimpleNamespace(generate=lambda **_: torch.zeros(rewards.size, 2))

    trainer = bare_trainer(a2po, rewards, beta)
    with (
        patch.object(a2po, "unwrap_model_for_generation", unwrapped),
        patch.object(a2po, "gather_object", lambda x: x),
        patch.object(a2po, "logger", SimpleNamespace(info=lambda _: None)),
        patch.object(a2po, "maybe_apply_chat_template", lambda example, _: example),
    ):
        trainer._estimate_optimal_values()
    return trainer, np.array([trainer._optimal_values[f"p{i}"] for i in range(len(rewards))])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.05, 0.5, 4.0])
def test_value(a2po, agree, beta, dtype):
    rng = np.random.default_rng(7)
    for size in (1, 2, 8, 16):
        for drawn in (rng.integers(0, 2, (24, size)), rng.normal(size=(24, size))):
            rewards = drawn.astype(dtype)
            order = rng.permutation(rewards.size)
            ids = rm.Groups(np.repeat(np.arange(24), size)[order])
            ours = np.empty(24)
            ours[list(ids.ids)] = rm.group.soft_value(rewards.ravel()[order], ids, beta=beta)
            _, theirs = estimate(a2po, rewards, beta)
            agree(f"TRL A2PO value {dtype}", ours, theirs, atol=2e-6 if dtype == "float32" else 1e-13)


def test_target(a2po, agree):
    """The loss regresses onto r - V; its metrics have the mean of that."""
    import torch

    samples = np.random.default_rng(3).normal(size=(6, 8))
    trainer, values = estimate(a2po, samples, 0.5)
    rewards = np.arange(6.0)
    inputs = {"rewards": torch.from_numpy(rewards), "v_star": torch.from_numpy(values), "ref_logps": torch.zeros(6)}
    inputs |= dict.fromkeys(("input_ids", "attention_mask", "logits_to_keep"))
    loss = trainer.compute_loss(None, inputs)
    baseline = rm.group.soft_value(samples.ravel(), np.repeat(np.arange(6), 8))
    ours = rm.ops.normalize(rewards, np.arange(6), center=baseline, scale="none")
    agree(
        "TRL A2PO target",
        [ours.mean(), (ours**2).mean()],
        [trainer._metrics["train"]["advantage"][0], loss],
        atol=1e-13,
    )


def test_a_lone_success_of_a_cold_value_is_the_maximum(a2po):
    """Far below the spread of the rewards both are the maximum, without overflow."""
    _, theirs = estimate(a2po, np.array([[1000.0, 0.0]]), 1e-3)
    assert theirs == pytest.approx(1000.0, abs=1e-3)
    assert rm.group.soft_value([1000.0, 0.0], [0, 0], beta=1e-3) == pytest.approx(1000.0, abs=1e-3)
