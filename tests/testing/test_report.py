"""What a report says, options, and errors of a wrong call."""

import numpy as np
import pytest
import torch

import rollmath
from rollmath.testing import Report, Result, check_advantage, check_loss, checks


def whole_batch(rewards, groups):
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)


def grpo(rewards, groups):
    return rollmath.group.grpo(rewards, groups)


def test_a_table_that_reads_without_knowing_rollmath():
    text = str(check_advantage(whole_batch, only=["partition", "nan_reward", "padding_width"]))
    assert text.startswith("Checks of whole_batch: 1 pass, 2 fail, 1 not applicable\n")
    assert "rewards [0.25, 1, 0.5, 0.125] get [-0.5653, 1.373, 0.08076, -0.8883] alone and" in " ".join(text.split())
    assert "why: An advantage that depends on which prompts share a batch" in " ".join(text.split())
    assert "not applicable  padding_width: it takes one reward a rollout, not tokens" in text
    assert max(map(len, text.splitlines())) <= 120


def test_assert_ok():
    check_advantage(grpo).assert_ok()
    with pytest.raises(AssertionError, match=r"must hold   Other groups in the batch change nothing"):
        check_advantage(whole_batch).assert_ok()


def test_only_exclude_allow():
    report = check_advantage(whole_batch, only=["partition", "sign"], exclude=["sign"], allow=["partition"])
    assert [(r.id, r.verdict) for r in report.results] == [("runs", "pass"), ("partition", "allowed")]
    report.assert_ok()
    assert report["partition"].verdict == "allowed"
    with pytest.raises(KeyError, match="'sign' is not among the checks that ran: runs, partition"):
        report["sign"]


def test_a_failure_that_is_allowed_and_gone_is_a_pass():
    assert check_advantage(grpo, only=["partition"], allow=["partition"])["partition"].verdict == "pass"


def test_what_does_not_run_is_one_failure():
    def broken(rewards, groups):
        raise KeyError("uid")

    report = check_advantage(broken)
    assert [r.id for r in report.failures] == ["runs"]
    assert report["runs"].seen == "it raises KeyError: 'uid'"
    assert report["sign"].seen == "the function does not run, see 'runs'"


def test_torch_functions_are_found_out():
    def of_tensors(rewards, groups):
        out = torch.zeros_like(rewards)
        for g in groups.unique():
            out[groups == g] = rewards[groups == g] - rewards[groups == g].mean()
        return out

    report = check_advantage(of_tensors)
    assert report["runs"].seen == "called with torch tensors: 16 finite advantages"
    assert "dr_grpo" in report["group_statistics"].seen
    assert "not applicable" in report["string_ids"].verdict


def consecutive(rewards, num_generations):
    return np.concatenate([grpo(x, [0] * len(x)) for x in rewards.reshape(-1, num_generations)])


def keyed(rewards, groups):
    """As verl's: rewards are a tensor, and ids keys of a dict."""
    mean = {}
    for g in groups:
        mean[g] = torch.stack([r for r, other in zip(rewards, groups, strict=True) if other == g]).mean()
    return torch.stack([r - mean[g] for r, g in zip(rewards, groups, strict=True)])


def test_ids_beside_tensors_are_no_tensors_if_need_be():
    """A tensor in a dict is a key of its own."""
    report = check_advantage(keyed)
    report.assert_ok()
    assert "torch tensors, ids in a NumPy array" in report["runs"].seen
    report = check_advantage(lambda r, mask, g: keyed(r.sum(-1), g)[:, None] * mask, style="tokens")
    assert {r.id for r in report.failures} == {"rewards_behind_mask"}


def test_annotations_are_believed():
    def both(rewards: torch.Tensor, groups: "torch.Tensor"):
        return rewards - sum(rewards[groups == g].mean() * (groups == g) for g in set(groups.tolist()))

    assert check_advantage(both, only=[])["runs"].seen == "called with torch tensors: 16 finite advantages"


def test_kinds_that_are_asked_for_are_given():
    def tensors(rewards: torch.Tensor, groups):
        return rewards * 1.0

    for options, way in (
        ({"arrays": "numpy"}, "NumPy arrays"),
        ({"arrays": "torch"}, "torch tensors, ids in a NumPy array"),
        ({"mask_dtype": "bool"}, "torch tensors, ids in a NumPy array"),
    ):
        report = check_advantage(tensors, only=[], **options)
        assert report["runs"].seen == f"called with {way}: 16 finite advantages"


