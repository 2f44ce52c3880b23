"""Arms that choose, weigh and allocate, and those of stale samplers: what they sample, keep and count."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2]))
    from bench.training import run, select_arms, stale_arms
    from bench.training.arms import ARMS, Pool, Scene, flat
    from bench.training.tasks.short_sums import ShortSums
    from bench.training.update import Settings, inside, loss_of, parts, prepare
    from rollmath.demo.clock import Clock
    from rollmath.demo.model import CharTransformer, ModelConfig

CHOOSING = (
    "dapo", "dapo_no_refill", "stratified", "quantile", "grpo_16", "pods", "random_4of16", "random_4of16_before",
    "d3s", "d3s_tokens", "random_tokens", "knapsack", "coin",
)  # fmt: skip
WIDE = {"grpo_16", "pods", "random_4of16", "random_4of16_before", "d3s"}
STALE = ("stale_coupled", "stale_uncorrected", "stale_tis", "stale_mis", "stale_gate", "stale_decoupled")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Parity(ShortSums):
    """Right is a response of even length; prompts of some numbers are always, or never, right."""

    name = "parity"

    def __init__(self, always=(), never=()):
        self.always, self.never = set(always), set(never)

    def reward(self, item, tokens):
        if item.key in self.always | self.never:
            return float(item.key in self.always)
        return float(len(tokens) % 2 == 0)


@cache
def items_of(seed, size):
    return Parity().draw(3 + seed, size)


def scene_of(*, settled=0.0, seed=0, size=192):
    torch.manual_seed(5)
    items = list(items_of(seed, size))
    known = [item.key for item in items[: int(settled * size)]]
    task = Parity(known[::2], known[1::2])
    model = CharTransformer(ModelConfig(len(task.symbols), 16, 1, 2, task.context))
    return Scene(model, task, Pool(items, seed), torch.Generator().manual_seed(seed))


def flat_entropy(sample):
    return sample.entropy[inside(sample)].double().numpy()


@pytest.mark.parametrize("name", [*CHOOSING, *STALE])
def test_an_arm_samples_its_rollouts_and_prepares_them(name):
    scene, arm = scene_of(settled=0.1), ARMS[name]
    sample = arm.draw(scene)
    batch = prepare(arm.recipe(scene.task), sample)
    groups = 16 if name in STALE else 32 if name in WIDE else 64
    assert len(sample) == len(batch) == (128 if name in STALE else 512)
    assert sorted(set(sample.group.tolist())) == list(range(groups))
    assert len(sample.items) == groups
    assert [item.prompt for item in sample.items] == [
        tuple(sample.prompts[np.flatnonzero(sample.group == g)[0]].tolist()) for g in range(groups)
    ]
    total = int(sample.lengths.sum())
    assert sample.sampled > total if name == "dapo" else sample.sampled == total
    level = "token" if name in {"d3s_tokens", "random_tokens"} else "rollout"
    assert batch.level == level
    if name not in {"dapo", "dapo_no_refill", *(WIDE - {"grpo_16"})}:
        assert int(batch.rows.trained.sum()) == total


@pytest.mark.parametrize("name", [*CHOOSING, *STALE, "grpo"])
def test_all_arms_of_a_seed_have_the_same_prompts(name):
    order, scene = scene_of(seed=3).pool, scene_of(seed=3)
    for _ in range(2):
        taken = [scene.pool.items.index(item) for item in ARMS[name].draw(scene).items]
        expected = order.take(scene.pool.at - order.at)
        assert taken == ([i for i in expected if i in set(taken)] if name == "dapo" else expected)


def test_a_refill_replaces_groups_without_spread_and_counts_their_tokens():
    scene = scene_of(settled=0.5)
    sample = select_arms.refilled(prompts=16, size=4)(scene)
    lengths = [len(sample.rewards[sample.group == g]) for g in range(16)]
    assert lengths == [4] * 16
    assert all(len(set(sample.rewards[sample.group == g])) == 2 for g in range(16))
    drawn = [scene.pool.items[i].key for i in Pool(scene.pool.items, 0).take(scene.pool.at)]
    keys = [item.key for item in sample.items]
    assert keys == [key for key in drawn if key in set(keys)]  # in the order of the pool
    assert 16 < scene.pool.at <= 64
    assert sample.sampled > sample.lengths.sum()


def test_a_refill_ends_after_its_rounds_and_keeps_the_first_if_no_group_has_a_spread():
    scene = scene_of(settled=1.0)
    sample = select_arms.refilled(prompts=8, size=2, rounds=3)(scene)
    assert scene.pool.at == 24
    assert sorted(set(sample.group.tolist())) == list(range(8))
    assert sample.sampled > 2 * sample.lengths.sum()
    batch = prepare(ARMS["dapo"].recipe(scene.task), sample)
    assert not batch.rows.trained.any()


def test_dapo_without_refill_trains_the_groups_with_a_spread():
    scene = scene_of(settled=0.5)
    sample = ARMS["dapo_no_refill"].draw(scene)
    batch = prepare(ARMS["dapo_no_refill"].recipe(scene.task), sample)
    trained = set(sample.group[batch.rows.trained > 0].tolist())
    assert trained == set(select_arms.with_spread(sample).tolist()) != set(range(64))
    assert "overlong" not in ARMS["dapo"].recipe(scene.task).to_dict()


def test_strata_are_numbers_of_steps():
    scene = scene_of()
    sample = ARMS["stratified"].draw(scene)
    texts = [scene.task.decode(row[:n]) for row, n in zip(sample.tokens.tolist(), sample.lengths, strict=True)]
    assert sample.columns["strata"].tolist() == [text.count(";") for text in texts]
    expected = rm.group.stratified(sample.rewards, sample.group, strata=sample.columns["strata"], blend=0.8)
    assert np.array_equal(prepare(ARMS["stratified"].recipe(scene.task), sample).advantages, expected)


def test_pods_and_its_control_train_four_of_sixteen():
    scene = scene_of()
    sample = ARMS["pods"].draw(scene)
    batch = prepare(ARMS["pods"].recipe(scene.task), sample)
    kept = batch.rows.trained > 0
    for g in range(32):
        mine = kept & (sample.group == g)
        right = int(sample.rewards[sample.group == g].sum())
        assert mine.sum() == 4
        assert sample.rewards[mine].sum() == min(right, max(2, right - 12))
    assert np.array_equal(batch.advantages[kept], rm.group.grpo(sample.rewards[kept], sample.group[kept]))
    chosen = []
    for _ in range(2):
        sample = ARMS["random_4of16"].draw(scene)
        batch = prepare(ARMS["random_4of16"].recipe(scene.task), sample)
        chosen.append(batch.rows.trained > 0)
        assert [int(chosen[-1][sample.group == g].sum()) for g in range(32)] == [4] * 32
    assert not np.array_equal(*chosen)


def test_d3s_keeps_a_quarter_of_the_batch_and_the_advantages_among_all():
    scene = scene_of(settled=0.3)
    sample = ARMS["d3s"].draw(scene)
    batch = prepare(ARMS["d3s"].recipe(scene.task), sample)
    kept, all_of_them = batch.rows.trained > 0, rm.group.grpo(sample.rewards, sample.group)
    assert kept.sum() == 128
    assert np.array_equal(batch.advantages, np.where(kept, all_of_them, 0))
    assert np.var(all_of_them[kept]) > np.var(all_of_them)


def test_d3s_of_tokens_moves_a_fifth_of_them_and_counts_all():
    scene = scene_of(settled=0.1)
    sample = ARMS["d3s_tokens"].draw(scene)
    batch = prepare(ARMS["d3s_tokens"].recipe(scene.task), sample)
    of_rows = rm.group.grpo(sample.rewards, sample.group)
    score = np.abs(np.repeat(of_rows, sample.lengths)) * flat_entropy(sample)
    threshold = np.sort(score)[-int(0.2 * len(score))]
    values = np.asarray(batch.advantages.values)
    assert np.array_equal(values, np.where(score >= threshold, np.repeat(of_rows, sample.lengths), 0))
    assert int(batch.rows.trained.sum()) == len(values)


def test_the_knapsack_gives_all_the_same_and_then_more_where_it_counts():
    scene = scene_of(settled=0.5, size=64)
    draw = select_arms.knapsacked(prompts=32, budget=256, low=2, high=16)
    first = [draw(scene) for _ in range(2)]  # the whole pool
    assert all(np.bincount(sample.group).tolist() == [8] * 32 for sample in first)
    rates = scene.memory["rewards"] / scene.memory["rollouts"]
    for sample in first:
        for g, item in enumerate(sample.items):
            number = scene.pool.items.index(item)
            assert rates[number] == sample.rewards[sample.group == g].mean()
    sample = draw(scene)
    counts = np.bincount(sample.group)
    numbers = [scene.pool.items.index(item) for item in sample.items]
    before = rates[numbers].numpy()
    assert counts.sum() == 256
    assert counts.min() >= 2
    assert counts.max() <= 16
    assert counts[(before > 0.2) & (before < 0.7)].min() > counts[before == 1].max()
    assert scene.memory["rollouts"][numbers].tolist() == counts.tolist()


def test_random_tokens_are_a_fifth_with_the_advantages_of_grpo():
    scene, arm = scene_of(), ARMS["random_tokens"]
    sample = arm.draw(scene)
    got = prepare(arm.recipe(scene.task), sample).advantages
    whole = np.repeat(rm.group.grpo(sample.rewards, sample.group), sample.lengths)
    assert np.isin(got.values, [0.0, *whole]).all()
    kept = got.values != 0
    np.testing.assert_array_equal(got.values[kept], whole[kept])
    assert kept.sum() / (whole != 0).sum() == pytest.approx(select_arms.SHARE, abs=0.02)


def test_a_coin_pays_for_nothing():
    scene = scene_of(settled=1.0)
    sample = ARMS["coin"].draw(scene)
    true = flat()(scene_of(settled=1.0)).rewards
    assert set(sample.rewards.tolist()) == {0.0, 1.0}
    assert abs(np.corrcoef(sample.rewards, true)[0, 1]) < 0.15


def test_stale_arms_lag_and_differ_from_grpo_only_by_the_correction():
    """Where the sampler is the model itself, every weight is 1 and no token is rejected."""
    losses = {}
    for name in ("small_grpo", *STALE):
        scene, arm = scene_of(), ARMS[name]
        assert arm.lag == (0 if name == "small_grpo" else stale_arms.LAG)
        sample, settings = arm.draw(scene), Settings(**arm.settings)
        recipe = arm.recipe(scene.task)
        ((part, active),) = parts(recipe, sample, settings)
        members = np.arange(len(sample))
        out, _ = loss_of(scene.model, recipe, sample, part, members, active, settings, sample.logprobs, Clock())
        losses[name] = float(out.loss.detach())
        assert (recipe.correction is not None or name == "stale_decoupled") == (
            name in {"stale_tis", "stale_mis", "stale_gate", "stale_decoupled"}
        )
    assert max(losses.values()) - min(losses.values()) < 1e-5


def test_samplers_are_deterministic():
    for name in ("dapo", "random_4of16", "knapsack", "coin"):
        one, two = (ARMS[name].draw(scene_of(seed=1)) for _ in range(2))
        assert torch.equal(one.tokens, two.tokens)
        assert np.array_equal(one.rewards, two.rewards)
        assert {k: repr(v) for k, v in one.columns.items()} == {k: repr(v) for k, v in two.columns.items()}


def test_the_table_is_complete_with_the_runner():
    assert {*CHOOSING, *STALE} <= set(run.ARMS)
