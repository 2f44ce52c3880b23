"""Advantages and returns of a rank: slime's numbers where it is right, and tool output passed over where it is not."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from slime_stand_ins import RECORDED, arguments  # noqa: E402
from torch import distributed  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.adapters.slime import advantages  # noqa: E402

ESTIMATES = RECORDED["estimates"]
REINFORCE = {"recipe": "grpo", "advantage": {"method": "group.reinforce_pp"}}
GAE = {"recipe": "grpo", "advantage": {"method": "temporal.gae", "options": {"lam": 0.5}}}


def tensors(lists, dtype=torch.float32):
    return [torch.tensor(x, dtype=dtype) for x in lists]


def data_of(rewards, masks, kl=None, values=None):
    lengths = [len(m) for m in masks]
    data = {
        "rewards": rewards,
        "response_lengths": lengths,
        "total_lengths": lengths,
        "loss_masks": tensors(masks, torch.int),
    }
    data["kl"] = tensors(kl) if kl else [torch.zeros(n) for n in lengths]
    return data | ({"values": tensors(values)} if values else {})


def lists(tensors):
    return [x.tolist() for x in tensors]


@pytest.mark.parametrize("name", ESTIMATES)
def test_slimes_estimators(name):
    case = ESTIMATES[name]
    masks = [[1] * len(x) for x in case["kl"]]
    data = data_of(case["rewards"], masks, case["kl"], case["values"])
    assert advantages(arguments(**case["args"]), data) is None
    for key in ("advantages", "returns"):
        assert isinstance(data[key], list)
        for ours, theirs in zip(data[key], case[key], strict=True):
            assert ours.dtype == torch.float32
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-6, atol=2e-6)


def test_lists_are_two():
    """slime's distillation penalty replaces the entries of one of them."""
    for estimator in ("grpo", "reinforce_plus_plus"):
        data = data_of([1.0], [[1, 1]])
        advantages(arguments(advantage_estimator=estimator), data)
        assert data["advantages"] is not data["returns"]


def test_tool_output_changes_nothing():
    args = arguments(advantage_estimator="ppo", gamma=0.9, lambd=0.8, kl_coef=0.1)
    dense = data_of([2.0], [[1, 1, 1]], [[0.5, 0.25, 1.0]], [[0.1, 0.2, 0.3]])
    gappy = data_of([2.0], [[1, 0, 1, 0, 1, 0]], [[0.5, 9.0, 0.25, 9.0, 1.0, 9.0]], [[0.1, 7.0, 0.2, 7.0, 0.3, 7.0]])
    advantages(args, dense)
    advantages(args, gappy)
    for key in ("advantages", "returns"):
        assert gappy[key][0][::2].tolist() == dense[key][0].tolist()
        assert gappy[key][0][1::2].tolist() == [0.0, 0.0, 0.0]


def test_the_reward_is_at_the_last_trained_token():
    data = data_of([1.0, 4.0], [[1, 1, 0], [0, 0]], values=[[0.0] * 3, [0.0] * 2])
    advantages(arguments(advantage_estimator="ppo", gamma=0.5), data)
    assert lists(data["advantages"]) == [[0.5, 1.0, 0.0], [0.0, 0.0]]


def test_values_of_half_precision():
    data = data_of([1.0], [[1, 1]])
    data["values"] = [torch.tensor([0.5, 0.25], dtype=torch.bfloat16)]
    advantages(arguments(advantage_estimator="ppo"), data)
    assert data["advantages"][0].dtype == torch.float32
    assert lists(data["advantages"]) == [[0.5, 0.75]]


def test_context_parallel_slices_of_one_number_a_sample():
    data = data_of([1.0, -1.0], [[1] * 4, [1] * 4])
    data["kl"] = [torch.zeros(2), torch.zeros(0)]
    advantages(arguments(context_parallel_size=2), data)
    assert lists(data["advantages"]) == [[1.0, 1.0], []]


@pytest.mark.parametrize("table", ["grpo", "dapo"])
def test_a_recipe_with_one_number_a_rollout_keeps_the_rewards(table):
    data = data_of([0.5, -0.5], [[1, 1], [1]])
    advantages(arguments(rollmath=table, advantage_estimator="ppo"), data)
    assert lists(data["advantages"]) == [[0.5, 0.5], [-0.5]]


def test_a_recipe_that_whitens():
    masks = [[1, 0, 1], [1]]
    data = data_of([1.0, 0.0], masks)
    advantages(arguments(rollmath=REINFORCE), data)
    mask = torch.tensor([1, 0, 1, 1])
    rewards = rm.Ragged(torch.tensor([0.0, 0.0, 1.0, 0.0]), [0, 3, 4])
    expected = rm.group.reinforce_pp(rewards, mask=mask)
    np.testing.assert_allclose(torch.cat(data["advantages"]).numpy(), expected.values.numpy(), rtol=1e-6)
    assert lists(data["returns"]) == [[1.0, 0.0, 1.0], [0.0]]


def test_a_recipe_of_gae_has_its_own_decay():
    data = data_of([1.0], [[1, 1]], values=[[0.5, 0.25]])
    advantages(arguments(rollmath=GAE, lambd=1.0), data)
    assert lists(data["advantages"]) == [[-0.25 + 0.5 * 0.75, 0.75]]


def test_a_penalty_on_the_kl():
    table = REINFORCE | {"reward_kl": 0.1}
    data = data_of([1.0], [[1, 1]], [[0.5, 1.0]])
    advantages(arguments(rollmath=table, kl_coef=0.1), data)
    np.testing.assert_allclose(data["returns"][0].numpy(), [0.85, 0.9], rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"advantages\(\): 'args.kl_coef' must be 0.1 .*, got 0.0: .* pass --kl-coef 0.1"
    ):
        advantages(arguments(rollmath=table, kl_coef=0.0), data)