def test_what_was_tried_is_said():
    def neither(rewards, groups):
        return rewards.clone().nothing

    seen = check_advantage(neither)["runs"].seen
    assert "with NumPy arrays it raises AttributeError: 'numpy.ndarray' object has no attribute 'clone'; " in seen
    assert "with torch tensors, ids in a NumPy array it raises AttributeError: 'Tensor' object" in seen


@pytest.mark.parametrize(
    ("out", "seen"),
    [
        (None, "it returns None, not an array of numbers"),
        ((), "it returns the shape [0] for rewards of shape [16]"),
        ({"advantages": 1}, "it returns dict, not an array of numbers"),
        ([[1.0], [2.0, 3.0]], "it returns list, not an array of numbers"),
        (0.0, "it returns the shape [] for rewards of shape [16]"),
    ],
)
def test_advantages_that_are_none(out, seen):
    report = check_advantage(lambda rewards, groups: out)
    assert [r.id for r in report.failures] == ["runs"]
    assert report["runs"].seen == seen


@pytest.mark.parametrize(
    ("out", "seen"),
    [
        (lambda x: None, "it returns None, not a scalar tensor: wrap"),
        (lambda x: (), "it returns tuple, not a scalar tensor: wrap"),
        (lambda x: {"loss": x.sum()}, "it returns dict, not a scalar tensor: wrap"),
        (lambda x: x.sum().item(), "it returns float, not a scalar tensor: wrap"),
        (lambda x: x, "it returns a tensor of shape [2, 4], not a scalar: wrap"),
        (lambda x: x.detach().sum(), "the loss does not depend on logp, its first argument"),
    ],
)
def test_losses_that_are_none(out, seen):
    report = check_loss(lambda logp, old_logp, advantages, mask: out(logp * advantages))
    assert [r.id for r in report.failures] == ["runs"]
    assert report["runs"].seen.startswith(seen)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_results_of_other_dtypes(dtype):
    def low(rewards, groups):
        return torch.as_tensor(grpo(rewards, groups)).to(dtype).requires_grad_()

    assert not check_advantage(low, exclude=["zero_spread"]).failures


def test_masks_of_bools_where_they_index():
    """With ints, ``logp[mask]`` takes rows, and raises nothing."""

    def packed(logp, old_logp, advantages, mask):
        logp, old, a = logp[mask], old_logp[mask], advantages[mask]
        return -((logp - old).exp() * a).sum() / 64

    report = check_loss(packed)
    report.assert_ok()
    assert "bool masks" in report["runs"].seen
    report = check_loss(lambda logp, old_logp, advantages, mask: (logp * advantages * (1 - mask)).sum(), only=["runs"])
    assert "int64 masks" in report["runs"].seen


def test_writing_to_logp_is_no_error_of_autograd():
    """In a trainer it is no leaf; that it is written to is still said."""

    def in_place(logp, old_logp, advantages, mask):
        logp[~mask] = 0.0
        return -(logp * advantages).masked_fill(~mask, 0.0).sum() / 64

    report = check_loss(in_place, exclude=["nan_behind_mask"])
    assert [r.id for r in report.failures] == ["inputs_mutated"]
    assert "an element of logp is 0 after the call" in report["inputs_mutated"].seen


