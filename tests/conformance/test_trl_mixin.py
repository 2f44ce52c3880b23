"""TRL's trainers with the mixin: TRL's own numbers in its convention, and what TRL cannot do."""

import importlib.util
import math

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
import trl_tiny as tiny

from rollmath.adapters.trl import RollmathMixin

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: What TRL logs about time.
CLOCKS = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


@pytest.fixture(scope="module")
def trl(peer):
    return peer("trl")


@pytest.fixture
def trainers(trl):
    return tiny.trainers


@pytest.fixture
def ours(trainers, tmp_path):
    """``ours(given, ...)``: our GRPO trainer after its steps."""
    return lambda given, name="GRPOTrainer", **options: tiny.train(
        trainers(name)[1], tmp_path, given=given, **({"beta": 0.0} | options)
    )


def same(a, b, *, atol):
    """Everything that TRL logs is in both, step by step; returns the largest difference of each number."""
    assert len(a.state.log_history) == len(b.state.log_history)
    largest = {}
    for left, right in zip(a.state.log_history, b.state.log_history, strict=True):
        assert left.keys() - right.keys() == set()
        for name in left.keys() - CLOCKS:
            if left[name] is not None and not math.isnan(left[name]):
                largest[name] = max(largest.get(name, 0.0), abs(left[name] - right[name]))
    assert {name: x for name, x in largest.items() if x > atol} == {}
    np.testing.assert_allclose(a._logs["advantages"], b._logs["advantages"], atol=1e-6)
    assert list(a._logs["completion"]) == list(b._logs["completion"])
    return largest


def both(trainers, tmp_path, name="GRPOTrainer", *, atol=1e-6, **options):
    theirs, mine = trainers(name)
    policy = {}
    if options.get("beta", 0.0):
        policy = {"policy": tiny.model(folder=tmp_path / "model")}
    a = tiny.train(theirs, tmp_path, **options, **policy)
    if policy:
        policy = {"policy": tiny.model(folder=tmp_path / "model")}
    b = tiny.train(mine, tmp_path, given={"recipe": "trl"}, **options, **policy)
    return same(a, b, atol=atol)


def test_fifty_steps_have_the_loss_curve_of_trl(trainers, tmp_path, record_property):
    """Advantages are rounded to float32 once here and three times there, one unit in the last place apart.

    Losses and gradients then differ in the last place too, and so do weights; no sampled token changes by it.
    """
    options = {"max_steps": 50, "gradient_accumulation_steps": 2, "beta": 0.0}
    largest = both(trainers, tmp_path, atol=5e-6, **options)
    record_property("difference", ("TRL GRPOTrainer, loss of 50 steps float32", largest["loss"]))
    record_property("difference", ("TRL GRPOTrainer, norm of the gradient of 50 steps float32", largest["grad_norm"]))
    assert largest["loss"] <= 1e-6


OFF_POLICY = {"num_iterations": 2, "learning_rate": 1e-2, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": "grpo", "gradient_accumulation_steps": 2},
        {"loss_type": "dr_grpo", "gradient_accumulation_steps": 2},
        {"loss_type": "bnpo", "gradient_accumulation_steps": 2},
        {"loss_type": "sapo", "gradient_accumulation_steps": 2},
        {"loss_type": "luspo", "importance_sampling_level": "sequence"} | OFF_POLICY,
        {"loss_type": "cispo", "epsilon_high": 1.05} | OFF_POLICY,
        {"loss_type": "dapo", "delta": 1.5} | OFF_POLICY,
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-3} | OFF_POLICY,
        {"loss_type": "dapo", "steps_per_generation": 4} | OFF_POLICY,
        {"loss_type": "bnpo", "steps_per_generation": 1, "gradient_accumulation_steps": 2},
        {"scale_rewards": "none", "mask_truncated_completions": True} | OFF_POLICY,
        {"scale_rewards": "batch", "loss_type": "grpo"},
        {"beta": 0.04} | OFF_POLICY,
        {"beta": 0.04, "use_bias_correction_kl": False, "loss_type": "grpo"} | OFF_POLICY,
        {"entropy_coef": 0.1, "loss_type": "dr_grpo"} | OFF_POLICY,
        {"entropy_coef": 0.1, "top_entropy_quantile": 0.5, "off_policy_mask_threshold": 0.01} | OFF_POLICY,
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items() if k not in OFF_POLICY),
)
def test_the_numbers_of_trl(trainers, tmp_path, options):
    both(trainers, tmp_path, atol=5e-6, max_steps=4, **{"beta": 0.0} | options)


