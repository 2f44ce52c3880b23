"""TRL's advantages: the trainers' own methods, run on bare trainer objects that know their rewards beforehand.

TRL has no advantage function; the arithmetic is in the middle of ``_generate_and_score_completions``. The tests make a
trainer without its constructor, give it the attributes that this method reads, replace generation, scoring and the
model's forward pass, and call the method itself: everything between the rewards and the advantages is TRL's code.
"""

import asyncio
import importlib.util
import logging
from unittest.mock import patch

import numpy as np
import pytest
from bare_trl import advantages

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

# Importing the trainers takes most of a minute where the disk is slow.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

TRL = rm.conventions.TRL


def run(module, kind, rewards, size, **options):
    return advantages(module, kind, rewards, size, **options).numpy()


@pytest.fixture(scope="module")
def grpo_trainer(peer):
    return peer("trl.trainer.grpo_trainer")


@pytest.fixture(scope="module")
def rloo_trainer(peer):
    return peer("trl.trainer.rloo_trainer")


def make(seed, size, kind, dtype, *, missing=0.0):
    """Rewards in groups of `size` consecutive rows, as TRL has them, some groups constant, some rewards missing."""
    rng = np.random.default_rng([seed, size])
    rewards = rng.integers(0, 2, (24, size)).astype(float) if kind == "binary" else rng.normal(size=(24, size))
    rewards[::5] = rng.integers(-16, 17, (5, 1)) / 8  # adds up exactly: no rounding residue
    rewards[rng.random(rewards.shape) < missing] = np.nan
    return rewards.ravel().astype(dtype)


