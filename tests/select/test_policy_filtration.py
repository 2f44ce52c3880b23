"""Policy filtration: vectors, published code, the definition, laws, kinds, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

policy_filtration = rm.select.policy_filtration

HOWS = ["best", "best_random", "best_worst", "power", "max_min", "max_random"]
REWARDS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, -0.0]), st.integers(-16, 16).map(lambda k: k / 8))
ROWS = st.lists(
    st.tuples(REWARDS, st.integers(0, 3), st.booleans(), st.integers(0, 5), st.sampled_from([0.0, 1.0])), max_size=20
)


def unzip(rows, dtype=np.float64):
    r, ids, valid, gone, ties = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool), np.array(gone) == 0, np.array(ties)


@given(
    ROWS,
    st.sampled_from(HOWS),
    st.sampled_from(["group", "batch"]),
    st.sampled_from([None, 0, 2]),
    st.sampled_from([0.0, 2.0, 1.5]),
    st.sampled_from([np.float32, np.float64]),
    *[st.booleans()] * 4,
)
def test_the_definition(oracle, tolerance, rows, how, per, seed, power, dtype, masked, missing, tied, named):
    r, ids, valid, gone, ties = unzip(rows, dtype)
    r[gone & missing] = np.nan
    options = {
        "how": how,
        "per": per,
        "seed": seed,
        "power": power,
        "valid": valid if masked else None,
        "nan": "omit" if missing else "raise",
        "ties": ties if tied else None,
        "uid": [f"{(3 * i) % 23:02d}" for i in range(len(r))] if named else None,
    }
    weights, chosen = policy_filtration(r, ids, **options)
    expected = np.array(oracle("select/policy_filtration.py", "policy_filtration")(r, ids, **options))
    assert weights.dtype == dtype
    assert_allclose(weights, expected, **tolerance(weights.dtype))
    # What has no weight is dropped, for a reason.
    assert chosen.mask.tolist() == (weights > 0).tolist()
    report = chosen.report
    assert report.statistics == "before"
    why = {
        "best": "not the best",
        "best_worst": "neither best nor worst",
        "max_min": "neither highest nor lowest",
    }.get(how, "weight of 0")
    for i, code in enumerate(report.codes.tolist()):
        out = "not valid" if masked and not valid[i] else "missing reward" if math.isnan(r[i]) else why
        assert (report.reasons[code - 1] if code else None) == (None if weights[i] > 0 else out)
    assert set(report.lost) == set(ids) - {ids[i] for i in chosen.indices}


def test_vectors_of_the_paper(vectors):
    given = vectors("flat")["pfppo"]
    # Best first.
    r = np.linspace(1.0, 0.0, given["N"])
    for how, name in (("best", "BoN"), ("best_random", "BR"), ("best_worst", "BW")):
        assert policy_filtration(r, np.zeros(given["N"], int), how=how).weights.tolist() == given[name]


def test_published_code(vectors):
    given = vectors("selection")["pf_ppo"]
    r, ids = np.array(given["rewards"]), given["groups"]
    assert policy_filtration(r, ids, how="power").weights.tolist() == given["put_weight"]
    assert policy_filtration(r, ids, how="power", power=3).weights.tolist() == given["put_weight_3"]
    # Of equal rewards they take the last row for the best and the first for the worst.
    last = -np.arange(len(r))
    best = policy_filtration(r, ids, how="best", ties=last).weights > 0
    assert np.where(best, 0.4, 0.1).tolist() == given["select_max_random"]
    ends = policy_filtration(r, ids, how="best_worst", ties=last).weights > 0
    assert ends.tolist() == np.array(given["select_min_max"], bool).tolist()
    # Where the highest are not equal, that is ours; for five responses so is the paper's.
    for group, n in (("a", 5), ("b", 4)):
        rows = np.array(ids) == group
        theirs = np.array(given["select_max_random"])[rows]
        assert policy_filtration(r[rows], [0] * n, how="max_random").weights.tolist() == theirs.tolist()
        paper = policy_filtration(r[rows], [0] * n, how="best_random").weights
        assert np.allclose(paper, theirs / theirs.sum()) == (n == 5)


@given(ROWS, st.sampled_from(HOWS), st.randoms(use_true_random=False))
def test_laws(rows, how, random):
    r, ids, valid, _, ties = unzip(rows)
    n = len(r)
    uid = np.arange(n) * 5 - 17
    weights = policy_filtration(r, ids, how=how, uid=uid, seed=1, ties=ties, valid=valid).weights
    # Any order of rows, and any part that keeps groups whole.
    order = np.array(random.sample(range(n), n), np.int64)
    for part in [order, *(order[np.array(ids, np.int64)[order] % 2 == rank] for rank in (0, 1))]:
        again = policy_filtration(
            r[part], [ids[i] for i in part], how=how, uid=uid[part], seed=1, ties=ties[part], valid=valid[part]
        )
        assert again.weights.tolist() == weights[part].tolist()
    if how != "power":
        shifted = policy_filtration(2 * r + 8, ids, how=how, uid=uid, seed=1, ties=ties, valid=valid)
        assert shifted.weights.tolist() == weights.tolist()
    if how.startswith("best") and n:
        groups = rm.Groups(ids)
        total = rm.ops.segment_sum(weights, groups)
        assert_allclose(total, (rm.ops.segment_count(groups, valid=valid) > 0) + 0.0, rtol=1e-12)


def test_by_hand():
    r, ids = [0.5, 2.0, 2.0, -1.0, 0.0, 7.0, 3.0, 3.0], list("aaaaabcc")

    def weights(how, **options):
        return policy_filtration(r, ids, how=how, **options).weights.tolist()

    assert weights("best") == [0, 1, 0, 0, 0, 1, 1, 0]
    assert weights("best", ties=[0, 2, 1, 0, 0, 0, 2, 1]) == [0, 0, 1, 0, 0, 1, 0, 1]
    assert weights("best_random") == [0.125, 0.5, 0.125, 0.125, 0.125, 1, 0.5, 0.5]
    # Of a group of one the best is the worst; without a spread the worst is another one.
    assert weights("best_worst") == [0, 0.5, 0, 0.5, 0, 1, 0.5, 0.5]
    assert weights("power") == [0.25, 4, 4, 1, 0, 49, 9, 9]
    assert weights("max_min") == [0, 1, 1, 1, 0, 1, 1, 1]
    assert weights("max_random") == [0.1, 0.4, 0.4, 0.1, 0.1, 0.4, 0.4, 0.4]
    assert weights("max_min", per="batch") == [0, 0, 0, 1, 0, 1, 0, 0]
    assert weights("best_worst", per="batch") == [0, 0, 0, 0.5, 0, 0.5, 0, 0]
    report = policy_filtration([0.0, 0.0, 1.0], list("aab"), how="power").selection.report
    assert str(report) == (
        "policy_filtration kept 1 of 3 rollouts in 1 of 2 groups; statistics before\n"
        "  weight of 0  1 group, 2 rollouts: 'a' (2)"
    )
    # Equal rewards at random.
    drawn = {tuple(policy_filtration([1.0] * 4, [0] * 4, how="best_worst", seed=s).weights.tolist()) for s in range(50)}
    assert len(drawn) == 6


def test_empty_and_the_kinds_of_torch():
    for how in HOWS:
        assert policy_filtration([], [], how=how, per="batch").weights.tolist() == []
        assert policy_filtration([], [], how=how).selection.indices.tolist() == []
    torch = pytest.importorskip("torch")
    weights, chosen = policy_filtration(
        torch.tensor([3.0, 1.0, 2.0], dtype=torch.bfloat16), [0, 0, 0], how="best_worst"
    )
    assert weights.equal(torch.tensor([0.5, 0.5, 0.0]))
    assert chosen.indices.equal(torch.tensor([0, 1]))
    assert policy_filtration(torch.tensor([1, 2]), [0, 0], how="power").weights.equal(torch.tensor([1.0, 4.0]))
    # What float32 rounds to 0 has no weight.
    tiny = policy_filtration(np.array([1e-30, 1.0], np.float32), [0, 0], how="power")
    assert tiny.selection.indices.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param(
            {"how": "worst"}, ValueError, "'how' must be one of 'best', 'best_random', .* got 'worst'", id="how"
        ),
        pytest.param(
            {"how": "power", "power": -1}, ValueError, "'power' must be finite and not negative, got -1", id="power"
        ),
        pytest.param({"how": "power", "power": "2"}, TypeError, "'power' must be a number", id="text"),
        pytest.param(
            {"how": "power", "power": 400},
            ValueError,
            "'rewards' must have a power 400 within float64, got 100 at index 1; scale them",
            id="overflow",
        ),
        pytest.param({"per": "prompt"}, ValueError, "'per' must be one of 'group', 'batch', got 'prompt'", id="per"),
        pytest.param({"nan": "skip"}, ValueError, "'nan' must be one of 'raise', 'omit', got 'skip'", id="nan"),
        pytest.param({"ties": [1]}, ValueError, r"'ties' must have length 2 \(= len\(groups\)\), got 1", id="ties"),
        pytest.param({"uid": [1, 1]}, ValueError, "'uid' must name each row once, got 1 twice", id="uid"),
        pytest.param({"seed": 0.5}, TypeError, "'seed' must be a whole number", id="seed"),
        pytest.param({"valid": [1]}, ValueError, r"'valid' must have length 2 \(= len\(groups\)\), got 1", id="valid"),
    ],
)
def test_messages(options, error, message):
    with pytest.raises(error, match=rf"^policy_filtration\(\): {message}"):
        policy_filtration([1.0, 100.0], [0, 0], **{"how": "best", **options})


def test_messages_of_rewards():
    who = r"^policy_filtration\(\): "
    with pytest.raises(ValueError, match=who + r"'rewards' must have length 2 \(= len\(groups\)\), got 1"):
        policy_filtration([1.0], [0, 0], how="best")
    with pytest.raises(ValueError, match=who + "'rewards' must be finite where rows are valid, got nan at index 0"):
        policy_filtration([math.nan, 1.0], [0, 0], how="best")
    with pytest.raises(ValueError, match=who + "'rewards' must be finite where rows are valid, got inf at index 1"):
        policy_filtration([1.0, math.inf], [0, 0], how="best", nan="omit")
    with pytest.raises(ValueError, match=who + "'rewards' must have a power 2 within float32, got 1e.30 at index 0"):
        policy_filtration(np.array([1e30, 1.0], np.float32), [0, 0], how="power")
