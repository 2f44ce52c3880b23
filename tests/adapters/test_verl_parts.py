"""Parts of the verl adapter that need no verl: masks, sessions, options, missing fields, versions."""

import importlib.util
import subprocess
import sys
import types

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import torch

from rollmath.adapters import verl as adapter
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._columns import Columns, Queue, objects
from rollmath.adapters.verl._config import method_options, plain, setting, table, whiten_of
from rollmath.adapters.verl._dense import Trained, outcomes, scores
from rollmath.adapters.verl._estimators import METHODS
from rollmath.adapters.verl._names import ESTIMATORS, losses
from rollmath.adapters.verl._objectives import LOSSES, MODES, as_verl_loss, global_scale
from rollmath.adapters.verl._sessions import Sessions

DTYPES = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 5, 63, 64, 65, 128, 200])
def test_rows_without_gaps_are_lengths(width, dtype):
    rng = np.random.default_rng(width)
    lengths = np.concatenate([[0, width], rng.integers(0, width + 1, 30), np.minimum([63, 64, 65], width)])
    mask = torch.from_numpy(np.arange(width) < lengths[:, None]).to(dtype)
    found = Trained.of("f", mask)
    assert found.mask is None
    np.testing.assert_array_equal(found.counts, lengths)
    np.testing.assert_array_equal(
        found.expand(np.arange(len(lengths), dtype=np.float32)), np.arange(len(lengths))[:, None] * mask.numpy()
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [2, 64, 65, 200])
def test_one_gap_anywhere_is_seen(width, dtype):
    """At any column of any length: also where the number of ones in a block stays the same."""
    rng = np.random.default_rng(width)
    for gap in range(width - 1):
        end = int(rng.integers(gap + 1, width)) + 1
        mask = np.zeros((3, width), bool)
        mask[0], mask[1, :end] = True, True
        mask[1, gap] = False
        found = Trained.of("f", torch.from_numpy(mask).to(dtype))
        np.testing.assert_array_equal(found.mask, mask)
        np.testing.assert_array_equal(found.counts, mask.sum(1))


def test_a_mask_that_is_a_view():
    whole = torch.zeros(4, 150, dtype=torch.int64)
    whole[:, 20:90] = 1
    found = Trained.of("f", whole[:, 20:])
    assert found.counts.tolist() == [70] * 4
    assert Trained.of("f", whole[:, :90].flip(1)).counts.tolist() == [70] * 4
    assert Trained.of("f", torch.zeros(0, 7)).counts.tolist() == []


def test_bad_masks_and_rewards():
    with pytest.raises(TypeError, match=r"f\(\): 'response_mask' must be a tensor \[B, T\], got a 1-D tensor"):
        Trained.of("f", torch.ones(3))
    with pytest.raises(TypeError, match=r"f\(\): 'response_mask' must be a tensor \[B, T\], got list"):
        Trained.of("f", [[1]])
    with pytest.raises(
        ValueError, match=r"f\(\): 'token_level_rewards' must have the shape of 'response_mask', \(2, 3\)"
    ):
        scores("f", torch.ones(2, 4), (2, 3))
    with pytest.raises(TypeError, match=r"f\(\): 'token_level_rewards' must be a tensor \[B, T\], got ndarray"):
        scores("f", np.ones((2, 3)), (2, 3))


def test_outcomes_are_rewards_of_last_tokens_alone():
    trained = Trained.of("f", torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]))
    rewards = np.zeros((3, 3), np.float32)
    assert outcomes(rewards, trained).tolist() == [0, 0, 0]
    rewards[0, 1], rewards[1, 0] = 0.5, -1
    assert outcomes(rewards, trained).tolist() == [0.5, -1, 0]
    for row, column in ((0, 0), (0, 2), (2, 0)):
        more = rewards.copy()
        more[row, column] = 1e-30
        assert outcomes(more, trained) is None
    assert outcomes(rewards.astype(float), trained) is None