def shuffled(method, rewards, size, **options):
    """Our result for the rows in random order, put back into TRL's order."""
    order = np.random.default_rng(size).permutation(len(rewards))
    ids = np.repeat(np.arange(len(rewards) // size), size)
    out = np.empty_like(rewards)
    out[order] = method(rewards[order], ids[order], **options)
    return out


SIZES = range(1, 17)
kinds = pytest.mark.parametrize("kind", ["binary", "real"])
missings = pytest.mark.parametrize("missing", [0.0, 0.3])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def tolerance(dtype, *, std=False):
    """TRL trains on float32 rewards; its formula for the standard deviation has a float32 factor n / (n - 1)."""
    return 4e-6 if dtype == "float32" else 3e-7 if std else 1e-12


@kinds
@dtypes
@missings
def test_grpo(grpo_trainer, agree, kind, dtype, missing):
    for size in SIZES:
        rewards = make(1, size, kind, dtype, missing=missing)
        theirs = run(grpo_trainer, "GRPOTrainer", rewards, size)
        ours = shuffled(rm.group.grpo, rewards, size, convention=TRL)
        # Where one reward is there among missing ones, its standard deviation is NaN there, and its advantage 0.
        name = f"TRL GRPOTrainer {dtype}{' with missing rewards' if missing else ''}"
        agree(name, ours, theirs, atol=tolerance(dtype, std=True))


@kinds
@dtypes
@missings
def test_grpo_without_std(grpo_trainer, agree, kind, dtype, missing):
    for size in SIZES:
        rewards = make(2, size, kind, dtype, missing=missing)
        theirs = run(grpo_trainer, "GRPOTrainer", rewards, size, scale_rewards="none")
        ours = shuffled(rm.group.grpo, rewards, size, scale="none", convention=TRL)
        agree(f"TRL GRPOTrainer scale_rewards=none {dtype}", ours, theirs, atol=tolerance(dtype))


@kinds
@dtypes
@missings
def test_grpo_with_the_standard_deviation_of_the_batch(grpo_trainer, agree, kind, dtype, missing):
    for size in SIZES:
        rewards = make(3, size, kind, dtype, missing=missing)
        theirs = run(grpo_trainer, "GRPOTrainer", rewards, size, scale_rewards="batch")
        ours = shuffled(rm.ops.normalize, rewards, size, scale="batch_std", convention=TRL["grpo"])
        agree(f"TRL GRPOTrainer scale_rewards=batch {dtype}", ours, theirs, atol=tolerance(dtype, std=True))


@kinds
@dtypes
@missings
def test_rloo(rloo_trainer, agree, kind, dtype, missing):
    for size in SIZES:
        rewards = make(4, size, kind, dtype, missing=missing)
        theirs = run(rloo_trainer, "RLOOTrainer", rewards, size)
        ours = shuffled(rm.group.rloo, rewards, size, convention=TRL)
        name = f"TRL RLOOTrainer {dtype}{' with missing rewards' if missing else ''}"
        agree(name, ours, theirs, atol=tolerance(dtype))


@kinds
@dtypes
@missings
def test_dr_grpo_and_lite_ppo(grpo_trainer, agree, kind, dtype, missing):
    for size in SIZES:
        rewards = make(6, size, kind, dtype, missing=missing)
        for scale, method in (("none", rm.group.dr_grpo), ("batch", rm.group.lite_ppo)):
            theirs = run(grpo_trainer, "GRPOTrainer", rewards, size, scale_rewards=scale)
            ours = shuffled(method, rewards, size, convention=TRL)
            name = f"TRL GRPOTrainer scale_rewards={scale}, {method.__name__} {dtype}"
            agree(name, ours, theirs, atol=tolerance(dtype, std=scale == "batch"))


@kinds
@dtypes
@missings
def test_gdpo(grpo_trainer, agree, kind, dtype, missing):
    import torch

    for size in SIZES:
        # In steps of 1/64: two rewards that nearly tie are a division by nearly 0, in which float32 loses digits.
        columns = [np.round(64 * make(seed, size, kind, dtype, missing=missing)) / 64 for seed in (7, 8, 9)]
        rewards, weights = np.stack(columns, axis=1), np.array([1.0, 0.5, 0.25], dtype)
        options = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": torch.from_numpy(weights)}
        theirs = run(grpo_trainer, "GRPOTrainer", rewards, size, **options)
        order = np.random.default_rng(size).permutation(len(rewards))
        ids = np.repeat(np.arange(len(rewards) // size), size)
        ours = np.empty_like(theirs)
        given = TRL.options["gdpo"] | {"weights": weights, "convention": TRL}
        ours[order] = rm.group.gdpo(rewards[order], ids[order], **given)
        name = f"TRL GRPOTrainer normalize_then_sum {dtype}{' with missing rewards' if missing else ''}"
        agree(name, ours, theirs, atol=tolerance(dtype, std=True))


async def score(worker, rewards):
    """The asynchronous worker scores one group at a time, in float64."""
    size = len(rewards)
    row = worker.TrainingSequence.__new__(worker.TrainingSequence)
    for name in ("input_ids", "completion_mask", "old_log_probs"):
        object.__setattr__(row, name, [0])
    loop = object.__new__(worker._AsyncRolloutLoop)
    loop.reward_funcs = [lambda **_: [None if np.isnan(r) else r for r in rewards]]
    loop.reward_func_names = ["reward"]
    loop._env_reward_types = []
    group = worker.RolloutGroup(
        prompts=[[]] * size,
        reward_kwargs={},
        completions=[[]] * size,
        completions_ids=[[0]] * size,
        completions_sequences=[[row]] * size,
        tool_call_counts=[0] * size,
        tool_failure_counts=[0] * size,
        model_version=0,
        group_id=0,
        env_rewards=[None] * size,
        rollout_rewards=[None] * size,
    )
    # Its logger asks accelerate which process it is in.
    with patch.object(worker, "logger", logging.getLogger(__name__)):
        return [sample.advantage for sample in await loop._score_group(group)]


@kinds
@missings
def test_async_grpo(peer, agree, kind, missing):
    worker = peer("trl.experimental.async_grpo.async_rollout_worker")
    for size in SIZES:
        rewards = make(5, size, kind, "float64", missing=missing)
        theirs = np.concatenate([asyncio.run(score(worker, group)) for group in rewards.reshape(-1, size)])
        ours = shuffled(rm.group.grpo, rewards, size, convention=rm.conventions.TRL_ASYNC)
        agree(f"TRL async GRPO float64{' with missing rewards' if missing else ''}", ours, theirs, atol=1e-9)


def test_the_two_trls_disagree(grpo_trainer, peer):
    """The trainer has the sample standard deviation and eps 1e-4, the asynchronous worker the population's and 1e-8."""
    worker = peer("trl.experimental.async_grpo.async_rollout_worker")
    rewards = np.array([1.0, 0.0])
    trainer, asynchronous = run(grpo_trainer, "GRPOTrainer", rewards, 2), asyncio.run(score(worker, rewards))
    assert trainer.tolist() == pytest.approx([2**-0.5, -(2**-0.5)], rel=2e-4)
    assert asynchronous == pytest.approx([1.0, -1.0])
    assert rm.group.grpo(rewards, [0, 0], convention=TRL).tolist() == pytest.approx(trainer.tolist(), abs=3e-7)
    ours = rm.group.grpo(rewards, [0, 0], convention=rm.conventions.TRL_ASYNC)
    assert ours.tolist() == pytest.approx(asynchronous)


def test_a_group_of_one_gets_zero(grpo_trainer, rloo_trainer):
    rewards = np.float32([0.75, -1.0])
    assert run(grpo_trainer, "GRPOTrainer", rewards, 1).tolist() == [0.0, 0.0]
    assert run(rloo_trainer, "RLOOTrainer", rewards, 1).tolist() == [0.0, 0.0]
    assert rm.group.grpo(rewards, [0, 1], convention=TRL).tolist() == [0.0, 0.0]
    assert rm.group.rloo(rewards, [0, 1], convention=TRL).tolist() == [0.0, 0.0]


def test_the_residue_of_a_constant_group_is_theirs_alone(grpo_trainer):
    """As in verl, but eps 1e-4 hides it better; three numbers add up in one way only."""
    rewards = np.full(3, 1000.1, np.float32)
    assert np.abs(run(grpo_trainer, "GRPOTrainer", rewards, 3)) == pytest.approx(0.349, abs=1e-3)
    assert not rm.group.grpo(rewards, [0] * 3, convention=TRL).any()