RANKS = """
import json, multiprocessing, sys
from types import ModuleType, SimpleNamespace

def run(rank, folder, cases):
    import torch
    from torch import distributed
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    core = ModuleType("megatron.core")
    core.mpu = SimpleNamespace(get_data_parallel_group=lambda with_context_parallel: distributed.group.WORLD)
    sys.modules |= {"megatron": ModuleType("megatron"), "megatron.core": core}
    from rollmath.adapters.slime import advantages
    args = SimpleNamespace(**cases["args"])
    found = []
    for case in cases["ranks"][rank]:
        lengths = [len(mask) for mask in case["masks"]]
        data = {"rewards": case["rewards"], "response_lengths": lengths, "kl": [torch.zeros(n) for n in lengths]}
        data["loss_masks"] = [torch.tensor(mask) for mask in case["masks"]]
        try:
            advantages(args, data)
            found.append([x.tolist() for x in data["advantages"]])
        except ValueError as error:
            found.append(str(error))
    distributed.destroy_process_group()
    print(json.dumps([rank, found]), flush=True)

if __name__ == "__main__":
    folder, cases = sys.argv[1], json.loads(sys.argv[2])
    workers = [multiprocessing.get_context("fork").Process(target=run, args=(rank, folder, cases)) for rank in range(2)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
"""


def test_two_ranks(tmp_path, script):
    """Whitened as on one process, a rank without samples too; an error of one rank is raised on both."""
    masks, rewards = [[1, 0, 1], [1], [1, 1]], [1.0, 0.0, 0.25]
    args = vars(arguments(rollmath=REINFORCE))

    def part(*samples):
        return {"masks": [masks[i] for i in samples], "rewards": [rewards[i] for i in samples]}

    bad = {"masks": [[1]], "rewards": [float("nan")]}
    cases = [(part(0, 1), part(2)), (part(), part(2, 0, 1)), (part(0), bad)]
    given = json.dumps({"args": args, "ranks": [list(of_rank) for of_rank in zip(*cases, strict=True)]})
    code = f"import sys; sys.argv = ['x', {str(tmp_path)!r}, {given!r}]\n{RANKS}"
    found = dict(json.loads(line) for line in script(code)[0].splitlines())
    whole = data_of(rewards, masks)
    advantages(arguments(rollmath=REINFORCE), whole)
    one = lists(whole["advantages"])
    assert [found[0][0], found[1][0]] == [one[:2], one[2:]]
    assert [found[0][1], found[1][1]] == [[], [one[2], one[0], one[1]]]
    for rank in (0, 1):
        assert "must be finite" in found[rank][2]
        assert found[rank][2].endswith("on rank 1")


def test_ranks_without_megatron(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setitem(sys.modules, "megatron", None)
    with pytest.raises(RuntimeError, match=r"advantages\(\): to whiten over ranks needs megatron.core"):
        advantages(arguments(rollmath=REINFORCE), data_of([1.0, 0.0], [[1], [1]]))


@pytest.mark.parametrize(
    ("changed", "data", "message"),
    [
        (
            {"advantage_estimator": "rloo"},
            data_of([1.0], [[1]]),
            "'args.advantage_estimator' must be one of grpo, gspo, .*, got 'rloo'",
        ),
        (
            {"advantage_estimator": "ppo"},
            data_of([1.0], [[1]]),
            "'rollout_data' must have 'values' for GAE, .* --use-critic",
        ),
        (
            {"advantage_estimator": "ppo", "context_parallel_size": 2},
            data_of([1.0], [[1]]),
            "'args.context_parallel_size' must be 1 for temporal.gae, which looks at whole samples, got 2: .* use --c",
        ),
        ({}, data_of([1.0, 2.0], [[1]]), r"'rewards' must have length 1 \(= the samples of this rank\), got 2"),
        (
            {"advantage_estimator": "reinforce_plus_plus"},
            data_of([1.0], [[1]], [[0.0, 0.0]]),
            r"'kl\[0\]' must have length 1 \(= response_lengths\[0\]\), got 2",
        ),
        (
            {"advantage_estimator": "reinforce_plus_plus"},
            data_of([1.0], [[1], [1]]),
            r"'rewards' must have length 2 \(= the samples of this rank\), got 1",
        ),
        (
            {"rollmath": REINFORCE},
            data_of([1.0, 0.0], [[1], [1]], [[0.0]]),
            r"'kl' must have length 2 \(= the samples of this rank\), got 1",
        ),
        (
            {"rollmath": REINFORCE, "normalize_advantages": True},
            data_of([1.0], [[1]]),
            "the recipe whitens, and 'args.normalize_advantages' would whiten again; leave --normalize-advantages away",
        ),
        (
            {"rollmath": {"recipe": "grpo", "advantage": {"method": "temporal.discounted_returns"}}},
            data_of([1.0], [[1]]),
            "recipe 'grpo' has the method 'temporal.discounted_returns', but of those",
        ),
    ],
)
def test_errors(changed, data, message):
    with pytest.raises(ValueError, match=rf"advantages\(\): {message}"):
        advantages(arguments(**changed), data)


def test_numbers_that_are_not_finite():
    data = data_of([1.0], [[1, 1]], values=[[float("nan"), 0.0]])
    with pytest.raises(ValueError, match="must be finite"):
        advantages(arguments(advantage_estimator="ppo"), data)


def test_no_samples_on_this_rank():
    data = data_of([], [])
    advantages(arguments(advantage_estimator="reinforce_plus_plus"), data)
    assert data["advantages"] == data["returns"] == []