def test_vespo_has_all_but_its_own_metric(trainers, tmp_path):
    theirs, mine = trainers("GRPOTrainer")
    options = {"loss_type": "vespo", "max_steps": 4, "beta": 0.0} | OFF_POLICY
    a = tiny.train(theirs, tmp_path, **options)
    b = tiny.train(mine, tmp_path, given={"recipe": "trl"}, **options)
    for name in ("loss", "grad_norm", "entropy", "reward"):
        np.testing.assert_allclose(tiny.curve(a, name), tiny.curve(b, name), atol=5e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.05, "gradient_accumulation_steps": 2},
        {"beta": 0.05, "normalize_advantages": True, "reward_clip_range": (0.0, 1.5), "num_iterations": 2},
        {"beta": 0.0, "gradient_accumulation_steps": 2, "num_iterations": 2, "learning_rate": 1e-2},
    ],
)
def test_rloo_has_the_numbers_of_trl(trainers, tmp_path, options):
    both(trainers, tmp_path, "RLOOTrainer", atol=2e-5, max_steps=4, **options)


def vowels(completions, **columns):
    """A second reward, which some completions do not have."""
    return [None if "h" in text else sum(x in "ae" for x in text) / 2 for text in completions]


@pytest.mark.parametrize("how", ["sum_then_normalize", "normalize_then_sum"])
def test_several_rewards_some_of_them_missing(trainers, tmp_path, how):
    options = {"rewards": [tiny.letters, vowels], "reward_weights": [1.0, 0.5], "multi_objective_aggregation": how}
    both(trainers, tmp_path, atol=5e-6, max_steps=6, **options)


def nothing(completions, **columns):
    return [None if "h" in text else x for text, x in zip(completions, tiny.letters(completions), strict=True)]


def test_a_rollout_without_a_reward(trainers, tmp_path, ours):
    both(trainers, tmp_path, atol=5e-6, max_steps=6, rewards=nothing)
    seen = []

    def advantage(batch):
        seen.append(batch)
        assert np.array_equal(np.isnan(batch.rewards), ~batch.valid)
        return rm.group.grpo(batch.rewards, batch.groups, valid=batch.valid)

    trainer = ours({"advantage": advantage}, rewards=nothing, max_steps=2)
    assert any(not batch.valid.all() for batch in seen)
    assert np.asarray(trainer._logs["advantages"])[~seen[-1].valid].tolist() == [0.0] * int((~seen[-1].valid).sum())


def test_without_arguments_it_is_trl(trainers, tmp_path):
    theirs, mine = trainers("GRPOTrainer")
    assert max(same(tiny.train(theirs, tmp_path), tiny.train(mine, tmp_path), atol=0.0).values()) == 0.0


