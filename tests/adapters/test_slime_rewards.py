"""Rewards compared within the group of their prompt, whatever its size and order."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from slime_stand_ins import Status, arguments, sample  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath.adapters.slime import post_process_rewards  # noqa: E402

SLIME = json.loads((Path(__file__).parents[1] / "vectors" / "peers" / "slime.json").read_text())
FULL = [x for x in SLIME["records"] if not x["residue"] and not x["unlike"] and "one" not in x["function"]]
RUN = "post_process_rewards"


def samples_of(ids, rewards, **more):
    return [sample(g, r, **more) for g, r in zip(ids, rewards, strict=True)]


@pytest.mark.parametrize("record", FULL, ids=lambda x: f"{len(x['rewards'])}-{x['options'].get('scale', 'std')}")
def test_full_batches_are_slimes(record):
    args = arguments(grpo_std_normalization=record["options"].get("scale") != "none")
    raw, rewards = post_process_rewards(args, samples_of(record["ids"], record["rewards"]))
    assert raw == record["rewards"]
    np.testing.assert_allclose(rewards, record["advantages"], rtol=1e-6, atol=1e-6)
    assert all(type(x) is float for x in rewards)


def test_groups_are_named():
    """Any order and sizes: slime takes five rewards as one group."""
    args = arguments()
    ids, rewards = [3, 1, 3, 1, 3], [1.0, 5.0, 0.0, 5.0, 0.5]
    found = post_process_rewards(args, samples_of(ids, rewards))[1]
    assert found == rm.group.grpo(rewards, ids).tolist()
    assert found[1] == found[3] == 0.0


def test_a_group_of_one_gets_zero():
    assert post_process_rewards(arguments(), samples_of([0, 1, 1], [1.0, 1.0, 0.0]))[1][0] == 0.0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [0.5**0.5, -(0.5**0.5)]),
        ({"advantage_estimator": "cispo"}, [0.5**0.5, -(0.5**0.5)]),
        ({"grpo_std_normalization": False}, [0.5, -0.5]),
        ({"advantage_estimator": "reinforce_plus_plus_baseline"}, [0.5, -0.5]),
        ({"advantage_estimator": "reinforce_plus_plus"}, [1.0, 0.0]),
        ({"advantage_estimator": "ppo"}, [1.0, 0.0]),
        ({"rewards_normalization": False}, [1.0, 0.0]),
    ],
)
def test_slimes_arguments_decide(changed, expected):
    found = post_process_rewards(arguments(**changed), samples_of([0, 0], [1.0, 0.0]))[1]
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_rollout_of_several_samples_counts_once():
    args = arguments(rollmath_rollout_reward="same")
    given = [sample(0, 1.0, rollout=4)] * 3 + [sample(0, 0.0, rollout=5), sample(0, 0.0, rollout=6)]
    raw, found = post_process_rewards(args, given)
    once = rm.group.grpo([1.0, 0.0, 0.0], ["p"] * 3).tolist()
    assert raw == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert found == [once[0]] * 3 + once[1:]


def test_a_reward_that_was_split_is_added_up():
    """slime's documentation: reward / K to each of K samples."""
    given = [sample(0, 0.5, rollout=4), sample(0, 0.5, rollout=4), sample(0, 0.0, rollout=5), sample(0, 1.0)]
    raw, found = post_process_rewards(arguments(rollmath_rollout_reward="sum"), given)
    once = rm.group.grpo([1.0, 0.0, 1.0], ["p"] * 3).tolist()
    assert raw == [0.5, 0.5, 0.0, 1.0]
    assert found == [once[0], *once]


def test_every_sample_may_count():
    given = [sample(0, 1.0, rollout=4), sample(0, 0.0, rollout=4), sample(0, 0.0, rollout=5)]
    found = post_process_rewards(arguments(rollmath_rollout_reward="each"), given)[1]
    assert found == rm.group.grpo([1.0, 0.0, 0.0], ["p"] * 3).tolist()


def test_a_rollout_number_is_not_the_place_of_a_sample_without_one():
    given = [sample(0, 1.0), sample(0, 0.0, rollout=0), sample(0, 0.5, rollout=2), sample(0, 0.5)]
    assert post_process_rewards(arguments(), given)[1] == rm.group.grpo([1.0, 0.0, 0.5, 0.5], ["p"] * 4).tolist()


def test_a_reward_by_its_key():
    given = samples_of([0, 0], [{"acc": 1.0, "format": 9.0}, {"acc": 0.0, "format": 9.0}])
    raw, found = post_process_rewards(arguments(reward_key="acc"), given)
    assert raw == [1.0, 0.0]
    assert found[0] > 0 > found[1]


