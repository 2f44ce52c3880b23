"""Multiples for data-parallel ranks: by hand, against every choice there is, laws, kinds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm

round_to_multiple = rm.select.round_to_multiple

DROPS = st.sampled_from(["last", "random", "largest_group"])
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.0, 1.0])),
    max_size=9,
)


def unzip(rows):
    ids, size, valid, chosen, ties = (list(x) for x in zip(*rows, strict=True)) if rows else [[] for _ in range(5)]
    return ids, size, np.array(valid, int) > 0, np.array(chosen, int) > 0, np.array(ties, float)


def agrees(chosen, expected):
    kept, why = expected
    report = chosen.report
    assert chosen.indices.tolist() == kept
    assert {i: report.reasons[code - 1] for i, code in enumerate(report.codes.tolist()) if code} == why


@given(ROWS, st.integers(1, 6), DROPS, st.sampled_from([0, 3]), *[st.booleans()] * 4, st.sampled_from([None, 2, 3, 9]))
def test_the_definition(oracle, rows, multiple, drop, seed, masked, chosen, tied, named, largest):
    ids, size, valid, mask, ties = unzip(rows)
    options = {
        "drop": drop,
        "seed": seed,
        "valid": valid if masked else None,
        "selection": mask if chosen else None,
        "ties": ties if tied else None,
        "uid": [f"u{(5 * i) % 11:02d}" for i in range(len(ids))] if named else None,
        # All of one size too.
        "samples": largest and [3 if largest == 3 else min(s, largest) for s in size],
    }
    found = round_to_multiple(ids, multiple, short="drop", **options)
    agrees(found, oracle("select/round_to_multiple.py", "round_to_multiple")(ids, multiple, **options))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 99)), max_size=60), st.integers(1, 70), DROPS)
def test_what_is_kept_is_a_multiple_and_the_rest_is_named(rows, multiple, drop):
    ids, size = [g for g, _ in rows], np.array([s for _, s in rows], int)
    for samples in (None, size):
        chosen = round_to_multiple(ids, multiple, samples=samples, drop=drop, seed=1, short="drop")
        each = np.ones(len(ids), int) if samples is None else size
        assert each[chosen.indices].sum() % multiple == 0
        assert chosen.report.dropped_rollouts == sum(one.rollouts for one in chosen.report.dropped)
        assert set(chosen.report.lost) == set(ids) - {ids[i] for i in chosen.indices}
        if samples is None:
            assert len(chosen.indices) == len(ids) // multiple * multiple
            # Groups are lost only where the others have nothing left to spare.
            if len(ids) % multiple <= len(ids) - len(set(ids)):
                assert not chosen.report.lost
            else:
                assert (chosen.report.kept <= 1).all()


@given(ROWS, st.integers(1, 6), DROPS, st.booleans(), st.randoms(use_true_random=False))
def test_with_uids_the_order_of_rows_does_not_matter(rows, multiple, drop, weighted, random):
    ids, size, valid, _, ties = unzip(rows)
    uid = np.arange(len(ids)) * 7 - 9

    def kept(at):
        chosen = round_to_multiple(
            [ids[i] for i in at],
            multiple,
            samples=[size[i] for i in at] if weighted else None,
            drop=drop,
            short="drop",
            ties=ties[at],
            uid=uid[at],
            seed=4,
            valid=valid[at],
        )
        return set(uid[at][chosen.indices].tolist())

    order = np.array(random.sample(range(len(ids)), len(ids)), np.int64)
    assert kept(order) == kept(np.arange(len(ids)))


def test_the_vector_of_iter_research(vectors):
    keep = vectors("flat")["iter_eapo"]["keep"]
    for drop in ("last", "random", "largest_group"):
        chosen = round_to_multiple(np.arange(29) % 4, 8, drop=drop, seed=0)
        assert [len(chosen.indices)] == keep
        assert chosen.report.statistics == "before"


def test_by_hand():
    ids = list("aaaaabbc")
    assert round_to_multiple(ids, 6).indices.tolist() == [0, 1, 2, 3, 5, 7]
    assert round_to_multiple(ids, 6, ties=[9, 1, 1, 1, 1, 1, 1, 1]).indices.tolist() == [1, 2, 3, 4, 5, 7]
    assert round_to_multiple(ids, 5, drop="largest_group").indices.tolist() == [0, 1, 5, 6, 7]
    # Seven must go, and every group has one at least until the others are used up: the lone one stays longest.
    assert round_to_multiple(list("aaabc"), 2).indices.tolist() == [0, 1, 3, 4]
    assert round_to_multiple(list("abc"), 2).indices.tolist() == [0, 1]
    assert round_to_multiple(list("aabc"), 3, drop="last").indices.tolist() == [0, 2, 3]
    assert round_to_multiple(list("aab"), 1).indices.tolist() == [0, 1, 2]
    # 13 samples: five of them go, as one rollout of 5 and not as 3 and 2.
    assert round_to_multiple([0] * 5, 8, samples=[1, 3, 2, 5, 2]).indices.tolist() == [0, 1, 2, 4]
    # What takes no part may be anything.
    assert round_to_multiple([0] * 4, 2, samples=[1, 0, 1, 0.5], valid=[1, 0, 1, 0]).indices.tolist() == [0, 2]
    # Rollouts of 3: the next multiple of 4 that whole rollouts make is 12.
    assert round_to_multiple([0] * 7, 4, samples=[3] * 7).indices.tolist() == [0, 1, 2, 3]


def test_too_few():
    assert round_to_multiple(list("aab"), 4, short="drop").report.dropped == (
        ("fewer than 4 samples", 2, 3, ("a", "b"), (2, 1)),
    )
    odd = round_to_multiple([0, 0, 0], 8, samples=[4, 5, 6], short="drop").report
    assert [one.reason for one in odd.dropped] == ["no multiple of 8 in whole rollouts"]
    assert round_to_multiple([], 4, short="drop").indices.tolist() == []
    assert round_to_multiple([0, 0, 0], 10**15, short="drop").indices.tolist() == []
    with pytest.raises(ValueError, match=r"got 4, but there are 3 samples in 3 rollouts; short='drop' drops them all"):
        round_to_multiple(list("aab"), 4)
    with pytest.raises(ValueError, match=r"got 8, but there are 15 samples in 3 rollouts"):
        round_to_multiple([0, 0, 0], 8, samples=[4, 5, 6])
    with pytest.raises(ValueError, match=r"got 4, but there are 0 samples in 0 rollouts"):
        round_to_multiple([], 4)


def test_after_a_selection():
    r, ids = [1.0, 0, 1, 1, 0, 1, 0, 0, 1], list("aabbcccdd")
    first = rm.select.nonzero_spread(r, ids)
    chosen = round_to_multiple(ids, 4, selection=first)
    assert chosen.indices.tolist() == [0, 1, 4, 7]
    assert str(chosen.report) == (
        "round_to_multiple kept 4 of 9 rollouts in 3 of 4 groups\n"
        "  no spread               1 group,  2 rollouts: 'b' (2)\n"
        "  over the multiple of 4  2 groups, 3 rollouts: 'c' (2), 'd' (1)\n"
        "  nothing is left of 1 group: 'b'"
    )
    # A reason of both is one.
    again = round_to_multiple(ids, 4, selection=chosen, valid=[0, 1, 1, 1, 1, 1, 1, 1, 1], short="drop").report
    same = round_to_multiple(ids, 2, selection=round_to_multiple(ids, 2), valid=[0, *[1] * 8]).report
    for report in (again, same):
        assert len(set(report.reasons)) == len(report.reasons)
        assert sum(one.rollouts for one in report.dropped) == report.dropped_rollouts
    assert [one.rollouts for one in same.dropped] == [1, 2]
    masked = round_to_multiple(ids, 4, selection=first.mask)
    assert masked.indices.tolist() == chosen.indices.tolist()
    assert masked.report.statistics is None
    assert masked.report.dropped[0].reason == "not selected"
    # The statistics that the selection asks for, and its unit.
    report = rm.select.SelectionReport(
        "x", [], np.zeros(2, np.int8), rm.Groups(list("ab")), statistics="after", unit="prompt"
    )
    said = rm.select.Selection(np.arange(2), np.ones(2, bool), report)
    report = round_to_multiple(list("ab"), 1, selection=said).report
    assert (report.statistics, report.unit) == ("after", "prompt")


def test_large_batches_and_many_sizes():
    rng = np.random.default_rng(0)
    ids, size = rng.integers(0, 2000, 50_000), rng.integers(1, 40, 50_000)
    for multiple in (8, 1000, 4096):
        chosen = round_to_multiple(ids, multiple, samples=size)
        assert size[chosen.indices].sum() == size.sum() // multiple * multiple
        assert not chosen.report.lost
    # Prices past int64: Python's own integers. The first is a whole multiple of itself.
    huge = np.array([2**40, 2**40 + 1, 2**40 + 3, 2**40 + 6])
    assert round_to_multiple([0] * 4, 2**13, samples=huge).indices.tolist() == [0]
    assert round_to_multiple([0] * 4, 2, samples=huge).indices.tolist() == [0, 1, 2, 3]


def test_kinds():
    torch = pytest.importorskip("torch")
    for call in (
        lambda: round_to_multiple(torch.tensor([0, 0, 1]), 2),
        lambda: round_to_multiple([0, 0, 1], 2, samples=torch.tensor([1, 1, 1])),
        lambda: round_to_multiple([0, 0, 1], 2, selection=torch.tensor([True, True, True])),
        lambda: round_to_multiple([0, 0, 1], 2, selection=rm.select.mean_band(torch.ones(3), [0, 0, 1], low=0, high=2)),
    ):
        assert call().indices.equal(torch.tensor([0, 2]))
        assert call().mask.equal(torch.tensor([True, False, True]))
    assert isinstance(round_to_multiple([0, 0, 1], 2).indices, np.ndarray)


@pytest.mark.parametrize(
    ("multiple", "options", "error", "message"),
    [
        pytest.param(0, {}, ValueError, "'multiple' must be at least 1, got 0", id="zero"),
        pytest.param(2.0, {}, TypeError, "'multiple' must be a whole number", id="float"),
        pytest.param(2, {"samples": [1, 1, 1e16]}, ValueError, r"'samples' must add up to less than 2\*\*53", id="sum"),
        pytest.param(
            65_537,
            {"samples": [1, 2, 3]},
            ValueError,
            "'multiple' must be at most 65536 with 'samples', got 65537",
            id="most",
        ),
        pytest.param(
            2, {"drop": "first"}, ValueError, "'drop' must be one of 'last', 'random', 'largest_group'", id="drop"
        ),
        pytest.param(
            2, {"drop": "random"}, ValueError, "'seed' must be a whole number for drop='random', got None", id="seed"
        ),
        pytest.param(
            2, {"short": "keep"}, ValueError, "'short' must be one of 'raise', 'drop', got 'keep'", id="short"
        ),
        pytest.param(
            2, {"samples": [1, 0, 1]}, ValueError, "'samples' must be whole numbers of at least 1, got 0", id="size"
        ),
        pytest.param(2, {"samples": [1, 1.5, 1]}, ValueError, "'samples' must be whole numbers .* got 1.5", id="sizes"),
        pytest.param(
            2, {"samples": [1]}, ValueError, r"'samples' must have length 3 \(= len\(groups\)\), got 1", id="samples"
        ),
        pytest.param(
            2, {"selection": [1]}, ValueError, r"'selection' must have length 3 \(= len\(groups\)\), got 1", id="mask"
        ),
        pytest.param(2, {"selection": [0.5] * 3}, TypeError, "'selection' must be bool or integer", id="mask float"),
        pytest.param(2, {"uid": [1, 2, 2]}, ValueError, "'uid' must name each row once, got 2 twice", id="uid"),
        pytest.param(2, {"seed": -1}, ValueError, "'seed' must be at least 0, got -1", id="negative seed"),
        pytest.param(2, {"ties": [1]}, ValueError, r"'ties' must have length 3 \(= len\(groups\)\), got 1", id="ties"),
        pytest.param(
            2, {"valid": [1]}, ValueError, r"'valid' must have length 3 \(= len\(groups\)\), got 1", id="valid"
        ),
        pytest.param(
            2,
            {"selection": rm.select.mean_band([1.0], [0], low=0, high=2)},
            ValueError,
            r"'selection' must be of 3 rollouts \(= len\(groups\)\), got 1",
            id="selection",
        ),
    ],
)
def test_messages(multiple, options, error, message):
    with pytest.raises(error, match=rf"^round_to_multiple\(\): {message}"):
        round_to_multiple(list("aab"), multiple, **options)
