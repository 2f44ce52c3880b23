"""The verl adapter under v1's trainer: sessions of several outputs, its queue, its padding."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("transfer_queue") is None:
    pytest.skip("verl and its queue are not installed; `make test-peers` has them", allow_module_level=True)

import torch
from verl_batches import Config, columns, proto

from rollmath.adapters import verl as adapter

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture
def v1(peer):
    module = peer("verl.trainer.ppo.v1.trainer_base")
    peer("verl.trainer.ppo.v1.utils")
    adapter.register()
    yield module
    adapter.unpatch_compute_advantage()
    adapter.unregister()


def config(**more):
    return Config(gamma=1.0, lam=0.95, use_kl_in_reward=False, norm_adv_by_std_in_grpo=True, **more)


def sessions(seed, *, several=True, gaps=False):
    """A batch whose rows are outputs of sessions, in random order, with the key of each row.

    Rewards of outputs before the last are garbage: verl's own GRPO does not look at them.
    """
    tensors, others = columns(seed, gaps=gaps, per_token=True)
    rng = np.random.default_rng(seed)
    seen, keys = {}, []
    for uid in others["uid"]:
        # Rows of a prompt become sessions of up to three outputs, of which some have numbers over 9.
        session, output = seen.setdefault(uid, [0, 0])
        keys.append(f"{uid}_{session}_{output + 8}")
        if several and output < 2 and rng.random() < 0.6:
            seen[uid][1] += 1
        else:
            seen[uid] = [session + 1, 0]
    order = rng.permutation(len(keys))
    others = {k: x[order] for k, x in others.items()}
    return {k: x[torch.from_numpy(order)] for k, x in tensors.items()}, others, [keys[i] for i in order]


def final_rows(keys):
    """The row of the last output of each session, and the session of each row."""
    names = [key.rpartition("_")[0] for key in keys]
    last = {}
    for row, key in enumerate(keys):
        output = int(key.rpartition("_")[2])
        last[names[row]] = max(last.get(names[row], (-1, -1)), (output, row))
    numbers = {name: number for number, name in enumerate(last)}
    return np.array([row for _, row in last.values()]), np.array([numbers[name] for name in names])


def call(v1, batch, name, settings=None):
    tensors, others, keys = batch
    settings = settings or config()
    return v1.compute_advantage_for_multi_trajectories(
        proto(tensors, others), keys, name, gamma=settings.gamma, lam=settings.lam, config=settings
    ).batch["advantages"]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sessions_count_once_as_in_grpo_of_verl(v1, agree, seed, several, gaps):
    batch = sessions(seed, several=several, gaps=gaps)
    final, index = final_rows(batch[2])
    assert (len(final) < len(index)) == several
    theirs = call(v1, batch, "grpo")
    with adapter.patch_compute_advantage():
        mine = call(v1, batch, "rollmath/grpo")
        assert torch.equal(call(v1, batch, "grpo"), theirs)
    agree("verl adapter v1 grpo, sessions float32", mine, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["rloo", "opo", "maxrl", "dapo", "lite_ppo", "reinforce_pp_baseline", "gdpo"])
def test_other_methods_count_sessions_once_too(v1, name):
    """The number of its last output, from the statistics of last outputs, at the trained tokens of all its rows."""
    batch = sessions(4, gaps=True)
    tensors, others, keys = batch
    final, index = final_rows(keys)
    mask = tensors["response_mask"].numpy()
    rewards = tensors["token_level_rewards"].sum(1).numpy()[final]
    uids = others["uid"][final]
    lengths = np.bincount(index, weights=mask.sum(1)).astype(int)
    verl = rm.conventions.VERL
    expected = {
        "rloo": lambda: rm.group.rloo(rewards, uids, convention=verl),
        "opo": lambda: rm.group.opo(rewards, uids, lengths, convention=verl),
        "maxrl": lambda: rm.group.maxrl(rewards, uids),
        "dapo": lambda: rm.group.grpo(rewards, uids),
        "lite_ppo": lambda: rm.group.lite_ppo(rewards, uids),
        "reinforce_pp_baseline": lambda: rm.group.reinforce_pp_baseline(
            rewards, uids, lengths=lengths, convention=verl
        ),
        "gdpo": lambda: rm.group.gdpo(
            np.stack([others[k][final] for k in ("accuracy", "format")], 1).astype(np.float32),
            uids, lengths=lengths, convention=verl,
        ),
    }[name]()  # fmt: skip
    settings = config(gdpo_reward_keys=["accuracy", "format"])
    with adapter.patch_compute_advantage():
        mine = call(v1, batch, f"rollmath/{name}", settings)
    np.testing.assert_allclose(mine, expected[index][:, None] * mask, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["gae", "reinforce_pp"])
def test_estimators_on_tokens_take_rows_as_they_are(v1, agree, name):
    batch = sessions(5, gaps=True)
    theirs = call(v1, batch, {"reinforce_pp": "reinforce_plus_plus"}.get(name, name))
    with adapter.patch_compute_advantage():
        mine = call(v1, batch, f"rollmath/{name}")
    trained = batch[0]["response_mask"] != 0
    agree(f"verl adapter v1 {name} float32", mine[trained], theirs[trained], atol=5e-6)


def test_without_the_patch_rows_count_each_and_a_warning_says_so(v1):
    batch = sessions(1)
    with pytest.warns(RuntimeWarning, match=r"rollmath/rloo: some sessions have several outputs.*patch_compute_adv"):
        mine = call(v1, batch, "rollmath/rloo")
    assert torch.allclose(mine, call(v1, batch, "rloo"), atol=1e-6)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        call(v1, sessions(1, several=False), "rollmath/rloo")
        with adapter.patch_compute_advantage():
            call(v1, batch, "rollmath/rloo")


def test_a_key_of_another_form_is_an_error(v1):
    tensors, others, keys = sessions(1)
    with adapter.patch_compute_advantage():
        for wrong in ("no-number", "prompt_0_last"):
            with pytest.raises(ValueError, match=rf"'batch_keys' must be '{{uid}}_.*', got '{wrong}' at row 0"):
                call(v1, (tensors, others, [wrong, *keys[1:]]), "rollmath/grpo")


# The trainer's own method, over a queue that holds the batch.


class FakeQueue:
    """What v1's trainer asks of its queue: fields of keys, jagged where they have one number a token."""

    def __init__(self, fields):
        self.fields, self.put = fields, None

    def kv_batch_get(self, *, keys, partition_id, select_fields):
        from verl.utils.tensordict_utils import get_tensordict

        assert partition_id == "train"
        there = [name for name in select_fields if name in self.fields]
        if select_fields != there and len(select_fields) == 1:
            raise ValueError(f"no field {select_fields}")
        return get_tensordict({name: self.fields[name] for name in there})

    def kv_batch_put(self, *, keys, partition_id, fields):
        self.put = fields
        return SimpleNamespace(keys=keys, partition_id=partition_id)