def test_one_s_own_class_with_the_mixin(trl, tmp_path):
    class Trainer(RollmathMixin, trl.GRPOTrainer):
        pass

    given = {"advantage": lambda batch: rm.group.rloo(batch.rewards, batch.groups)}
    trainer = tiny.train(Trainer, tmp_path, given=given, max_steps=2)
    rewards = np.asarray(trainer._logs["rewards"]["letters"], np.float32)
    expected = rm.group.rloo(rewards, np.arange(8) // 4)
    assert list(trainer._logs["advantages"]) == pytest.approx(expected.tolist())


def second_group(rewards, groups):
    """Drops the second of two groups, whatever the rewards."""
    return groups.index % 2 == 0


def test_what_a_filter_drops_trains_nothing(trainers, tmp_path):
    theirs, mine = (tiny.recorder(x) for x in trainers("GRPOTrainer"))
    plain = tiny.train(theirs, tmp_path, max_steps=1)
    trainer = tiny.train(mine, tmp_path, given={"filter": second_group}, max_steps=1)
    (before, _), (inputs, loss) = plain.batches[0], trainer.batches[0]
    dropped = inputs["rollmath_group"] == 1
    assert inputs["tool_mask"][dropped].sum() == 0
    assert torch.equal(inputs["completion_mask"], before["completion_mask"])  # attention sees them still
    kept = (before["completion_mask"] != 0) & ~dropped[:, None]
    assert int(inputs["num_items_in_batch"]) == int(kept.sum())
    assert torch.equal((inputs["completion_mask"] * inputs["tool_mask"]) != 0, kept)
    # At the first step every ratio is 1: the loss of a token is minus its advantage.
    assert float(loss) == pytest.approx(-float((before["advantages"][:, None] * kept).sum() / kept.sum()), abs=1e-6)
    advantages = np.asarray(trainer._logs["advantages"])
    assert advantages[4:].tolist() == [0.0] * 4
    assert advantages[:4] == pytest.approx(np.asarray(plain._logs["advantages"])[:4])
    assert list(trainer._logs["extra"]["kept"]) == [True] * 4 + [False] * 4
    assert tiny.curve(trainer, "rollmath/rollouts/dropped") == [4.0]


@pytest.mark.parametrize("kind", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_a_filter_with_the_loss_of_trl_and_with_ours(ours, kind):
    """Rows that were dropped count in the mean of rows of TRL, in both."""
    options = {"loss_type": kind, "max_steps": 4} | OFF_POLICY
    a = ours({"filter": second_group}, **options)
    b = ours({"filter": second_group, "objective": rm.loss.PPO(clip=0.2)}, **options)
    np.testing.assert_allclose(tiny.curve(a, "loss"), tiny.curve(b, "loss"), atol=1e-6)
    np.testing.assert_allclose(tiny.curve(a, "grad_norm"), tiny.curve(b, "grad_norm"), atol=5e-6)


def test_a_filter_of_rloo(trainers, tmp_path):
    mine = tiny.recorder(trainers("RLOOTrainer")[1])
    for given in ({}, {"objective": rm.loss.Reinforce()}):
        trainer = tiny.train(mine, tmp_path, beta=0.0, given={"filter": second_group} | given, max_steps=2)
        inputs, _ = trainer.batches[-1]
        assert inputs["advantages"][inputs["rollmath_group"] == 1].tolist() == [0.0] * 4
        assert list(trainer._logs["advantages"])[4:] == [0.0] * 4


def test_everything_dropped(ours):
    def none(rewards, groups):
        return np.zeros(len(rewards), bool)

    for given in ({}, {"objective": rm.loss.PPO()}, {"objective": rm.loss.PPO(), "aggregation": "token_mean"}):
        trainer = ours({"filter": none} | given, max_steps=3)
        assert tiny.curve(trainer, "loss") == [0.0] * 3
        assert tiny.curve(trainer, "grad_norm") == [0.0] * 3


def test_columns_and_groups_of_the_dataset(ours):
    seen = []

    def advantage(batch):
        seen.append(batch)
        strata = batch.column("strata")
        return rm.group.stratified(batch.rewards, batch.groups, strata=strata, blend=0.5)

    given = {"advantage": advantage, "group_by": "uid", "columns": {"strata": "kind"}}
    trainer = ours(given, max_steps=2)
    batch = seen[-1]
    assert batch.groups.counts.tolist() == [4, 4]
    assert set(batch.groups.ids) <= set(tiny.dataset()["uid"])
    assert set(batch.columns["strata"]) <= {0, 1}
    assert repr(batch).startswith("TRLBatch(8 rollouts in 2 groups, Rows(8 rows")
    assert list(trainer._logs["advantages"]) == pytest.approx(advantage(batch).tolist())
    with pytest.raises(ValueError, match=r"'name' must be one of columns= \('strata'\), got 'turns'; add it"):
        batch.column("turns")


def test_advantages_a_token(trainers, tmp_path):
    """What forms they may have is in tests/adapters/test_trl.py."""

    def advantage(batch):
        return batch.rows.expand(rm.group.grpo(batch.rewards, batch.groups))

    mine = tiny.recorder(trainers("GRPOTrainer")[1])
    flat = {"advantage": lambda batch: rm.group.grpo(batch.rewards, batch.groups)}
    a = tiny.train(mine, tmp_path, given=flat, max_steps=3)
    b = tiny.train(mine, tmp_path, given={"advantage": advantage}, max_steps=3)
    c = tiny.train(mine, tmp_path, given={"advantage": advantage, "objective": rm.loss.PPO()}, max_steps=3)
    assert b.batches[0][0]["advantages"].shape == b.batches[0][0]["completion_ids"].shape
    for other in (b, c):
        np.testing.assert_allclose(tiny.curve(a, "loss"), tiny.curve(other, "loss"), atol=1e-6)
        np.testing.assert_allclose(a._logs["advantages"], other._logs["advantages"], atol=1e-6)


#: Token ids of the completions of a group: two share "ab", three share "a".
TREE = [[12, 13, 14], [12, 13, 15, 1], [12, 16], [17, 18, 1]]
REWARDS = [1.0, 0.0, 0.0, 1.0]


def rollout(prompts, trainer):
    """A tree of four rollouts for each prompt, with a token of an environment in the second; and what it adds."""
    n = len(prompts) // 4
    return {
        "prompt_ids": trainer.processing_class(text=prompts)["input_ids"],
        "completion_ids": [list(ids) for ids in TREE * n],
        "logprobs": [[-1.5] * len(ids) for ids in TREE * n],
        "env_mask": [[1] * 3, [1, 1, 0, 1], [1] * 2, [1] * 3] * n,
        "score": REWARDS * n,
        "tree": [f"tree {i // 4}" for i in range(len(prompts))],
    }


def scored(completions, score, **columns):
    return score


def by_tree(batch):
    """SPO: a segment that several rollouts share has what it gained for all of them."""
    forest = rm.Forest.from_sequences(batch.rows.tokens.values, batch.rows.tokens.offsets, groups=batch.groups)
    return forest.expand(rm.tree.spo(forest, batch.rewards), per="rollout")


def test_trees_of_rollouts(trainers, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    mine = tiny.recorder(trainers("GRPOTrainer")[1])
    options = {"rewards": scored, "rollout_func": rollout, "max_steps": 2}
    trainer = tiny.train(mine, tmp_path, given={"advantage": by_tree, "group_by": "tree"}, **options)
    inputs, loss = trainer.batches[0]
    # V(root) = (1/6 + 1) / 2, V(a) = 1/4, V(ab) = 1/2: the children of a node weigh the same.
    root, a, ab = 0.625, 0.25, 0.5
    expected = {
        (12, 13, 14): [a - root, ab - a, 1 - ab, 0],
        # A gap, where the environment spoke, is not trained, and has no advantage.
        (12, 13, 15, 1): [a - root, ab - a, 0, 0 - ab],
        (12, 16): [a - root, 0 - a, 0, 0],
        (17, 18, 1): [1 - root] * 3 + [0],
    }
    for ids, row in zip(inputs["completion_ids"].tolist(), inputs["advantages"].tolist(), strict=True):
        want = next(v for k, v in expected.items() if tuple(ids[: len(k)]) == k and (len(k) == 4 or ids[len(k)] == 0))
        assert row == pytest.approx(want)
    mask = (inputs["completion_mask"] * inputs["tool_mask"]) != 0
    assert int(mask.sum()) == int(inputs["num_items_in_batch"]) == 22
    assert float(loss) == pytest.approx(-float(inputs["advantages"][mask].sum()) / 22, abs=1e-6)
    means = [(a - root + ab - a + 1 - ab) / 3, (a - root + ab - a - ab) / 3, (a - root - a) / 2, 1 - root]
    assert list(trainer._logs["advantages"]) == pytest.approx(means * 2)


def test_log_probabilities_of_the_sampler(trainers, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    mine = tiny.recorder(trainers("GRPOTrainer")[1])
    options = {"rewards": scored, "rollout_func": rollout, "max_steps": 1}
    given = {"correction": rm.loss.ImportanceWeight(2.0, ratio="theta/behaviour"), "aggregation": "token_mean"}
    trainer = tiny.train(mine, tmp_path, given=given, **options)
    inputs, loss = trainer.batches[0]
    mask = (inputs["rollmath_mask"] != 0).numpy()
    assert tiny.curve(trainer, "rollmath/mismatch_k1")
    plain = tiny.train(mine, tmp_path, given={"aggregation": "token_mean"}, **options)
    advantages = np.broadcast_to(plain.batches[0][0]["advantages"][:, None].numpy(), mask.shape)
    assert float(plain.batches[0][1]) == pytest.approx(-advantages[mask].mean(), abs=1e-6)
    assert float(loss) != pytest.approx(float(plain.batches[0][1]), abs=1e-6)
    with pytest.raises(ValueError, match="'correction' needs the log-probabilities of the sampler"):
        tiny.train(mine, tmp_path, given=given, max_steps=1)

    def unscored(prompts, trainer):
        """The first token of each completion has no log-probability, as vLLM may leave one out."""
        out = rollout(prompts, trainer)
        return out | {"logprobs": [[None, *of_row[1:]] for of_row in out["logprobs"]]}

    given["correction"] = rm.loss.ImportanceWeight(2.0, ratio="theta/behaviour", missing="one")
    trainer = tiny.train(mine, tmp_path, given=given, **options | {"rollout_func": unscored})
    assert math.isfinite(tiny.curve(trainer, "grad_norm")[0])
    assert tiny.curve(trainer, "rollmath/mismatch_missing") == pytest.approx([8 / 22])


@pytest.mark.parametrize("name", ["GRPOTrainer", "RLOOTrainer"])
def test_no_split_into_micro_batches_changes_the_loss(ours, name):
    """With an aggregation of ours; TRL's bnpo is another loss for each split."""
    given = {"objective": rm.loss.PPO(clip=(0.2, 0.28))}
    splits = [
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ]
    for aggregation in ("token_mean", "seq_mean_token_mean", "prompt_mean_token_mean"):
        whole, parts = (ours(given | {"aggregation": aggregation}, name, max_steps=3, **split) for split in splits)
        np.testing.assert_allclose(tiny.curve(whole, "loss"), tiny.curve(parts, "loss"), atol=2e-6)
        np.testing.assert_allclose(tiny.curve(whole, "grad_norm"), tiny.curve(parts, "grad_norm"), atol=2e-5)
    if name == "GRPOTrainer":
        told = [ours({}, loss_type="bnpo", max_steps=1, **split) for split in splits]
        assert abs(tiny.curve(told[0], "loss")[0] - tiny.curve(told[1], "loss")[0]) > 1e-4


def test_several_optimiser_steps_a_generation(ours):
    """Each has the counts of its own window; the second pass over the batch has those of the first."""
    given = {"objective": rm.loss.PPO(), "aggregation": "token_mean"}
    one = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "steps_per_generation": 2}
    two = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
    a, b = (ours(given, max_steps=6, num_iterations=2, learning_rate=1e-2, **x) for x in (one, two))
    np.testing.assert_allclose(tiny.curve(a, "loss"), tiny.curve(b, "loss"), atol=2e-6)
    assert max(tiny.curve(a, "clip_ratio/region_mean")) > 0


def test_an_evaluation_with_one_rollout_a_prompt(trainers, tmp_path):
    """A group of one has no spread and no baseline: advantage 0, as in TRL."""
    options = {"max_steps": 1, "num_generations_eval": 1, "per_device_eval_batch_size": 4}
    for name, given in (
        ("GRPOTrainer", {"recipe": "trl"}),
        ("GRPOTrainer", {"recipe": "dapo"}),
        ("RLOOTrainer", {"recipe": "trl"}),
    ):
        trainer = tiny.make(trainers(name)[1], tmp_path, given=given, beta=0.0, **options)
        trainer.eval_dataset = tiny.dataset(4)
        assert trainer.evaluate()["eval_loss"] == pytest.approx(0.0, abs=1e-7)
        assert list(trainer._logs["advantages"]) == [0.0] * 4


def test_a_run_goes_on_within_a_generation_batch(ours, trainers, tmp_path):
    """TRL generates anew when it resumes; ours counts the tokens of what was generated then."""
    given = {"objective": rm.loss.PPO(), "aggregation": "token_mean"}
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
    options |= {"num_iterations": 2, "max_steps": 5, "save_strategy": "steps", "save_steps": 3, "beta": 0.0}
    whole = ours(given, **options)
    again = tiny.recorder(trainers("GRPOTrainer")[1])
    trainer = tiny.make(again, tmp_path, given=given, **options)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert tiny.curve(trainer, "loss")[:3] == tiny.curve(whole, "loss")[:3]
    assert len(tiny.curve(trainer, "loss")) == 5
    (first, loss), (second, other) = trainer.batches[:2]
    tokens = sum(int(x["completion_mask"].sum()) for x in (first, second))
    total = sum(float((x["advantages"] * x["completion_mask"].sum(1)).sum()) for x in (first, second))
    assert float(loss + other) == pytest.approx(-total / tokens, abs=1e-6)  # every ratio is 1 there


def test_an_evaluation(trainers, tmp_path):
    """Nothing is dropped there; the log of completions, shorter than its batch, ends with our advantages."""
    given = {
        "filter": second_group,
        "advantage": lambda batch: rm.group.dr_grpo(batch.rewards, batch.groups),
        "objective": rm.loss.PPO(),
        "aggregation": "token_mean",
    }
    options = {"max_steps": 2, "per_device_eval_batch_size": 16}
    trainer = tiny.make(trainers("GRPOTrainer")[1], tmp_path, given=given, **options)
    trainer.train()
    trainer.eval_dataset = tiny.dataset(8)
    found = trainer.evaluate()
    assert math.isfinite(found["eval_loss"])
    rewards = np.asarray(trainer._logs["rewards"]["letters"], np.float32)
    expected = rm.group.dr_grpo(rewards, np.arange(8) // 4)
    assert list(trainer._logs["advantages"]) == pytest.approx(expected.tolist())