def test_a_row_that_counts_is_remarked():
    def by_rows(logp, old_logp, advantages, mask):
        return -((logp * advantages * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()

    result = check_loss(by_rows, only=["empty_row_counted"])["empty_row_counted"]
    assert result.verdict == "note"
    assert result.seen.endswith("have 0.8 times the gradient of the four: it counts as a row")


def test_what_the_tests_around_have_set_changes_nothing():
    def loss(logp, old_logp, advantages, mask):
        return -(torch.where(mask, logp, 0.0) * torch.where(mask, advantages, 0.0)).sum() / torch.tensor(64.0)

    torch.set_default_device("meta")
    try:
        with torch.no_grad():
            check_loss(loss).assert_ok()
            check_advantage(keyed).assert_ok()
    finally:
        torch.set_default_device(None)


def test_groups_by_position():
    report = check_advantage(consecutive, style="consecutive")
    report.assert_ok()
    for name in ("uneven_groups", "interleaved_groups", "singletons", "string_ids"):
        assert report[name].seen == "its groups are slices by position, without ids"
    assert check_advantage(whole_batch, style="consecutive")["group_statistics"].verdict == "fails"


def test_another_formula_than_the_one_meant():
    report = check_advantage(grpo, formula="rloo", only=["group_statistics"])
    assert report["group_statistics"].seen.startswith("rloo was asked for, and it follows VERL grpo, ")
    report = check_advantage(lambda r, g: r**2, formula="grpo", only=["group_statistics"])
    assert "follows no formula known here" in report["group_statistics"].seen


def test_aliasing_is_remarked():
    def shared(token_rewards, mask, groups):
        out = grpo(token_rewards.sum(1), groups)[:, None] * mask
        return out, out

    assert check_advantage(shared, style="tokens", only=["aliasing"])["aliasing"].verdict == "note"
    assert check_advantage(lambda r, g: r, only=["aliasing"])["aliasing"].verdict == "note"


def test_the_order_of_bits_is_remarked():
    def running_sum(rewards, groups):
        out = np.zeros_like(rewards)
        for g in np.unique(groups):
            out[groups == g] = rewards[groups == g] - np.cumsum(rewards[groups == g])[-1] / (groups == g).sum()
        return out

    assert check_advantage(running_sum, only=["order_bits"])["order_bits"].verdict == "note"


def test_a_gradient_through_old_logp_is_remarked():
    def ratio(logp, old_logp, advantages, mask):
        return -((logp - old_logp).exp() * advantages * mask).sum() / mask.sum()

    report = check_loss(ratio, only=["detached_inputs"])
    assert report["detached_inputs"].seen.startswith("a gradient reaches old_logp and advantages")


@pytest.mark.parametrize("mask_dtype", ["int64", "bool", "float32"])
def test_masks(mask_dtype):
    seen = []

    def loss(logp, old_logp, advantages, mask):
        seen.append(str(mask.dtype))
        return -(logp * advantages).masked_fill(mask == 0, 0).sum()

    check_loss(loss, only=["runs"], mask_dtype=mask_dtype).assert_ok()
    assert set(seen) == {f"torch.{mask_dtype}"}


def test_options_reach_every_call():
    def scaled(rewards, groups, *, by):
        return by * grpo(rewards, groups)

    assert check_advantage(scaled, options={"by": -1}, only=["sign"])["sign"].verdict == "fails"


def test_every_check_says_what_and_why():
    for kind in ("advantage", "loss"):
        for each in checks(kind):
            assert each.what.endswith(".")
            assert each.why.endswith("."), each


def test_nouns():
    result = Result("x", "pass", "seen", "what", "why")
    report = Report("f", (result,))
    assert report.failures == ()
    assert repr(report) == str(report)
    assert repr(checks("loss")[0]) == "Check('runs')"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"style": "x"}, ValueError, r"check_advantage\(\): 'style' must be one of 'rollouts', .*, got 'x'"),
        ({"arrays": "jax"}, ValueError, r"check_advantage\(\): 'arrays' must be one of 'numpy', 'torch', got 'jax'"),
        ({"mask_dtype": "x"}, ValueError, r"check_advantage\(\): 'mask_dtype' must be one of .*, got 'x'"),
        ({"only": ["x"]}, ValueError, r"check_advantage\(\): 'only' must be of aliasing, .*, got 'x'"),
        ({"exclude": ["x"]}, ValueError, r"check_advantage\(\): 'exclude' must be of aliasing, .*, got 'x'"),
        ({"allow": "sign"}, TypeError, r"check_advantage\(\): 'allow' must be a sequence of ids of checks, got 'sign'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        check_advantage(grpo, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"style": "x"}, ValueError, r"check_loss\(\): 'style' must be one of 'tokens', 'rows', 'verl', got 'x'"),
        ({"mask_dtype": "x"}, ValueError, r"check_loss\(\): 'mask_dtype' must be one of .*, got 'x'"),
        (
            {"counts": {"n": "turns"}},
            ValueError,
            r"check_loss\(\): 'counts' must be one of 'tokens', 'rows', got 'turns'",
        ),
        ({"clip": 0.2}, TypeError, r"check_loss\(\): 'clip' must be a pair \(low, high\), got 0.2"),
        ({"only": ["x"]}, ValueError, r"check_loss\(\): 'only' must be of accumulation, .*, got 'x'"),
    ],
)
def test_wrong_options_of_a_loss(options, error, message):
    with pytest.raises(error, match=message):
        check_loss(lambda logp, old_logp, advantages, mask: logp.sum(), **options)


def test_what_is_not_callable():
    with pytest.raises(TypeError, match=r"check_advantage\(\): 'fn' must be callable, got int"):
        check_advantage(1)
    with pytest.raises(TypeError, match=r"check_loss\(\): 'fn' must be callable, got int"):
        check_loss(1)
    with pytest.raises(ValueError, match=r"checks\(\): 'kind' must be one of 'advantage', 'loss', got 'x'"):
        checks("x")