def test_sessions():
    keys = ["a_0_0", "a_0_2", "b_c_1_0", "a_0_10", "a_1_0", "pad_0_0"]
    found = Sessions.of("f", keys, padding=[False] * 5 + [True])
    assert found.index.tolist() == [0, 0, 1, 0, 2, -1]
    assert found.final.tolist() == [3, 2, 4]
    assert found.needed
    assert not Sessions.of("f", ["a_0_0", "a_1_0"]).needed
    with pytest.raises(ValueError, match=r"f\(\): 'batch_keys' must be .* got 'a_0' at row 1"):
        Sessions.of("f", ["a_0_0", "a_0"])


def test_settings_of_any_kind():
    made = types.SimpleNamespace(gamma=0.5)
    assert [setting(x, "gamma", 1.0) for x in (None, {"gamma": 0.5}, made, {"gamma": None}, {})] == [1, 0.5, 0.5, 1, 1]
    assert table("f", {"rollmath": {"a": {"b": (1, 2)}}}) == {"a": {"b": [1, 2]}}
    assert plain({"a": "text"}) == {"a": "text"}
    assert table("f", None) == {}


def test_whitening_from_a_table():
    assert whiten_of("f", False) is None
    assert whiten_of("f", {"ddof": 0}) == rm.conventions.Whiten(ddof=0)
    with pytest.raises(
        ValueError, match=r"f\(\): unknown field of 'algorithm.rollmath.whiten' 'dof'; known are 'ddof', "
    ):
        whiten_of("f", {"dof": 0})
    with pytest.raises(TypeError, match=r"f\(\): 'algorithm.rollmath.whiten' must be false or a table"):
        whiten_of("f", 3)


def test_what_says_more_goes_before():
    """The framework, verl's keys, the table."""

    def made(options, keys=()):
        return method_options("f", rm.group.passk, "passk", options, ("rewards", "groups", "valid"), dict(keys))

    assert made({})["scale"] == "std"
    assert made({}, {"scale": "none"})["scale"] == "none"
    assert made({"scale": "std"}, {"scale": "none"})["scale"] == "std"
    assert made({})["convention"] == rm.conventions.VERL["passk"]
    assert made({"convention": "DEFAULT"})["convention"] == rm.conventions.DEFAULT
    assert "scale" not in made({"convention": "DEFAULT"})
    # A method that verl does not have follows the papers, unless a framework is named, which must have it.
    assert (
        method_options("f", rm.group.maxrl, "maxrl", {}, ("rewards", "groups"), {})["convention"]
        == rm.conventions.DEFAULT
    )
    with pytest.raises(
        ValueError, match=r"f\(\): 'algorithm.rollmath.convention' 'TRL' has none for 'maxrl'; it has: grpo"
    ):
        method_options("f", rm.group.maxrl, "maxrl", {"convention": "TRL"}, (), {})


def batch(columns, **more):
    rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    return Batch("rollmath/x", rewards, torch.tensor([[1, 1], [1, 1], [1, 0]]), {}, columns, **more)


@pytest.mark.parametrize("name", METHODS)
def test_every_estimator_runs_or_names_what_it_needs(name):
    columns = {"uid": np.array(["a", "a", "a"], object)}
    options = {"k": 2} if name == "passk_training" else {}
    needs = {
        "gae": "values", "gdpo": "gdpo_reward_keys", "remax": "reward_baselines", "stratified": "strata",
        "optimal_token_baseline": "sum_pi_squared", "tir_optimal_token_baseline": "sum_pi_squared",
    }  # fmt: skip
    if name in needs:
        with pytest.raises(ValueError, match=rf"^rollmath/x\(\): needs '{needs[name]}', which .* \(it has: uid\): "):
            METHODS[name].run(batch(columns), options)
    else:
        advantages, returns = METHODS[name].run(batch(columns), options)
        assert advantages.shape == returns.shape == (3, 2)
        assert advantages.dtype == np.float32


def test_columns_have_one_value_a_row():
    given = batch({"strata": np.arange(2), "tensor": torch.arange(3)})
    with pytest.raises(ValueError, match=r"rollmath/x\(\): 'strata' must have one value a row, \[3\], got \(2,\)"):
        given.column("strata")
    assert given.column("tensor").tolist() == [0, 1, 2]


