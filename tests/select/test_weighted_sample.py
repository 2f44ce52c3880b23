"""Draws by weight without replacement: the race by definition, the distribution, shards, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

weighted_sample = rm.select.weighted_sample
FILE = "select/weighted_sample.py"

WEIGHTS = st.one_of(st.sampled_from([0.0, 1.0, 0.25, 1e-300, 1e300]), st.floats(0, 100))
IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=8),
    st.lists(st.text(max_size=3), unique=True, max_size=8),
)
SHORT = st.sampled_from(["keep", "drop"])


@given(IDS, st.data(), st.integers(1, 9), st.integers(0, 5), SHORT, st.booleans())
def test_the_race(oracle, ids, data, keep, seed, short, masked):
    n = len(ids)
    weights = data.draw(st.lists(WEIGHTS, min_size=n, max_size=n))
    valid = data.draw(st.lists(st.booleans(), min_size=n, max_size=n)) if masked else None
    there = [w for i, w in enumerate(weights) if valid is None or valid[i]]
    if there and not any(there):
        with pytest.raises(
            ValueError, match=r"weighted_sample\(\): 'weights' must not all be 0 where prompts are valid"
        ):
            weighted_sample(weights, ids, keep=keep, seed=seed, valid=valid)
        return
    got = weighted_sample(weights, ids, keep=keep, seed=seed, short=short, valid=valid)
    expected = oracle(FILE, "weighted_sample")(weights, ids, keep=keep, seed=seed, short=short, valid=valid)
    assert got.indices.tolist() == expected
    # Nothing is dropped without a reason, and the reason is right.
    report = got.report
    assert (report.unit, report.statistics) == ("prompt", None)
    assert report.kept_rollouts + sum(one.rollouts for one in report.dropped) == n
    for i, code in enumerate(report.codes.tolist()):
        if code:
            why = report.reasons[code - 1]
            if valid is not None and not valid[i]:
                assert why == "not valid"
            elif weights[i] == 0:
                assert why == "weight of 0"
            else:
                assert why == ("fewer than keep" if short == "drop" and not expected else "not drawn")


def test_the_distribution():
    # All ordered pairs cannot be seen, so: which two of four, against the sum over both orders.
    w, draws = np.array([4.0, 2.0, 1.0, 1.0]), 4_000
    seen = dict.fromkeys(itertools.combinations(range(4), 2), 0)
    firsts = np.zeros(4)
    for seed in range(draws):
        seen[tuple(weighted_sample(w, [3, 5, 11, 2**40], keep=2, seed=seed).indices.tolist())] += 1
        firsts[weighted_sample(w, [3, 5, 11, 2**40], keep=1, seed=seed).indices] += 1
    p = w / w.sum()
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j]) for i, j in seen}
    chi = sum((seen[k] - draws * expected[k]) ** 2 / (draws * expected[k]) for k in seen)
    assert chi < 20.5  # 5 degrees of freedom, 0.1 %
    assert ((firsts - draws * p) ** 2 / (draws * p)).sum() < 16.3  # 3 degrees


def test_prompts_of_one_seed_are_drawn_independently():
    # 4,000 ids, weights of two sizes: how many of each among the first 1,000.
    w = np.tile([3.0, 1.0], 2000)
    counts = [weighted_sample(w, np.arange(4000), keep=1000, seed=s).indices % 2 for s in range(20)]
    light = np.mean([c.mean() for c in counts])
    # Of many prompts, 1 - e^(-w t) of each weight have arrived at the time t when a quarter of all have.
    t = 0.14935
    assert (1 - math.exp(-3 * t) + 1 - math.exp(-t)) / 2 == pytest.approx(0.25, abs=1e-4)
    assert light == pytest.approx((1 - math.exp(-t)) / (2 - math.exp(-3 * t) - math.exp(-t)), abs=0.01)


@given(IDS, st.data(), st.integers(1, 6), st.integers(0, 9))
def test_order_scale_shards_and_more_draws(ids, data, keep, seed):
    n = len(ids)
    w = np.array(data.draw(st.lists(st.sampled_from([1.0, 2.0, 3.5]), min_size=n, max_size=n)))
    got = {ids[i] for i in weighted_sample(w, ids, keep=keep, seed=seed).indices}
    order = data.draw(st.permutations(range(n)))
    turned = [ids[i] for i in order]
    assert {turned[i] for i in weighted_sample(w[order], turned, keep=keep, seed=seed).indices} == got
    assert {ids[i] for i in weighted_sample(w * 1024, ids, keep=keep, seed=seed).indices} == got
    assert {ids[i] for i in weighted_sample(w, ids, keep=keep + 1, seed=seed).indices} >= got
    # Two shards draw as many each; a draw among these is that among all.
    half = data.draw(st.integers(0, n))
    parts = []
    for rows in (range(half), range(half, n)):
        part = weighted_sample(w[list(rows)], [ids[i] for i in rows], keep=keep, seed=seed)
        parts += [rows[i] for i in part.indices]
    last = weighted_sample(w[parts], [ids[i] for i in parts], keep=keep, seed=seed)
    assert {ids[parts[i]] for i in last.indices} == got


def test_weights_of_any_size():
    ids = list(range(6))
    for scale in (5e-324, 1e-320, 1e-308, 1.0, 1e308):
        got = weighted_sample([scale] * 6, ids, keep=3, seed=1).indices.tolist()
        assert got == weighted_sample([1.0] * 6, ids, keep=3, seed=1).indices.tolist()
    first = [weighted_sample([1e-300, 1e300], [0, 1], keep=1, seed=s).indices.tolist() for s in range(50)]
    assert first == [[1]] * 50
    never = [weighted_sample([0.0, 1e-300], [0, 1], keep=2, seed=s).indices.tolist() for s in range(50)]
    assert never == [[1]] * 50


def test_missing_weights_short_and_kinds():
    nan = math.nan
    got = weighted_sample([1.0, nan, 0.0, 2.0], list("pqrs"), keep=3, seed=0, nan="omit", valid=[1, 1, 1, 0])
    assert str(got.report) == (
        "weighted_sample kept 1 of 4 prompts\n"
        "  not valid       1 prompt: 's'\n"
        "  missing weight  1 prompt: 'q'\n"
        "  weight of 0     1 prompt: 'r'"
    )
    assert weighted_sample([1.0, 0.0], [1, 2], keep=2, seed=0, short="drop").indices.tolist() == []
    assert weighted_sample([], [], keep=1, seed=0).indices.tolist() == []
    assert weighted_sample([nan], [1], keep=1, seed=0, nan="omit").indices.tolist() == []
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float32, torch.float64, torch.int64):
        got = weighted_sample(torch.tensor([1, 0, 4]).to(dtype), torch.tensor([7, 8, 9]), keep=1, seed=3)
        assert got.indices.dtype == torch.int64
        assert got.mask.tolist() == weighted_sample([1, 0, 4], [7, 8, 9], keep=1, seed=3).mask.tolist()
    groups = rm.Groups(["a", "b"])
    assert weighted_sample([1, 1], groups, keep=2, seed=0).mask.all()


def test_the_same_numbers_everywhere():
    assert weighted_sample(np.arange(1, 13), np.arange(12), keep=5, seed=7).indices.tolist() == [4, 5, 7, 9, 10]
    names = [f"q{i}" for i in range(12)]
    assert weighted_sample(np.arange(1, 13), names, keep=5, seed=7).indices.tolist() == [1, 8, 9, 10, 11]


def test_messages():
    for wrong, error, message in [
        ({"weights": [1.0, -1.0]}, ValueError, "'weights' must be finite and not negative .*, got -1 at index 1"),
        ({"weights": [1.0, math.nan]}, ValueError, "'weights' must be finite and not negative .*, got nan at index 1"),
        (
            {"weights": [1.0, math.inf], "nan": "omit"},
            ValueError,
            "'weights' must be finite and not negative .*, got inf",
        ),
        ({"weights": [0.0, 0.0]}, ValueError, "'weights' must not all be 0 where prompts are valid"),
        ({"weights": [1.0]}, ValueError, r"'weights' must have length 2 \(= len\(prompts\)\), got 1"),
        ({"weights": [[1.0, 1.0]]}, TypeError, "'weights' must be 1-D"),
        ({"prompts": ["a", "a"]}, ValueError, "'prompts' must name each row once, got 'a' twice"),
        ({"prompts": [0.5, 1.5]}, TypeError, "'prompts' must"),
        ({"keep": 0}, ValueError, "'keep' must be at least 1, got 0"),
        ({"keep": 1.0}, TypeError, "'keep' must be a whole number"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"seed": None}, TypeError, "'seed' must be a whole number"),
        ({"nan": "skip"}, ValueError, "'nan' must be one of 'raise', 'omit', got 'skip'"),
        ({"short": "fill"}, ValueError, "'short' must be one of 'keep', 'drop', 'raise', got 'fill'"),
        (
            {"weights": [1.0, 0.0], "keep": 2, "short": "raise"},
            ValueError,
            "'keep' must be at most the prompts with a weight above 0, got 2, but there are 1",
        ),
    ]:
        with pytest.raises(error, match=r"weighted_sample\(\): " + message):
            weighted_sample(**({"weights": [1.0, 2.0], "prompts": ["a", "b"], "keep": 1, "seed": 0} | wrong))
