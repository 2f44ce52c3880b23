"""The blocks of docs/trainers.md and docs/trainers/slime.md do what they say (verl's and TRL's: tests/conformance)."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from slime_stand_ins import arguments, batch, install, sample, sum_of_sample_mean  # noqa: E402

import rollmath as rm  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page):
    text = (DOCS / page).read_text()
    return [
        re.sub("^    ", "", found, flags=re.MULTILINE)
        for found in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE)
    ]


def block(start, page="trainers.md"):
    """The one that begins so."""
    (found,) = [b for b in blocks(page) if b.startswith(start)]
    return found


def config(start, page="trainers.md"):
    """What slime makes of a YAML file: attributes of its arguments."""
    return pytest.importorskip("yaml").safe_load(block(start, page))


def flags():
    """``{flag: value}`` of slime's block."""
    words = block("--custom-config-path").split()
    return {word: (words[i + 1 : i + 2] or [""])[0] for i, word in enumerate(words) if word.startswith("--")}


def hook(name):
    path = flags()[f"--{name}-path"]
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_blocks_are_short():
    found = blocks("trainers.md")
    assert len(found) == 7
    assert max(len(b.strip().splitlines()) for b in found) <= 10


def test_any_loop():
    lp = torch.full((5, 3), -1.0, requires_grad=True)
    world = {
        "rm": rm, "torch": torch, "rollout_ids": list("aabcd"), "lengths": [3, 1, 2, 3, 3], "old": lp.detach(),
        "response_mask": torch.tensor([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]),
        "rewards": torch.tensor([1.0, 0.0, 1.0, 1.0]), "prompt_ids": list("ppqq"), "micro_batch_size": 2,
        "forward": lambda part: lp[part],
    }  # fmt: skip
    exec(block("recipe = rm.recipes.get("), world)
    # The group of c and d has no spread; the tokens of a and b share the mean.
    up, down = (rm.group.grpo([1.0, 0.0], ["p", "p"]) / 5).tolist()
    expected = torch.zeros(5, 3)
    expected[0, [0, 2]] = expected[1, 0] = -up
    expected[2, :2] = -down
    torch.testing.assert_close(lp.grad, expected)


def test_slimes_paths(monkeypatch):
    """Each named function, with the YAML of the page in slime's arguments."""
    install(monkeypatch)
    args = arguments(**config("rollmath:"), calculate_per_token_loss=True, use_tis=True)
    samples = [sample(0, 1.0, length=2), sample(0, 0.0, length=1), sample(1, 1.0, length=2)]
    assert hook("dynamic-sampling-filter")(args, samples[:2]).keep
    raw, rewards = hook("custom-reward-post-process")(args, samples)
    assert raw == [1.0, 0.0, 1.0]
    assert rewards == [*rm.group.grpo([1.0, 0.0], ["p", "p"]).tolist(), 0.0]
    assert [x.remove_sample for x in samples] == [False, False, True]
    data = {"rewards": rewards, "kl": [torch.zeros(n) for n in (2, 1, 2)]}
    hook("custom-advantage-function")(args, data)
    assert [len(x) for x in data["advantages"]] == [2, 1, 2]


def test_slimes_loss(monkeypatch):
    given, found = batch()
    install(monkeypatch, found)
    args = arguments(**config("rollmath:"), calculate_per_token_loss=True)
    value, _ = hook("custom-loss-function")(args, given, torch.zeros(()), sum_of_sample_mean(given, True))
    theta, old, a = (torch.cat(x) for x in (found["log_probs"], given["log_probs"], given["advantages"]))
    ratio = (theta - old).exp()
    expected = torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.3)) * torch.cat(given["loss_masks"])
    np.testing.assert_allclose(value.item(), expected.sum().item(), rtol=1e-12)


def test_the_settings_of_slimes_page():
    args = arguments(**config("rollmath:", "trainers/slime.md"))
    samples = [
        sample(0, r, rollout=i, metadata={"strata": s})
        for r, i, s in [(0.5, 0, 1), (0.5, 0, 1), (0.0, 1, 1), (1.0, 2, 2), (0.0, 3, 2)]
    ]
    found = rm.adapters.slime.post_process_rewards(args, samples)[1]
    once = rm.group.stratified([1.0, 0.0, 1.0, 0.0], [0] * 4, strata=[1, 1, 2, 2]).tolist()
    assert found == [once[0], *once]


def test_an_estimator_of_skyrl():
    world = {"rm": rm}
    exec(block("def estimator(token_level_rewards"), world)
    rewards = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    advantages, returns = world["estimator"](
        token_level_rewards=rewards, response_mask=mask, index=np.array(["a", "a", "b"], object), values=None,
        grpo_norm_by_std=True, gamma=1.0, lambd=1.0, config=SimpleNamespace(),
    )  # fmt: skip
    assert returns is advantages
    torch.testing.assert_close(advantages[:2, 0], rm.group.grpo(torch.tensor([1.0, 0.0]), ["a", "a"]))
    assert (advantages[mask == 0] == 0).all()
    assert advantages[2].tolist() == [0.0] * 3


def test_an_estimator_of_rllm():
    world = {"rm": rm, "np": np}
    exec(block("def estimator(rewards, algorithm_config"), world)
    given = [np.array([1.0, 0.0, 0.5]), np.array([2.0, 4.0])]
    advantages, returns = world["estimator"](given, SimpleNamespace(), traj_groups=[])
    assert [len(x) for x in advantages] == [3, 2]
    assert advantages[1].tolist() == [-2.0, 2.0]
    assert len(returns) == 2