def test_padding_gets_zero():
    given = batch({}, sessions=Sessions.of("f", ["a_0_0", "p_0_0", "a_0_1"], padding=[False, True, False]))
    assert given.scores().tolist() == [1.0]
    assert given.lengths().tolist() == [3]
    assert given.to_rows(np.float32([7])).tolist() == [7, 0, 7]


def test_a_tree_of_responses():
    """The second row fills the batch; a session of two outputs is no path."""
    tokens = {"responses": torch.tensor([[5, 6], [5, 5], [7, 0]]), "uid": np.array(["a", "p", "a"], object)}
    paths = np.empty(3, object)
    paths[:] = [["r", 1], ["r", 2], ["r", 3]]
    keys, padding = ["a_0_0", "p_0_0", "a_1_0"], [False, True, False]
    for columns in (tokens, tokens | {"paths": paths, "path_lengths": [[0, 2], [0, 2], [0, 1]]}):
        given = batch(columns, sessions=Sessions.of("f", keys, padding=padding))
        if "path_lengths" in columns:
            columns["path_lengths"] = objects(columns["path_lengths"])
        advantages, returns = ESTIMATORS["spo_tree"].run(given, {"zeros": "keep"})
        assert advantages.tolist() == returns.tolist() == [[0, 0], [0, 0], [0, 0]]
        with pytest.raises(ValueError, match=r"needs 'responses', which the batch does not have .*token ids"):
            ESTIMATORS["spo_tree"].run(batch({"uid": tokens["uid"]}), {})
    better = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    mask = torch.tensor([[1, 1], [1, 1], [1, 0]])
    sessions = Sessions.of("f", keys, padding=padding)
    given = Batch("rollmath/x", better, mask, {}, tokens, sessions=sessions)
    assert ESTIMATORS["spo_tree"].run(given, {})[0].tolist() == [[0.5, 0.5], [0, 0], [-0.5, 0]]
    both = Batch("rollmath/x", better, mask, {}, tokens, sessions=Sessions.of("f", ["a_0_0", "a_0_1", "a_1_0"]))
    with pytest.raises(ValueError, match="a tree has one row a rollout, but some sessions have several outputs"):
        ESTIMATORS["spo_tree"].run(both, {})


def test_what_the_environment_says_last_is_part_of_a_tree():
    """Lengths of paths are those of responses, by the attention mask; without it, up to the last trained token."""
    paths = np.empty(3, object)
    paths[:] = [["r", 1], ["r", 2], ["r", 3]]
    columns = {"uid": np.array(["a"] * 3, object), "paths": paths, "path_lengths": objects([[0, 2], [0, 2], [0, 2]])}
    with pytest.raises(ValueError, match="the tokens of the rows, but its rollout 2 has 2 and 2 has 1 positions"):
        ESTIMATORS["spo_tree"].run(batch(columns), {})
    columns["attention_mask"] = torch.ones(3, 5, dtype=torch.int64)
    found = ESTIMATORS["spo_tree"].run(batch(columns), {})[0]
    np.testing.assert_allclose(found, [[1 / 3] * 2, [-2 / 3] * 2, [1 / 3, 0]], rtol=1e-6)


def test_columns_of_a_queue():
    class Fake:
        asked = 0

        def kv_batch_get(self, *, keys, partition_id, select_fields):
            Fake.asked += 1
            extra = [{"a": 1, "reward_extra_info": {"b": "x"}}, {"a": 2, "reward_extra_info": {"b": "y"}}]
            fields = {"extra_fields": extra, "plain": torch.tensor([3, 4])}
            if select_fields[0] not in fields:
                raise ValueError(select_fields)
            return fields

    data = types.SimpleNamespace(batch={"mask": torch.ones(2, 2)}, non_tensor_batch={"uid": np.array(["a", "b"])})
    columns = Columns(data, Queue(Fake(), ["k", "l"], "train", 2))
    assert columns["plain"].tolist() == [3, 4]
    assert columns["a"].tolist() == [1, 2]
    assert columns["b"].tolist() == ["x", "y"]
    assert columns.get("c") is None
    asked = Fake.asked
    assert columns["uid"].tolist() == ["a", "b"]
    assert columns["a"].tolist() == [1, 2]
    assert asked == Fake.asked
    assert objects([None, 1.0]).tolist() == [None, 1.0]