def jagged(x, lengths):
    return torch.nested.as_nested_tensor([row[:n] for row, n in zip(x, lengths, strict=True)], layout=torch.jagged)


@pytest.fixture
def step(v1, monkeypatch):
    """``run(name, table)``: v1's own ``_compute_advantage``, with two rows of padding and columns in the queue."""
    tensors, others, keys = sessions(6)
    n = len(keys)
    lengths = [*tensors["response_mask"].sum(1).tolist(), 1, 1]

    def padded(x):
        return torch.cat([x, torch.zeros(2, x.shape[1], dtype=x.dtype)])

    fields = {
        name: jagged(padded(tensors[source]), lengths)
        for name, source in {
            "response_mask": "response_mask",
            "rm_scores": "token_level_rewards",
            "old_log_probs": "old_log_probs",
            "sum_pi_squared": "sum_pi_squared",
            "values": "values",
        }.items()
    }
    fields["uid"] = [*others["uid"], "padding", "padding"]
    fields["n_tool_calls"] = torch.tensor([*others["n_tool_calls"], 0, 0])
    fields["extra_fields"] = [
        {"depth": int(i % 3), "reward_extra_info": {"accuracy": float(a), "format": float(f), "level": f"level {f}"}}
        for i, (a, f) in enumerate(zip(others["accuracy"], others["format"], strict=True))
    ] + [{"depth": 0, "reward_extra_info": {"accuracy": 0.0, "format": 0.0, "level": ""}}] * 2
    queue = FakeQueue(fields)
    monkeypatch.setattr(v1, "tq", queue)
    tags = [{"is_padding": False}] * n + [{"is_padding": True}] * 2
    meta = v1.KVBatchMeta(partition_id="train", keys=[*keys, "padding_0_0", "padding_1_0"], tags=tags)

    def run(name, **settings):
        algorithm = config(adv_estimator=name, **settings)
        trainer = SimpleNamespace(
            config=Config(algorithm=algorithm, actor_rollout_ref=Config(rollout=Config(n=8))), kl_ctrl_in_reward=None
        )
        v1.PPOTrainer._compute_advantage(trainer, meta, {})
        return queue.put["advantages"].to_padded_tensor(padding=0.0)

    return SimpleNamespace(run=run, tensors=tensors, others=others, keys=keys)


