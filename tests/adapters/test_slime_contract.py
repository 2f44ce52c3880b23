"""Our functions fit the call sites of slime that were recorded, and import it only when they need it."""

import importlib
import inspect
import types

import pytest

torch = pytest.importorskip("torch")

from slime_stand_ins import RECORDED, DynamicFilterOutput, Sample, arguments, install, sample  # noqa: E402

from rollmath.adapters import slime  # noqa: E402
from rollmath.adapters.slime._settings import recipe_of  # noqa: E402

PATHS = {
    "custom_reward_post_process_path": "post_process_rewards",
    "dynamic_sampling_filter_path": "dynamic_filter",
    "custom_advantage_function_path": "advantages",
    "custom_tis_function_path": "tis",
    "custom_loss_function_path": "policy_loss",
}


def load_function(path):
    """As slime has it."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_recipes_that_have_no_place():
    for table, text in (
        ("spo_tree", "recipe 'spo_tree' has advantage='tree.spo', but no function that slime calls can have trees"),
        ({"recipe": "grpo", "zeros": "drop"}, "recipe 'grpo' has zeros='drop', but no function"),
    ):
        with pytest.raises(ValueError, match=text):
            recipe_of(types.SimpleNamespace(rollmath=table))


@pytest.mark.parametrize("argument", PATHS)
def test_the_call_site_fits(argument):
    call = RECORDED["calls"][argument]
    function = load_function(f"rollmath.adapters.slime.{PATHS[argument]}")
    inspect.signature(function).bind(*call["positional"], **dict.fromkeys(call["keywords"]))
    assert f"rollmath.adapters.slime.{PATHS[argument]}" in inspect.getdoc(function)


def test_the_call_site_of_the_reducer_fits():
    call = RECORDED["calls"]["custom_pg_loss_reducer_function_path"]
    inspect.signature(slime.loss_reducer(divisor=1.0)).bind(*call["positional"])
    assert not call["keywords"]


def test_what_we_read_is_there():
    assert {
        "group_index",
        "rollout_id",
        "reward",
        "response_length",
        "loss_mask",
        "remove_sample",
        "status",
        "metadata",
    } <= set(RECORDED["sample"])
    needed = {"total_lengths", "response_lengths", "loss_masks", "log_probs", "ref_log_probs", "advantages"}
    assert needed | {"rollout_log_probs", "rollout_mask_sums"} <= set(RECORDED["micro_batch"])
    assert set(RECORDED["dynamic_filter_output"]) == {"keep", "reason", "keep_when_insufficient"}


def test_nothing_imports_slime_or_megatron(script):
    code = "import sys; from rollmath.adapters import slime; [getattr(slime, n) for n in slime.__all__]; "
    out, _ = script(code + "print([m for m in sys.modules if m.split('.')[0] in ('slime', 'megatron', 'ray')])")
    assert out.strip() == "[]"


def test_rewards_need_no_torch(script):
    code = "import sys; from rollmath.adapters.slime import post_process_rewards, dynamic_filter; "
    assert script(code + "print('torch' in sys.modules)")[0].strip() == "False"


def group(*rewards, **more):
    return [sample(0, r, **more) for r in rewards]


@pytest.mark.parametrize(
    ("rewards", "keep", "reason"),
    [
        ([1.0, 0.0, 1.0], True, None),
        ([1.0, 1.0, 1.0], False, "no_spread_1.0"),
        ([0.0, 1e-9], True, None),
        ([0.25], False, "group_of_one"),
    ],
)
def test_the_filter(rewards, keep, reason, monkeypatch):
    install(monkeypatch)
    found = slime.dynamic_filter(arguments(), group(*rewards), later="argument")
    assert found == DynamicFilterOutput(keep, reason)
    assert type(found.keep) is bool
    assert slime.dynamic_filter_with_fallback(arguments(), group(*rewards)) == DynamicFilterOutput(keep, reason, True)


def test_the_filter_counts_rollouts(monkeypatch):
    """One rollout in two samples with the one reward, the other in one: nested, as slime passes them."""
    install(monkeypatch)
    pair = [sample(0, 1.0, rollout=7), sample(0, 1.0, rollout=7)]
    whole = arguments(rollmath_rollout_reward="same")
    assert slime.dynamic_filter(whole, [pair, [sample(0, 0.0, rollout=8)]]).keep
    assert slime.dynamic_filter(whole, [pair]).reason == "group_of_one"
    split = [[sample(0, 0.5, rollout=7), sample(0, 0.5, rollout=7)], [sample(0, 1.0, rollout=8)]]
    assert slime.dynamic_filter(whole, split).keep
    assert not slime.dynamic_filter(arguments(rollmath_rollout_reward="sum"), split).keep
    with pytest.raises(
        ValueError, match=r"dynamic_filter\(\): several samples have one 'rollout_id', and nothing says"
    ):
        slime.dynamic_filter(arguments(), split)


@pytest.mark.parametrize(
    ("rewards", "table", "keep", "reason"),
    [
        ([1.0, 0.0], "dapo", True, None),
        ([1.0, 1.0], "dapo", False, "no_spread_1.0"),
        ([1.0], "dapo", False, "group_of_one"),
        ([1.0, 1.0], "grpo", False, "no_spread_1.0"),
        (
            [1.0, 0.0, 0.0, 0.0],
            {"recipe": "dapo", "filter": {"method": "mean_band", "options": {"low": 0.3, "high": 0.9}}},
            False,
            None,
        ),
        (
            [1.0, 0.0],
            {"recipe": "dapo", "filter": {"method": "mean_band", "options": {"low": 0.3, "high": 0.9}}},
            True,
            None,
        ),
    ],
)
def test_the_filter_of_a_recipe(rewards, table, keep, reason, monkeypatch):
    install(monkeypatch)
    found = slime.dynamic_filter(arguments(rollmath=table), group(*rewards))
    assert found.keep is keep
    assert found.reason == reason or (reason is None and not keep and " " not in found.reason)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"method": "max_variance", "options": {"keep": 8, "per": "batch"}}, "compares rollouts of different prompts"),
        ({"method": "round_to_multiple", "options": {"multiple": 8}}, "compares rollouts of different prompts"),
        ({"method": "top", "options": {"keep": 2}, "on": "advantages"}, "looks at advantages"),
    ],
)
def test_a_filter_of_the_batch_sees_no_batch(table, what, monkeypatch):
    install(monkeypatch)
    args = arguments(rollmath={"recipe": "grpo", "kl": False, "filter": table})
    message = (
        rf"dynamic_filter\(\): the filter '{table['method']}' of recipe 'grpo' {what}, and slime calls this function "
        r"with one prompt at a time; leave --dynamic-sampling-filter-path out: post_process_rewards has the whole batch"
    )
    with pytest.raises(ValueError, match=message):
        slime.dynamic_filter(args, group(1.0, 0.0))


def test_a_filter_inside_a_group_keeps_the_group(monkeypatch):
    install(monkeypatch)
    table = {"recipe": "grpo", "kl": False, "filter": {"method": "max_variance", "options": {"keep": 2}}}
    assert slime.dynamic_filter(arguments(rollmath=table), group(1.0, 0.0, 0.5)).keep
    table["filter"]["options"] = {"keep": 4, "short": "drop"}
    found = slime.dynamic_filter(arguments(rollmath=table), group(1.0, 0.0, 0.5))
    assert (found.keep, found.reason) == (False, "fewer_than_keep")


def test_the_filter_wants_one_group(monkeypatch):
    install(monkeypatch)
    with pytest.raises(
        ValueError, match=r"dynamic_filter\(\): 'samples' must be those of one prompt, got group_index \[0, 1\]"
    ):
        slime.dynamic_filter(arguments(), [sample(0, 1.0), sample(1, 0.0)])


def test_the_stand_in_is_slimes_sample():
    assert Sample().reward is None
    assert Sample().metadata == {}
