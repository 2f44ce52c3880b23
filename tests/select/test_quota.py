"""Quotas of strata: by hand, against the definition, laws, kinds, and what they refuse."""

from __future__ import annotations

import enum
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

quota = rm.select.quota

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9), st.sampled_from([0.0, 1.0, 0.5])), max_size=24
)
SPLITS = st.sampled_from(
    [
        "proportional",
        "equal",
        {0: 1, 3: 1},
        {1: 0},
        {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.25, 4: 0.15},
        {2: 0.9},
        {2: 1.0, 7: 0.0},
        {0: 1 / 6, 1: 5 / 6},
        {0: 1 / 3, 3: 1 / 3, 4: 1 / 3},
    ]
)


def unzip(rows):
    ids, strata, valid, ties = (list(x) for x in zip(*rows, strict=True)) if rows else ([], [], [], [])
    return ids, strata, np.array(valid, int) > 0, np.array(ties, float)


def uids(n):
    return [f"r{(i * 7) % 31:02d}" for i in range(n)] if n <= 31 else list(range(n))


@given(
    ROWS,
    st.integers(2, 6),
    SPLITS,
    st.sampled_from(["group", "batch"]),
    st.sampled_from(["keep", "drop"]),
    st.sampled_from([None, 0, 5]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_definition(oracle, rows, keep, split, per, short, seed, masked, tied, named):
    ids, strata, valid, ties = unzip(rows)
    options = {"keep": keep, "split": split, "per": per, "short": short, "seed": seed}
    options |= {
        "valid": valid if masked else None,
        "ties": ties if tied else None,
        "uid": uids(len(ids)) if named else None,
    }
    chosen = quota(ids, strata, **options)
    kept, why = oracle("select/quota.py", "quota")(ids, strata, **options)
    assert chosen.indices.tolist() == kept
    report = chosen.report
    # Nothing without a reason.
    assert {i: report.reasons[code - 1] for i, code in enumerate(report.codes.tolist()) if code} == why
    assert set(report.lost) == set(ids) - {ids[i] for i in kept}


def sizes_of(counts):
    """Rollouts of one group whose strata have these sizes."""
    return [0] * sum(counts), np.repeat(np.arange(len(counts)), counts)


def kept_of(counts, **options):
    ids, strata = sizes_of(counts)
    return np.bincount(strata[quota(ids, strata, **options).indices], minlength=len(counts)).tolist()


def test_by_hand():
    assert kept_of([6, 3, 1], keep=5) == [3, 2, 0]  # shares of 3, 1.5 and 0.5: the larger stratum first
    assert kept_of([1, 9, 9], keep=8, split="equal") == [1, 4, 3]
    assert kept_of([9, 1, 9, 9], keep=10, split="equal") == [3, 1, 3, 3]
    assert kept_of([8, 8], keep=8, split={0: 2, 1: 6}) == [2, 6]
    assert kept_of([8, 4], keep=8, split={0: 2, 1: 6}) == [4, 4]  # what one cannot fill goes to the other
    assert kept_of([8, 2, 4, 4], keep=8, split={1: 0.5}) == [3, 2, 2, 1]
    assert kept_of([8, 8], keep=8, split={0: 0}) == [0, 8]
    assert kept_of([8, 5], keep=8, split={0: 0}) == [3, 5]
    # As they are written, a tenth and two tenths of 30 are 3 and 6, and nothing is left over.
    assert kept_of([30, 30, 30], keep=30, split={0: 0.1, 1: 0.2, 2: 0.7}) == [3, 6, 21]
    assert kept_of([2, 2], keep=9, split={0: 1}) == [2, 2]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 20))
def test_equal_is_as_even_as_can_be_and_proportional_is_within_one(counts, keep):
    k = min(keep, sum(counts))
    even = kept_of(counts, keep=keep, split="equal")
    choices = [c for c in itertools.product(*(range(n + 1) for n in counts)) if sum(c) == k] if sum(counts) < 14 else []
    assert sum(even) == k
    if choices:
        assert sorted(even) == max(sorted(c) for c in choices)
    shares = [k * n / sum(counts) for n in counts]
    for got, share in zip(kept_of(counts, keep=keep), shares, strict=True):
        assert math.floor(share) <= got <= math.ceil(share)