# Losses.


@pytest.mark.parametrize("mode", MODES)
def test_micro_batches_of_two_ranks_add_up(mode):
    """Under verl's global_batch_info; one has no trained token, and all rows together are more than verl counts."""
    torch.manual_seed(0)
    old, advantages = -torch.rand(6, 9), torch.randn(6, 9)
    theta, mask = old + 0.3 * torch.randn(6, 9), torch.rand(6, 9) < 0.7
    mask[2] = False
    info = {"batch_num_tokens": int(mask.sum()), "global_batch_size": 4, "loss_scale_factor": 50}
    function = as_verl_loss("vanilla", LOSSES["vanilla"])

    def loss(rows, ranks):
        config = types.SimpleNamespace(clip_ratio=0.2, global_batch_info=info | {"dp_size": ranks})
        return function(old[rows], theta[rows], advantages[rows], mask[rows], mode, config)[0]

    whole = loss(list(range(6)), 1)
    torch.testing.assert_close((loss([0, 1], 2) + loss([2], 2) + loss([3, 4, 5], 2)) / 2, whole)
    ratio = (theta - old).exp()
    worse = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
    tokens = torch.where(advantages < 0, torch.minimum(worse, -3 * advantages), worse) * mask
    expected = {
        "token-mean": tokens.sum() / mask.sum(),
        "token-sum": tokens.sum(),
        "seq-mean-token-sum": tokens.sum() / 4,
        "seq-mean-token-sum-norm": tokens.sum() / 4 / 50,
        "seq-mean-token-mean": (tokens.sum(1) / mask.sum(1).clamp(min=1)).sum() / 4,
    }
    torch.testing.assert_close(whole, expected[mode])


def test_counts_that_are_missing():
    """The counts of the micro-batch then, or 0 where it has none; an error with several ranks."""
    given = {"tokens": 10, "rows": 2, "width": 8}
    assert global_scale("f", "token-mean", {}, **given) == 1
    assert global_scale("f", "seq-mean-token-sum-norm", {"batch_num_tokens": None}, **given) == 1 / 8
    assert global_scale("f", "token-mean", {"batch_num_tokens": 0}, tokens=0, rows=0, width=8) == 0
    assert global_scale("f", "token-sum", {"dp_size": 4}, **given) == 4
    for mode, name in (("token-mean", "batch_num_tokens"), ("seq-mean-token-mean", "global_batch_size")):
        with pytest.raises(
            ValueError, match=rf"f\(\): needs '{name}' in config.global_batch_info where 'dp_size' is 2"
        ):
            global_scale("f", mode, {"dp_size": 2}, **given)


def test_the_aggregation_of_a_recipe_in_words_of_verl():
    expected = {"grpo": "seq-mean-token-mean", "dr_grpo": "seq-mean-token-sum-norm", "dapo": "token-mean"}
    assert {name: losses()[name].mode for name in expected} == expected


# Without verl, or with another one.


@pytest.fixture
def no_verl(monkeypatch):
    monkeypatch.setitem(sys.modules, "verl", None)


@pytest.mark.parametrize("name", ["register", "patch_compute_advantage"])
def test_without_verl(name, no_verl):
    with pytest.raises(ModuleNotFoundError, match=rf"{name}\(\): verl is not installed; pip install verl==0.9.1"):
        getattr(adapter, name)()
    adapter.unregister()
    adapter.unpatch_compute_advantage()


@pytest.mark.parametrize("version", ["0.8.0", "0.10.0.dev0", "1.9.1"])
def test_another_version(version, monkeypatch):
    fake = types.ModuleType("verl")
    fake.__version__ = version
    monkeypatch.setitem(sys.modules, "verl", fake)
    for call in (adapter.register, adapter.patch_compute_advantage):
        with pytest.raises(RuntimeError, match=rf"\(\): verl {version} is not supported: supported are 0.9.x, tested"):
            call()


def test_an_import_of_the_adapter_costs_nothing():
    code = "import rollmath.adapters.verl, sys; print('torch' in sys.modules, 'verl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert set(adapter.__all__) <= set(dir(adapter))