def test_the_advantages_of_a_recipe():
    ids, rewards = [3, 1, 3, 1, 3], [1.0, 5.0, 0.0, 4.0, 0.5]
    args = arguments(rollmath={"recipe": "grpo", "advantage": {"options": {"scale": "none"}}})
    assert post_process_rewards(args, samples_of(ids, rewards))[1] == rm.group.dr_grpo(rewards, ids).tolist()
    assert (
        post_process_rewards(arguments(rollmath="grpo"), samples_of(ids, rewards))[1]
        == rm.group.grpo(rewards, ids).tolist()
    )


def test_what_the_filter_of_a_recipe_drops_is_removed():
    given = samples_of([0, 0, 1, 1, 2], [1.0, 0.0, 1.0, 1.0, 1.0])
    found = post_process_rewards(arguments(rollmath="dapo"), given)[1]
    assert [x.remove_sample for x in given] == [False, False, True, True, True]
    assert found[2:] == [0.0] * 3


def test_a_filter_of_the_whole_batch():
    ids, rewards = [0, 0, 1, 1, 2, 2], [1.0, 0.0, 0.5, 0.5, 3.0, 0.0]
    table = {"method": "max_variance", "options": {"keep": 2, "per": "batch"}, "on": "advantages"}
    given = samples_of(ids, rewards)
    args = arguments(rollmath={"recipe": "grpo", "kl": False, "filter": table})
    found = np.array(post_process_rewards(args, given)[1])
    all_of = rm.group.grpo(rewards, ids)
    kept = rm.select.max_variance(all_of, ids, keep=2, per="batch").mask
    assert [x.remove_sample for x in given] == (~kept).tolist()
    assert found.tolist() == np.where(kept, all_of, 0.0).tolist()


def test_a_filter_that_draws_has_a_seed_in_its_options():
    table = {"method": "random", "options": {"keep": 1}}
    ids, rewards = [0, 0, 1, 1], [1.0, 0.0, 0.5, 0.5]
    args = arguments(rollmath={"recipe": "grpo", "kl": False, "filter": table})
    with pytest.raises(
        ValueError,
        match=r"the filter 'random' of recipe 'grpo' draws by a seed, and slime tells its hooks none; set options: "
        r"\{seed: 0\} in the filter",
    ):
        post_process_rewards(args, samples_of(ids, rewards))