@given(ROWS, st.integers(1, 5), SPLITS, st.randoms(use_true_random=False), st.sampled_from([None, 3]))
def test_neither_the_order_of_rows_nor_shards_matter(rows, keep, split, random, seed):
    if not isinstance(split, str) and any(isinstance(x, int) for x in split.values()):
        keep = max(keep, 2)
    ids, strata, valid, ties = unzip(rows)
    n = len(ids)
    names = np.arange(n) * 3 - 20
    options = {"keep": keep, "split": split, "seed": seed}
    kept = set(names[quota(ids, strata, uid=names, valid=valid, ties=ties, **options).indices].tolist())
    order = np.array(random.sample(range(n), n), np.int64)
    for part in [order, *(order[np.array(ids, np.int64)[order] % 2 == rank] for rank in (0, 1))]:
        chosen = quota(
            [ids[i] for i in part],
            [strata[i] for i in part],
            uid=names[part],
            valid=valid[part],
            ties=ties[part],
            **options,
        )
        assert set(names[part][chosen.indices].tolist()) == kept & set(names[part].tolist())


def test_strata_and_arrays_of_every_kind():
    rewards = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    ids = np.zeros(6, np.int64)
    expected = [0, 1, 2, 3]
    for strata in (
        rewards > 0,
        (rewards > 0).tolist(),
        (rewards > 0).astype(np.int32),
        rm.Groups([*map(str, rewards)]),
    ):
        assert quota(ids, strata, keep=4, split="equal").indices.tolist() == expected
    for split in ({True: 0.5, False: 0.5}, {1: 2}, {True: 2, False: 2}, {np.int64(1): np.int64(2)}):
        assert quota(rm.Groups(ids), rewards > 0, keep=4, split=split).indices.tolist() == expected
    assert quota([], [], keep=1).indices.tolist() == []
    assert quota([], [], keep=1, split={"a": 1}, per="batch").mask.shape == (0,)
    # Inside a stratum ties decide, and a seed where they leave a choice.
    assert quota(ids, rewards > 0, keep=2, split="equal", ties=[5, 4, 3, 2, 1, 0]).indices.tolist() == [3, 5]
    drawn = {tuple(quota(ids, rewards > 0, keep=2, split="equal", seed=s).indices.tolist()) for s in range(60)}
    assert len(drawn) == 8
    torch = pytest.importorskip("torch")
    chosen = quota(torch.tensor(ids), torch.tensor(rewards) > 0, keep=4, split="equal")
    assert chosen.indices.equal(torch.tensor(expected))
    assert chosen.mask.dtype == torch.bool
    assert quota(ids, torch.tensor(rewards) > 0, keep=4).indices.equal(torch.tensor([0, 1, 2, 4]))


def test_the_report():
    chosen = quota(["a"] * 6 + ["b"] * 2, [0, 0, 0, 0, 1, 1, 0, 1], keep=4, split="equal", short="drop")
    assert str(chosen.report) == (
        "quota kept 4 of 8 rollouts in 1 of 2 groups\n"
        "  fewer than keep                1 group, 2 rollouts: 'b' (2)\n"
        "  over the quota of its stratum  1 group, 2 rollouts: 'a' (2)\n"
        "  nothing is left of 1 group: 'b'"
    )
    with pytest.raises(ValueError, match="'statistics' must be 'before' or 'after', since quota does not say"):
        chosen.advantages(rm.group.grpo, np.ones(8), ["a"] * 8)


def test_shares_that_add_up_to_1_but_for_rounding():
    for shares in ([1 / 6, 5 / 6], list(np.float32([1 / 3, 1 / 3, 1 / 3])), [1 / 3, 2 / 3], [0.1] * 10):
        counts = [60] * (len(shares) + 1)
        got = kept_of(counts, keep=60, split=dict(enumerate(shares)))
        assert got == [*np.rint(60 * np.array(shares)).astype(int), 0]
    # As they are written also in float32, in which 0.6 and 0.4 add up to more than 1.
    assert kept_of([9, 9], keep=5, split={0: np.float32(0.6), 1: np.float32(0.4)}) == [3, 2]


def test_keys_of_numpy_and_of_enums():
    strata = np.array(list("xxyyxxyy"))
    for split in (
        dict.fromkeys(np.unique(strata), 0.5),
        {enum.StrEnum("Kind", {"X": "x"}).X: 2},
    ):
        assert quota([0] * 8, strata, keep=4, split=split).indices.tolist() == [0, 1, 2, 3]
    assert quota([0] * 4, [("x", 1)] * 4, keep=2, split={("x", np.int64(1)): 2}).indices.tolist() == [0, 1]


def test_more_than_there_is():
    for keep in (10, 2**63, 10**30):
        for options in ({}, {"split": {0: 1}}, {"split": {0: 0.5}}, {"per": "batch"}):
            assert quota([0, 0, 1], [0, 1, 0], keep=keep, **options).mask.all()
        assert not quota([0, 0, 1], [0, 1, 0], keep=keep, short="drop").mask.any()