def rollouts(step):
    final, index = final_rows(step.keys)
    return step.tensors["token_level_rewards"].sum(1).numpy()[final], step.others["uid"][final], final, index


def at_tokens(step, values, index):
    mask = step.tensors["response_mask"].numpy()
    return np.concatenate([values[index][:, None] * mask, np.zeros((2, mask.shape[1]))])


def test_the_trainer_itself(step):
    theirs = step.run("grpo")
    with adapter.patch_compute_advantage() as done:
        assert "verl.trainer.ppo.v1.trainer_base.PPOTrainer._compute_advantage" in done.places
        assert torch.allclose(step.run("rollmath/grpo"), theirs, atol=1e-6)


def test_columns_that_only_the_queue_has(step):
    rewards, uids, final, index = rollouts(step)
    with adapter.patch_compute_advantage():
        for column, strata in (
            ("n_tool_calls", step.others["n_tool_calls"][final]),
            ("depth", final % 3),
            ("level", step.others["format"][final].astype(str)),
        ):
            mine = step.run("rollmath/stratified", rollmath={"columns": {"strata": column}})
            expected = rm.group.stratified(rewards, uids, strata=strata)
            np.testing.assert_allclose(mine, at_tokens(step, expected, index), rtol=1e-6, atol=1e-7)
        with pytest.raises(ValueError, match=r"needs 'depht' \(for 'strata'\), which the batch does not have"):
            step.run("rollmath/stratified", rollmath={"columns": {"strata": "depht"}})


def test_outputs_of_sessions_are_steps(step):
    """What the agent saw is a field that an agent loop puts into the extra fields of each output."""
    rewards, _, _, index = rollouts(step)
    rows = np.arange(len(index))
    outputs = [int(key.rpartition("_")[2]) for key in step.keys]
    steps = rm.Steps(index.tolist(), (rows % 3).tolist(), groups=step.others["uid"].tolist(), step=outputs)
    assert len(rewards) < len(rows)
    with adapter.patch_compute_advantage():
        mine = step.run("rollmath/gigpo", rollmath={"columns": {"states": "depth"}})
    expected = rm.graph.gigpo(steps, rewards)
    np.testing.assert_allclose(mine, at_tokens(step, expected, rows), rtol=1e-6, atol=1e-6)


def test_gdpo_and_the_optimal_token_baseline_work_in_v1(step):
    """verl passes them neither the rewards by name nor the sums of squares there."""
    _, uids, final, index = rollouts(step)
    lengths = np.bincount(index, weights=step.tensors["response_mask"].sum(1).numpy()).astype(int)
    with pytest.raises((AssertionError, KeyError, RuntimeError)):
        step.run("gdpo", gdpo_reward_keys=["accuracy", "format"])
    with adapter.patch_compute_advantage():
        mine = step.run("rollmath/gdpo", gdpo_reward_keys=["accuracy", "format"])
        table = np.stack([step.others[k][final] for k in ("accuracy", "format")], 1).astype(np.float32)
        expected = rm.group.gdpo(table, uids, lengths=lengths, convention=rm.conventions.VERL)
        np.testing.assert_allclose(mine, at_tokens(step, expected, index), rtol=1e-6, atol=1e-6)
        mine = step.run("rollmath/optimal_token_baseline")
    given = [step.tensors[k].numpy() for k in ("old_log_probs", "sum_pi_squared")]
    expected = rm.group.optimal_token_baseline(
        step.tensors["token_level_rewards"].numpy(), step.others["uid"], *given,
        mask=step.tensors["response_mask"].numpy(), **rm.conventions.VERL.options["optimal_token_baseline"],
    )  # fmt: skip
    np.testing.assert_allclose(mine[:-2], expected, rtol=1e-5, atol=1e-6)


def test_rows_that_fill_the_batch_are_no_rollouts(step):
    """They would enter a standard deviation of the batch with reward 0."""
    rewards, uids, _, index = rollouts(step)
    with adapter.patch_compute_advantage():
        mine = step.run("rollmath/lite_ppo")
    np.testing.assert_allclose(mine, at_tokens(step, rm.group.lite_ppo(rewards, uids), index), rtol=1e-6, atol=1e-7)
