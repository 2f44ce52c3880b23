"""A run: what a kill leaves, what the budget counts, and that packing changes no gradient."""

import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    from bench.training import arms, run, select_arms
    from bench.training.arms import ARMS, Arm, Pool, flat, levels, named
    from bench.training.run import Plan, Run
    from bench.training.update import Settings, loss_of, parts
    from rollmath.demo.clock import Clock
    from rollmath.loss import ImportanceWeight

# Steps of some hundred tokens, 32 rollouts at most.
_tis = named("grpo", correction=ImportanceWeight(2.0))
_by_chance = select_arms.drawn_by_seed(flat(8, 2))
SMALL = {
    "small": Arm("small", "", named("grpo"), flat(4, 4)),
    "small_lag": Arm("small_lag", "", _tis, flat(4, 4), lag=2, settings={"fresh_prox": True}),
    "small_knapsack": Arm("small_knapsack", "", named("grpo"), select_arms.knapsacked(4, 16, high=8)),
    "small_random": Arm("small_random", "", ARMS["random_4of16"].recipe, _by_chance, settings={"minibatches": 2}),
    "small_tree": Arm("small_tree", "", named("spo_tree"), levels((2, 2, 2), 9, 2), settings={"packed": True}),
}


@pytest.fixture(autouse=True)
def small_arms(monkeypatch):
    for name, arm in SMALL.items():
        monkeypatch.setitem(ARMS, name, arm)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(arm, *, seed=0, budget=2400, evaluations=3):
    return Plan("short_sums", arm, seed, budget=budget, evaluations=evaluations, items=6, samples=1, pool=12)


def numbers(lines):
    """All but the times."""
    return [{name: x for name, x in line.items() if name != "seconds"} for line in lines]


class Killed(Exception):
    pass


def killed(plan, folder, after):
    """Lines until the kill, after so many steps."""
    steps = itertools.count(1)

    def progress(tokens, reward):
        if next(steps) == after:
            raise Killed

    lines = []
    with pytest.raises(Killed):
        lines.extend(Run(plan, folder).lines(progress))
    return lines


@pytest.mark.parametrize("arm", SMALL)
def test_a_run_that_was_killed_goes_on_bit_for_bit(arm, tmp_path):
    whole = Run(plan(arm), tmp_path / "whole")
    expected = list(whole.lines())
    steps = whole.scene.step
    assert steps >= 5
    killed(plan(arm), tmp_path / "cut", steps - 1)
    killed(plan(arm), tmp_path / "cut", 1)  # and once more, soon after
    again = Run(plan(arm), tmp_path / "cut")
    assert numbers(again.lines()) == numbers(expected)
    for name, x in whole.model.state_dict().items():
        assert torch.equal(x, again.model.state_dict()[name])
    assert {k: v.tolist() for k, v in whole.scene.memory.items()} == {
        k: v.tolist() for k, v in again.scene.memory.items()
    }


def test_a_run_that_is_over_is_read_not_made(tmp_path):
    first = list(Run(plan("small"), tmp_path).lines())
    assert list(Run(plan("small"), tmp_path).lines(lambda *_: pytest.fail("a step"))) == first


def test_a_step_beyond_several_marks_gives_all_lines(tmp_path):
    many = plan("small", budget=500, evaluations=8)
    lines = list(Run(many, tmp_path).lines())
    assert len(lines) == 9
    assert list(Run(many, tmp_path).lines()) == lines


@pytest.mark.parametrize("arm", ["small", "small_random", "small_tree"])
def test_the_budget_is_kept_to_half_a_step(arm, tmp_path):
    lines = list(Run(plan(arm, budget=3000), tmp_path).lines())
    tokens, last = [line["sampled_tokens"] for line in lines], lines[-1]
    assert tokens == sorted(tokens)
    assert tokens[0] == 0
    assert abs(tokens[-1] - 3000) < 0.75 * tokens[-1] / last["step"]
    for line, mark in zip(lines, (0, 1000, 2000, 3000), strict=True):
        assert abs(line["sampled_tokens"] - mark) < 1.5 * tokens[-1] / last["step"]
    assert last["signal_tokens"] <= last["trained_tokens"] <= last["sampled_tokens"] * (2 if arm == "small_tree" else 1)


def test_equal_seeds_start_from_equal_prompts_and_weights_and_others_do_not(tmp_path):
    runs = [Run(plan(arm), tmp_path) for arm in ("small", "small_knapsack", "small_tree")]
    keys = [[r.scene.pool.items[i].key for i in r.scene.pool.take(24)] for r in runs]
    assert keys[0] == keys[1] == keys[2]
    assert sorted(keys[0][:12]) == sorted(keys[0][12:])
    assert keys[0][:12] != keys[0][12:]
    other = Run(plan("small", seed=1), tmp_path)
    assert not set(keys[0]) & {item.key for item in other.scene.pool.items}
    held_out = {item.key for item in (*other.task.held_out, *other.task.tuning)}
    assert not held_out & set(keys[0])
    start = [next(iter(r.lines())) for r in runs]
    assert len({(line["accuracy"], line["greedy"], line["entropy"]) for line in start}) == 1


def test_a_pool_is_passed_over_whole_before_a_prompt_comes_again():
    pool = Pool(list(range(10)), 4)
    laps = [pool.take(10) for _ in range(3)]
    assert all(sorted(lap) == list(range(10)) for lap in laps)
    again = Pool(list(range(10)), 4)
    assert again.take(4) + again.take(16) == laps[0] + laps[1]


def test_the_sampler_lags(tmp_path):
    lagging = Run(plan("small_lag"), tmp_path)
    weights = []
    for _ in range(5):
        weights.append(lagging.model.embedding.weight.detach().clone())
        lagging._step()
        assert torch.equal(lagging.scene.model.embedding.weight, weights[max(0, len(weights) - 3)])
    assert not torch.equal(weights[0], weights[4])


def test_packed_batches_have_the_gradient_of_unpacked_ones(tmp_path):
    made = Run(plan("small_tree"), tmp_path)
    sample = levels((2, 2, 2), 9, 8)(made.scene)
    found = []
    for packed in (False, True):
        settings = Settings(minibatches=1, packed=packed)
        ((part, active),) = parts(made.recipe, sample, settings)
        members = np.arange(len(sample))
        made.model.zero_grad()
        out, computed = loss_of(
            made.model, made.recipe, sample, part, members, active, settings, sample.logprobs, Clock()
        )
        out.loss.backward()
        found.append((float(out.loss.detach()), computed, [p.grad.clone() for p in made.model.parameters()]))
    (loss, tokens, gradient), (loss_packed, fewer, gradient_packed) = found
    assert loss == pytest.approx(loss_packed, abs=1e-6)
    assert fewer < tokens
    for x, y in zip(gradient, gradient_packed, strict=True):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-6)


def test_an_arm_has_one_entry():
    with pytest.raises(ValueError, match="there is an arm 'grpo' already"):
        arms.add(ARMS["grpo"])
    assert run.ARMS is ARMS