def test_shares_that_no_float_holds_and_large_batches():
    # Denominators of ten to the sixteenth, on which int64 would overflow.
    assert kept_of([500, 500, 500], keep=999, split={0: 1 / 3, 1: 1 / 3}) == [333, 333, 333]
    rng = np.random.default_rng(0)
    ids, strata = rng.integers(0, 3000, 30_000), rng.integers(0, 5, 30_000)
    for split in ("proportional", "equal", {0: 0.3, 1: 0.1}):
        report = quota(ids, strata, keep=4, split=split, seed=0).report
        assert report.kept.tolist() == np.minimum(rm.Groups(ids).counts, 4).tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"keep": 0}, ValueError, "'keep' must be at least 1, got 0", id="keep"),
        pytest.param({"keep": 2.0}, TypeError, "'keep' must be a whole number", id="keep float"),
        pytest.param({"split": "even"}, ValueError, "'split' must be 'proportional', 'equal' or a mapping", id="split"),
        pytest.param(
            {"split": [1]}, ValueError, r"'split' must be .* or a mapping of strata to numbers, got \[1\]", id="list"
        ),
        pytest.param({"split": {}}, ValueError, "'split' must name at least one stratum, got an empty", id="empty"),
        pytest.param(
            {"split": {"x": -1}},
            ValueError,
            r"'split' must be between 0 and 2 \(= keep\), got -1 for 'x'",
            id="negative",
        ),
        pytest.param(
            {"split": {"x": 3}}, ValueError, r"'split' must be between 0 and 2 \(= keep\), got 3 for 'x'", id="many"
        ),
        pytest.param(
            {"split": {"x": 1.5}},
            ValueError,
            "'split' must be between 0 and 1, as a share, got 1.5 for 'x'",
            id="share",
        ),
        pytest.param(
            {"split": {"x": math.nan}}, ValueError, "'split' must be between 0 and 1, as a share, got nan", id="nan"
        ),
        pytest.param(
            {"split": {"x": 2, "y": 1}}, ValueError, r"'split' must add up to at most 2 \(= keep\), got 3", id="sum"
        ),
        pytest.param(
            {"split": {"x": 0.6, "y": 0.5}}, ValueError, "'split' must add up to at most 1, got 1.1", id="shares"
        ),
        pytest.param({"split": {"x": 1, "y": 0.5}}, TypeError, r"'split' must map strata .* got 1 for 'x'", id="mixed"),
        pytest.param({"split": {"x": True}}, TypeError, r"'split' must map strata .* got True for 'x'", id="bool"),
        pytest.param({"split": {"x": "1"}}, TypeError, r"'split' must map strata .* got '1' for 'x'", id="text"),
        pytest.param(
            {"split": {0: 1}},
            TypeError,
            "'split' must have keys of the type of 'strata', str, got .* type int",
            id="key",
        ),
        pytest.param({"per": "prompt"}, ValueError, "'per' must be one of 'group', 'batch', got 'prompt'", id="per"),
        pytest.param(
            {"short": "pad"}, ValueError, "'short' must be one of 'keep', 'drop', 'raise', got 'pad'", id="short"
        ),
        pytest.param(
            {"short": "raise"},
            ValueError,
            "'keep' must be at most the rollouts .* got 2, but group 'b' has 1",
            id="few",
        ),
        pytest.param({"ties": [1.0]}, ValueError, r"'ties' must have length 3 \(= len\(groups\)\), got 1", id="ties"),
        pytest.param(
            {"ties": [1.0, math.nan, 0]}, ValueError, "'ties' must be finite where rows are valid", id="ties nan"
        ),
        pytest.param({"uid": [1, 1, 2]}, ValueError, "'uid' must name each row once, got 1 twice", id="uid"),
        pytest.param({"seed": -1}, ValueError, "'seed' must be at least 0, got -1", id="seed"),
        pytest.param({"valid": [1]}, ValueError, r"'valid' must have length 3 \(= len\(groups\)\), got 1", id="valid"),
    ],
)
def test_messages(options, error, message):
    with pytest.raises(error, match=rf"^quota\(\): {message}"):
        quota(["a", "a", "b"], ["x", "y", "x"], **{"keep": 2, **options})


def test_messages_of_strata():
    with pytest.raises(ValueError, match=r"^quota\(\): 'strata' must have length 2 \(= len\(groups\)\), got 1"):
        quota([0, 0], ["x"], keep=1)
    with pytest.raises(TypeError, match=r"^quota\(\): 'strata' must be 1-D ids"):
        quota([0, 0], np.array([0.5, 1.0]), keep=1)
    with pytest.raises(TypeError, match=r"^quota\(\): 'strata' must be strings, ints, UUIDs or tuples, got float"):
        quota([0, 0], [0.5, 1.0], keep=1)
