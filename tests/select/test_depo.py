"""DEPO: the vectors, the rule by its definition, both readings of the neglected, laws, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

explorability, depo, normal_weights = rm.select.explorability, rm.select.depo, rm.select.normal_weights
FILE = "select/depo.py"
SCORES = st.sampled_from([0.0, 0.5, 1.0, None]) | st.floats(0, 9)
SHARES = st.sampled_from(["0", "0.1", "0.29", "0.3", "0.5", "0.7", "1"])


def test_the_vectors(vectors):
    v = vectors("flat")["depo_explor"]
    e = explorability(v["A"], v["H"], max_entropy=v["lam"])
    assert e.tolist() == v["E"]
    assert rm.ops.segment_mean(e, [7] * 4).tolist() == pytest.approx([v["sample"]])
    v = vectors("flat")["depo_norm"]
    assert normal_weights(v["acc"], mu=v["mu"], sigma=v["sigma"]).tolist() == pytest.approx(v["prob"], rel=1e-14)


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 4), st.booleans()), max_size=9),
    st.sampled_from([0.0, 1.5, math.inf]), st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_explorability(oracle, tolerance, rows, bound, dtype):
    a, e, there = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    a, e = np.array(a, dtype), np.array(e, dtype)
    got = explorability(a, e, max_entropy=bound, valid=there)
    assert got.dtype == dtype
    expected = oracle(FILE, "explorability")(a.tolist(), e.tolist(), max_entropy=bound, valid=there)
    assert_allclose(got, expected, **tolerance(dtype.__name__))
    assert_allclose(explorability(-2 * a, e, max_entropy=bound, valid=there), 2 * got, rtol=1e-6, atol=1e-30)


@given(
    st.lists(st.tuples(SCORES, st.integers(0, 3), st.booleans()), max_size=12),
    st.data(), SHARES, SHARES, st.sampled_from(["all", "rest"]), st.sampled_from([None, 5]),
)  # fmt: skip
def test_the_rule(oracle, rows, data, share, neglected, among, seed):
    n = len(rows)
    scores, visits, there = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    ids = data.draw(st.lists(st.integers(0, 99), min_size=n, max_size=n, unique=True))
    numbers = [math.nan if x is None else x for x in scores]
    options = {"among": among, "seed": seed}
    expected = oracle(FILE, "depo")(
        scores, ids, share=share, visits=visits, neglected=neglected, valid=there, **options
    )
    shares = {"share": float(share), "neglected": float(neglected)}
    got = depo(numbers, ids, visits=visits, valid=there, nan="omit", **shares, **options)
    assert got.indices.tolist() == expected
    report = got.report
    assert (report.unit, report.statistics) == ("prompt", None)
    for i, code in enumerate(report.codes.tolist()):
        if code:
            why = "not valid" if not there[i] else "missing score" if scores[i] is None else "low explorability"
            assert report.reasons[code - 1] == why
    assert report.kept_rollouts + sum(one.rollouts for one in report.dropped) == n
    order = list(data.draw(st.permutations(range(n))))
    turned = depo(
        [numbers[i] for i in order], [ids[i] for i in order], visits=[visits[i] for i in order],
        valid=[there[i] for i in order], nan="omit", **shares, **options,
    )  # fmt: skip
    assert turned.mask.tolist() == got.mask[order].tolist()


def test_by_hand():
    scores, ids, visits = [0.9, 0.1, 0.5, 0.0, 0.2], list("pqrst"), [4, 4, 3, 0, 1]

    def kept(**options):
        return [ids[i] for i in depo(scores, ids, **options).indices]

    assert kept(share=0.4) == kept(keep=2) == ["p", "r"]
    assert kept(share=0.01) == ["p"]
    assert kept(share=1.0) == ids
    assert kept(share=0.4, visits=visits, neglected=0.2) == ["p", "r", "s"]
    assert kept(share=0.4, visits=[0, 4, 4, 4, 4], neglected=0.2) == ["p", "r"]
    assert kept(share=0.4, visits=[0, 4, 4, 4, 1], neglected=0.2, among="rest") == ["p", "r", "t"]
    # A product that is whole but for rounding: 0.29 of 100 is 28.999999999999996.
    assert len(depo(np.arange(100.0), np.arange(100), share=0.29).indices) == 29
    # Equal scores: ties, then ids.
    assert depo([1.0] * 3, [30, 20, 10], keep=1).indices.tolist() == [2]
    assert depo([1.0] * 3, [30, 20, 10], keep=1, ties=[1, 0, 1]).indices.tolist() == [1]
    assert depo([0.0, -0.0], [2, 1], keep=1).indices.tolist() == [1]
    assert {depo([1.0] * 3, [30, 20, 10], keep=1, seed=s).indices[0] for s in range(30)} == {0, 1, 2}
    # Never seen, so without a score: not on top, but neglected.
    got = depo([0.5, math.nan, 0.1], ids[:3], keep=1, visits=[1, 0, 1], neglected=0.4, nan="omit")
    assert got.indices.tolist() == [0, 1]
    assert str(depo([0.5, math.nan], ["a", "b"], keep=1, nan="omit").report) == (
        "depo kept 1 of 2 prompts\n  missing score  1 prompt: 'b'"
    )
    assert depo([0.5], ["a"], keep=2, short="drop").report.dropped[0].reason == "fewer than keep"
    assert depo([0.5], ["a"], keep=2).indices.tolist() == [0]
    assert depo([], [], share=0.5).indices.tolist() == []


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=8), st.floats(-1, 2), st.floats(0.2, 5),
    st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_normal_weights(oracle, tolerance, rows, mu, sigma, dtype):
    p, there = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [])
    p = np.array(p, dtype)
    got = normal_weights(p, mu=mu, sigma=sigma, valid=there)
    assert got.dtype == dtype
    assert_allclose(
        got, oracle(FILE, "normal_weights")(p.tolist(), mu=mu, sigma=sigma, valid=there), **tolerance(dtype.__name__)
    )
    order = np.random.default_rng(0).permutation(len(p))
    assert (
        normal_weights(p[order], mu=mu, sigma=sigma, valid=np.array(there, bool)[order]).tolist() == got[order].tolist()
    )
    if any(there):
        assert got.sum() == pytest.approx(1, abs=1e-6)


def test_weights_far_from_the_mean():
    assert normal_weights([0.0, 0.0, 1.0], mu=50.0, sigma=1e-3).tolist() == [0.0, 0.0, 1.0]
    assert normal_weights([0.5, 0.5], mu=-1e300, sigma=5e-324).tolist() == [0.5, 0.5]
    assert normal_weights([0.25, 0.5], mu=0.5, sigma=5e-324).tolist() == [0.0, 1.0]
    assert normal_weights([0.1, 0.9], mu=0.5, sigma=1e300).tolist() == [0.5, 0.5]
    assert normal_weights([math.nan, 0.5], mu=0.5, sigma=1.0, valid=[0, 1]).tolist() == [0.0, 1.0]
    assert normal_weights([0.5], mu=0.5, sigma=1.0, valid=[0]).tolist() == [0.0]


def test_kinds():
    torch = pytest.importorskip("torch")
    a = torch.tensor([1.0, -2.0], dtype=torch.bfloat16)
    got = explorability(a, [0.5, 0.25], max_entropy=1)
    assert (got.dtype, got.tolist()) == (torch.float32, [0.5, 0.5])
    assert depo(a, torch.tensor([4, 5]), keep=1).mask.tolist() == [True, False]
    assert normal_weights(a.abs() / 4, mu=0.25, sigma=0.1).dtype == torch.float32
    with pytest.raises(ValueError, match=r"explorability\(\): 'advantages' requires grad"):
        explorability(torch.ones(2, requires_grad=True), [0.5, 0.25], max_entropy=1)


def test_messages():
    for wrong, error, message in [
        ({"entropy": [1.0]}, ValueError, r"'entropy' must have length 2 \(= len\(advantages\)\), got 1"),
        ({"entropy": [1.0, math.nan]}, ValueError, "'entropy' must be finite where rows are valid, got nan at index 1"),
        ({"advantages": [math.inf, 1.0]}, ValueError, "'advantages' must be finite where rows are valid, got inf"),
        ({"max_entropy": math.nan}, ValueError, "'max_entropy' must not be NaN"),
        ({"max_entropy": "1"}, TypeError, "'max_entropy' must be a number"),
        ({"valid": [1]}, ValueError, r"'valid' must have length 2 \(= len\(advantages\)\), got 1"),
    ]:
        with pytest.raises(error, match=r"explorability\(\): " + message):
            explorability(**({"advantages": [1.0, 2.0], "entropy": [1.0, 2.0], "max_entropy": 1.0} | wrong))
    for wrong, error, message in [
        ({"keep": None}, ValueError, "needs one of 'keep' and 'share', got keep=None and share=None"),
        ({"share": 0.5}, ValueError, "needs one of 'keep' and 'share', got keep=1 and share=0.5"),
        ({"keep": 0}, ValueError, "'keep' must be at least 1, got 0"),
        ({"keep": None, "share": 1.5}, ValueError, "'share' must be between 0 and 1, got 1.5"),
        ({"visits": [1, 1]}, ValueError, "'visits' and 'neglected' must come together, got 'visits' alone"),
        ({"neglected": 0.5}, ValueError, "'visits' and 'neglected' must come together, got 'neglected' alone"),
        ({"visits": [1, 1], "neglected": -1}, ValueError, "'neglected' must be between 0 and 1, got -1"),
        ({"visits": [1, -1], "neglected": 0.5}, ValueError, "'visits' must be finite and not negative .*, got -1"),
        ({"visits": [1], "neglected": 0.5}, ValueError, r"'visits' must have length 2 \(= len\(prompts\)\), got 1"),
        ({"among": "none"}, ValueError, "'among' must be one of 'all', 'rest', got 'none'"),
        ({"scores": [1.0, math.nan]}, ValueError, "'scores' must be finite where rows are valid, got nan at index 1"),
        ({"scores": [1.0]}, ValueError, r"'scores' must have length 2 \(= len\(prompts\)\), got 1"),
        ({"prompts": [3, 3]}, ValueError, "'prompts' must name each row once, got 3 twice"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"nan": "skip"}, ValueError, "'nan' must be one of 'raise', 'omit', got 'skip'"),
        (
            {"keep": 3, "short": "raise"},
            ValueError,
            "'keep' must be at most the prompts with a score, got 3, but there are 2",
        ),
    ]:
        with pytest.raises(error, match=r"depo\(\): " + message):
            depo(**({"scores": [1.0, 2.0], "prompts": [3, 4], "keep": 1} | wrong))
    for wrong, error, message in [
        ({"success_rates": [1.5]}, ValueError, r"'success_rates' must be in \[0, 1\] .*, got 1.5"),
        ({"sigma": 0}, ValueError, "'sigma' must be finite and positive, got 0"),
        ({"mu": math.inf}, ValueError, "'mu' must be finite, got inf"),
        ({"valid": [1, 1]}, ValueError, r"'valid' must have length 1 \(= len\(success_rates\)\), got 2"),
    ]:
        with pytest.raises(error, match=r"normal_weights\(\): " + message):
            normal_weights(**({"success_rates": [0.5], "mu": 0.5, "sigma": 0.1} | wrong))
