"""Controllers and the entropy threshold beside verl's class and TRL's trainer."""

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from rollmath.loss import AdaptiveEntropy, AdaptiveKL, entropy_mask, entropy_threshold

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_verl_adaptive_kl(peer, agree, seed):
    theirs = peer("verl.trainer.ppo.core_algos").AdaptiveKLController(0.05, 6.0, 10000)
    ours, rng = AdaptiveKL(coef=0.05, target=6.0, horizon=10000), np.random.default_rng(seed)
    values = []
    for kl, n in zip(rng.gamma(2.0, 3.0, 500), rng.integers(0, 2048, 500), strict=True):
        theirs.update(current_kl=kl, n_steps=n)
        ours = ours.update(kl, rollouts=n)
        values.append((ours.coefficient, theirs.value))
    mine, reference = np.array(values).T
    assert reference.max() / reference.min() > 1.5
    # Relative, because the coefficient wanders.
    agree("verl AdaptiveKLController float64", mine / reference, np.ones(len(mine)), atol=1e-13)


def trainer(peer, **attributes):
    """A GRPOTrainer that was never constructed, with what its loss reads."""
    made = object.__new__(peer("trl.trainer.grpo_trainer").GRPOTrainer)
    everything = {
        "model": SimpleNamespace(training=True),
        "loss_type": "bnpo",
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "beta": 0.0,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        **attributes,
    }
    for name, value in everything.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_trl_adaptive_entropy(peer, agree, micro_batches):
    """``GRPOTrainer._compute_loss`` over steps of micro-batches of unequal token counts: its coefficient, and what of
    the entropy is in its loss."""
    options = {"target": 1.0, "delta": 0.02, "low": 0.01, "high": 0.07}
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x, sync_gradients=False, unwrap_model=lambda m: m
    )
    args = {f"entropy_coef_{new}": options[old] for new, old in (("delta", "delta"), ("min", "low"), ("max", "high"))}
    theirs = trainer(
        peer,
        accelerator=accelerator,
        args=SimpleNamespace(
            delta=None, steps_per_generation=1, use_bias_correction_kl=False, entropy_target=1.0, **args
        ),
        current_gradient_accumulation_steps=micro_batches,
        entropy_coef=0.03,
        use_adaptive_entropy=True,
        _entropy_bonus_enabled=True,
        _last_world_entropy=float("inf"),
        _entropy_window_stats=None,
    )
    ours, rng = AdaptiveEntropy(coef=0.03, **options), np.random.default_rng(7)
    applied, coefficients, gates = [], [], set()
    for step in range(40):
        total, count = 0.0, 0
        for i in range(micro_batches):
            mask = torch.tensor(rng.random((4, 9)) < 0.3 + 0.2 * i, dtype=torch.float64)
            mask[0, 0] = 1
            entropies = torch.tensor(rng.gamma(4.0, 0.25, mask.shape)) * (1 + 0.3 * np.sin(step / 3))
            # Advantages of 0: the loss is the entropy term alone.
            theirs._get_per_token_logps_and_entropies = lambda *_, h=entropies, **__: (h - h, h, None)
            inputs = {
                "prompt_ids": torch.zeros(4, 0, dtype=torch.long),
                "prompt_mask": torch.zeros(4, 0, dtype=torch.long),
                "completion_ids": torch.zeros(4, 9, dtype=torch.long),
                "completion_mask": mask,
                "advantages": torch.zeros(4, dtype=torch.float64),
                "old_per_token_logps": torch.zeros(4, 9, dtype=torch.float64),
                "num_items_in_batch": mask.sum(),
            }
            accelerator.sync_gradients = i == micro_batches - 1
            loss = theirs._compute_loss(None, inputs)
            mean = (entropies * mask).sum() / mask.sum() / micro_batches
            applied.append((ours.coefficient, -float(loss / mean)))
            total, count = total + float((entropies * mask).sum()), count + int(mask.sum())
        ours = ours.update(total / count)
        coefficients.append((ours.coef, theirs.entropy_coef))
        gates.add(ours.coefficient > 0)
    assert gates == {True, False}
    for name, pairs in (("applied coefficient", applied), ("coefficient", coefficients)):
        mine, reference = np.array(pairs).T
        agree(f"TRL adaptive entropy, {name}", mine, reference, atol=1e-12)
    assert {options["low"], options["high"]} <= {c for c, _ in coefficients}


@pytest.mark.parametrize("top", [0.2, 0.5, 0.05])
def test_trl_high_entropy_mask(peer, agree, top):
    rng = np.random.default_rng(3)
    entropies = torch.tensor(rng.gamma(1.0, 1.0, (16, 41)), dtype=torch.float32)
    mask = torch.tensor(rng.random(entropies.shape) < 0.7)
    accelerator = SimpleNamespace(pad_across_processes=lambda x, **_: x, gather=lambda x: x)
    theirs = trainer(peer, accelerator=accelerator).get_high_entropy_mask(entropies, mask, 1 - top)
    parts = [row[keep] for row, keep in zip(entropies, mask, strict=True)]
    threshold = entropy_threshold(parts, quantile=1 - top)
    # Where the rank is a whole number, TRL's in float32 is a little more, and drops the token at the rank.
    away = (entropies.double() - threshold).abs() > 1e-6
    ours = entropy_mask(entropies, threshold) & mask
    agree("TRL get_high_entropy_mask float32", ours & away, theirs & away, atol=0.0)
    assert (ours ^ theirs).sum() <= 1
    expected = torch.quantile(entropies[mask], 1 - top).item()
    agree("TRL torch.quantile float32", threshold, expected, atol=1e-6)