def test_a_filter_draws_anew_in_every_step():
    """By its seed and the group_index of the prompts, which slime counts over the run."""

    def kept(seed, first, rewards=(1.0, 0.0, 0.5, 0.5) * 8):
        table = {"method": "random", "options": {"keep": 1, "seed": seed}}
        given = samples_of([first + i // 4 for i in range(32)], rewards)
        post_process_rewards(arguments(rollmath={"recipe": "grpo", "kl": False, "filter": table}), given)
        mask = np.array([not x.remove_sample for x in given])
        assert (mask.reshape(8, 4).sum(1) == 1).all()
        return mask.tolist()

    assert kept(3, 0) == kept(3, 0, rewards=(0.0, 1.0, 2.0, 3.0) * 8)
    assert len({tuple(kept(seed, first)) for seed in (3, 4) for first in (0, 8, 16)}) == 6


def test_samples_that_were_removed_before_still_count():
    """As in slime, where their rewards are in the statistics."""
    given = samples_of([0, 0, 0], [1.0, 0.0, 0.5])
    given[2].remove_sample = True
    assert post_process_rewards(arguments(), given)[1] == rm.group.grpo([1.0, 0.0, 0.5], ["p"] * 3).tolist()


def test_samples_that_were_removed_before_are_as_long_as_they_are():
    table = {"recipe": "grpo", "overlong": {"max_length": 10, "buffer": 5}}
    given = [sample(0, 1.0, length=n) for n in (9, 3, 4)]
    once = post_process_rewards(arguments(rollmath=table), given)[1]
    given[0].remove_sample = True
    assert post_process_rewards(arguments(rollmath=table), given)[1] == once
    assert [x.remove_sample for x in given] == [True, False, False]


def test_a_response_that_goes_on_from_an_earlier_step_is_as_long_as_all_of_it():
    """slime masks the part that an older policy gave; a penalty on length sees it."""
    table = {"recipe": "grpo", "overlong": {"max_length": 10, "buffer": 5}}
    given = [sample(0, 1.0, length=9, mask=[0] * 7 + [1] * 2), sample(0, 1.0, length=3)]
    resumed = arguments(rollmath=table, partial_rollout=True, mask_offpolicy_in_partial_rollout=True)
    found = post_process_rewards(resumed, given)[1]
    np.testing.assert_allclose(found, rm.group.grpo([0.2, 1.0], [0, 0]), rtol=1e-12)
    assert post_process_rewards(arguments(rollmath=table), given)[1] == [0.0, 0.0]


def test_samples_without_tokens_are_not_removed():
    given = [sample(0, 1.0, length=0), sample(0, 0.0, length=3)]
    post_process_rewards(arguments(rollmath="grpo"), given)
    assert [x.remove_sample for x in given] == [False, False]


def test_samples_of_a_rollout_have_one_value_of_a_column():
    table = {"recipe": "grpo", "advantage": {"method": "group.stratified"}}
    args = arguments(rollmath=table, rollmath_rollout_reward="same")
    given = [sample(0, r, rollout=i, metadata={"strata": s}) for i, r, s in [(4, 1.0, 2), (5, 0.0, 2), (4, 1.0, 2)]]
    whole = rm.group.stratified([1.0, 0.0], [0, 0], strata=[2, 2]).tolist()
    assert post_process_rewards(args, given)[1] == [*whole, whole[0]]
    given[2].metadata = {"strata": 3}
    with pytest.raises(
        ValueError, match=r"'samples\[2\].metadata' must have one 'strata' for all .* got 3 and 2 for 'rollout_id' 4"
    ):
        post_process_rewards(args, given)


def test_truncated_samples_are_masked():
    given = samples_of([0, 0, 0], [1.0, 0.0, 0.5])
    given[1].status = Status.TRUNCATED
    table = {"recipe": "grpo", "truncated": "mask"}
    assert post_process_rewards(arguments(rollmath=table), given)[1][0] == rm.group.grpo([1.0, 0.0, 0.5], ["p"] * 3)[0]
    assert [x.remove_sample for x in given] == [False, True, False]


def test_the_penalty_of_a_recipe_counts_trained_tokens():
    given = [sample(0, 1.0, length=9, mask=[1, 0] * 4 + [1]), sample(0, 1.0, length=9)]
    table = {"recipe": "grpo", "overlong": {"max_length": 10, "buffer": 5}}
    assert post_process_rewards(arguments(rollmath=table), given)[1][0] > 0


def test_columns_come_from_metadata():
    ids, rewards, strata = [0, 0, 0, 0], [1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1]
    given = [sample(g, r, metadata={"strata": s}) for g, r, s in zip(ids, rewards, strata, strict=True)]
    table = {"recipe": "grpo", "advantage": {"method": "group.stratified"}}
    found = post_process_rewards(arguments(rollmath=table), given)[1]
    assert found == rm.group.stratified(rewards, ids, strata=strata).tolist()
    given[2].metadata = {}
    with pytest.raises(
        ValueError, match=rf"{RUN}\(\): 'samples\[2\].metadata' must have 'strata', which the recipe needs"
    ):
        post_process_rewards(arguments(rollmath=table), given)


def test_a_method_of_tokens_leaves_the_rewards():
    table = {"recipe": "grpo", "advantage": {"method": "group.reinforce_pp"}}
    given = samples_of([0, 0], [1.0, 0.0])
    assert post_process_rewards(arguments(rollmath=table), given)[1] == [1.0, 0.0]


def test_no_samples():
    assert post_process_rewards(arguments(), []) == ([], [])


@pytest.mark.parametrize(
    ("given", "changed", "kind", "message"),
    [
        (
            [sample(None, 1.0)],
            {},
            ValueError,
            r"'samples\[0\].group_index' must be the number of its prompt, got None; slime's",
        ),
        ([sample(0, None)], {}, TypeError, r"'samples\[0\].reward' must be a number, got None$"),
        ([sample(0, {"a": 1.0})], {}, TypeError, r"must be a number, got \{'a': 1.0\}; name the one .* --reward-key"),
        (
            [sample(0, 1.0)],
            {"reward_key": "acc"},
            TypeError,
            r"must be a dict with 'acc' \(= args.reward_key\), got 1.0",
        ),
        (
            [sample(0, 1.0, rollout=1), sample(1, 1.0, rollout=1)],
            {},
            ValueError,
            r"'rollout_id' 1 must be of one group, got group_index 0 and 1",
        ),
        (
            [sample(0, 1.0, rollout=1), sample(0, 0.5, rollout=1)],
            {"rollmath_rollout_reward": "same"},
            ValueError,
            r"must have one reward: .* set rollmath_rollout_reward .* to 'sum' \(the reward was split over them",
        ),
        (
            [sample(0, 0.5, rollout=1), sample(0, 0.5, rollout=1)],
            {},
            ValueError,
            r"several samples have one 'rollout_id', and nothing says what reward the rollout has; set .* to 'sum'",
        ),
        (
            [sample(0, 1.0)],
            {"rollmath_rollout_reward": "median"},
            ValueError,
            r"'args.rollmath_rollout_reward' must be one of 'same', 'sum'",
        ),
        (
            [sample(0, 1.0), sample(0, 0.0)],
            {"rollmath": "rloo"},
            ValueError,
            r"recipe 'rloo' has reward_kl=.*; set reward_kl to 0",
        ),
    ],
)
def test_errors(given, changed, kind, message):
    with pytest.raises(kind, match=rf"{RUN}\(\): .*{message}"):
        post_process_rewards(arguments(**changed), given)


def test_a_missing_reward():
    with pytest.raises(ValueError, match=r"'rewards' must be finite"):
        post_process_rewards(arguments(), samples_of([0, 0], [1.0, float("nan")]))
