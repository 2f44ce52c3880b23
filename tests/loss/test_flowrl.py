"""FlowRL."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import flowrl  # noqa: E402

NUMBER = st.floats(-2, 2)
ROWS = st.lists(st.tuples(*[NUMBER] * 5, st.integers(0, 3), st.booleans()), max_size=16)


def unzip(rows):
    *columns, ids, valid = zip(*rows, strict=True) if rows else ((),) * 7
    return [np.array(c, dtype=float) for c in columns], list(ids), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["flowrl"]
    out = flowrl([v["mean_logp"]], [v["logZ"]], [v["r"]], [v["mean_logref"]], [0], beta=v["beta"])
    assert_allclose(out.loss, v["loss"], rtol=1e-14)
    assert_allclose(out.coefficient, [2 * v["delta"]], rtol=1e-14)


def test_official_code(vectors):
    v = vectors("group_losses")["flowrl"]
    x = v["inputs"]
    log_ratios = np.array(x["lengths"]) * np.subtract(x["logp"], x["old"])
    out = flowrl(x["logp"], x["log_z"], x["rewards"], x["ref"], x["groups"], log_ratios=log_ratios, clip=None)
    assert_allclose(out.loss, v["loss"], rtol=1e-13)
    assert_allclose(out.coefficient, v["gradient"], rtol=1e-12)
    assert_allclose(out.log_z_coefficient, v["log_z_gradient"], rtol=1e-12)


@given(ROWS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 0.2]), st.sampled_from([None, 7]))
def test_the_oracle(oracle, tolerance, rows, masked, by_group, weighted, clip, divisor):
    (s, z, r, ref, ratios), ids, valid = unzip(rows)
    z = z[: len(set(ids))] if by_group else z
    options = {"beta": 2.0, "clip": clip, "divisor": divisor, "valid": valid if masked else None}
    options["log_ratios"] = ratios if weighted else None
    expected = oracle("loss/flowrl.py", "flowrl")(s, z, r, ref, ids, **options)
    for got, wanted in zip(flowrl(s, z, r, ref, ids, **options), expected, strict=True):
        assert_allclose(got, wanted, **tolerance("float64"))


@given(ROWS.filter(bool))
def test_autograd(rows):
    (s, z, r, ref, ratios), ids, _ = unzip(rows)
    groups = rm.Groups(ids)
    x = torch.tensor(s, requires_grad=True)
    log_z = torch.tensor(z[: groups.n_groups], requires_grad=True)
    delta = log_z[torch.from_numpy(groups.index.copy())] + x - 2.0 * torch.tensor(r) - torch.tensor(ref)
    loss = (torch.tensor(ratios).exp().clamp(0.8, 1.2) * delta**2).mean()
    wanted = torch.autograd.grad(loss, (x, log_z))
    out = flowrl(x.detach(), log_z.detach(), r, ref, groups, beta=2.0, log_ratios=ratios)
    assert_allclose(out.loss, loss.detach(), rtol=1e-12, atol=1e-13)
    assert_allclose(out.coefficient, wanted[0], rtol=1e-12, atol=1e-13)
    assert_allclose(out.log_z_coefficient, wanted[1], rtol=1e-12, atol=1e-13)


def test_one_partition_function_a_group_or_a_response():
    s, r, ref, ids = [-0.5, -0.7, -0.2], [1.0, -1.0, 0.5], [-0.4, -0.6, -0.3], ["a", "a", "b"]
    few, many = flowrl(s, [0.3, 0.1], r, ref, ids), flowrl(s, [0.3, 0.3, 0.1], r, ref, ids)
    assert few.coefficient.tolist() == many.coefficient.tolist() == many.log_z_coefficient.tolist()
    assert few.log_z_coefficient.tolist() == rm.ops.segment_sum(many.coefficient, ids).tolist()


def test_huge_weights_are_clipped_without_overflow():
    out = flowrl([0.0, 0.0], [1.0], [0.0, 0.0], [0.0, 0.0], [0, 0], log_ratios=[1e4, -1e4])
    assert_allclose(out.coefficient, [1.2, 0.8], rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": 0}, ValueError, r"flowrl\(\): 'beta' must be finite and positive, got 0"),
        ({"clip": -1}, ValueError, r"flowrl\(\): 'clip' must be finite and not negative, got -1"),
        ({"log_ratios": [0.0]}, ValueError, r"flowrl\(\): 'log_ratios' must have length 3 \(= len\(groups\)\), got 1"),
        (
            {"log_ratios": [0.0, 710.0, 0.0], "clip": None},
            ValueError,
            r"flowrl\(\): 'log_ratios' must be at most 709 without clip=, got 710 at index 1",
        ),
        (
            {"log_z": [1.0, 2.0]},
            ValueError,
            r"flowrl\(\): 'log_z' must have length 3 \(= len\(groups\)\) or 1 \(= n_gr",
        ),
        ({"divisor": 0}, ValueError, r"flowrl\(\): 'divisor' must be finite and positive, got 0"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        flowrl([1.0] * 3, options.pop("log_z", [0.0]), [0.0] * 3, [0.0] * 3, [0] * 3, **options)
