"""Tokens at random: by the definition, evenly, and the same whatever else is in the batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_forms import ROWS, WANTS

import rollmath as rm

torch = pytest.importorskip("torch")

random_tokens = rm.select.random_tokens


@given(ROWS, WANTS, st.integers(0, 5), st.sampled_from(["all", "row"]), st.sampled_from(["rows", "lengths", "ids"]))
def test_it_is_the_definition(oracle, rows, want, seed, scope, how):
    trained = [[ok for _, ok in row] for row in rows]
    lengths, flat = [len(row) for row in rows], np.array([ok for row in trained for ok in row], bool)
    ids = [i // 2 for i in range(len(rows))]
    uids = {"rows": [(i // 2, i % 2) for i in range(len(rows))], "lengths": None, "ids": [f"x{i}" for i in ids]}[how]
    if how == "ids":
        uids = [f"x{i}" for i in range(len(rows))]
    options = {"seed": seed, "scope": scope, **want}
    mask, threshold, kept, total = oracle("select/token_random.py", "random_tokens")(trained, uids=uids, **options)
    if how == "rows":
        found = random_tokens(rm.Rows(ids, lengths, mask=flat), **options)
    else:
        found = random_tokens(lengths, mask=flat, uid=uids, **options)
    assert found.mask.to_lists() == mask
    for got, expected in zip(found[1:], (threshold, kept, total), strict=True):
        assert got.shape == (() if scope == "all" else (len(rows),))
        assert got.reshape(-1).tolist() == expected


def test_a_row_draws_the_same_in_any_batch():
    rows = rm.Rows([f"r{i}" for i in range(6)], [5, 9, 0, 7, 3, 8])
    whole = random_tokens(rows, share=0.5, seed=4, scope="row").mask
    part = random_tokens(rows.take([3, 1]), share=0.5, seed=4, scope="row").mask
    assert part.to_lists() == [whole[3].tolist(), whole[1].tolist()]
    every = random_tokens(rows, share=0.5, seed=4).mask
    turned = random_tokens(rows.take([5, 4, 3, 2, 1, 0]), share=0.5, seed=4).mask
    assert turned.to_lists() == every.to_lists()[::-1]


def test_a_search_of_equal_scores_draws_the_same():
    rows = rm.Rows([f"r{i}" for i in range(6)], [5, 9, 0, 7, 3, 8])
    whole = random_tokens(rows, share=0.4, seed=4)
    search = rm.select.TokenSearch(share=0.4, ties="exact", seed=4)
    parts = [rows.take([0, 1]), rows.take([2, 3, 4, 5])]
    zeros = [rm.Ragged(np.zeros(part.offsets[-1], np.float32), part.offsets) for part in parts]
    while not search.done:
        search = search.narrow(sum(search.count(x, uid=part) for x, part in zip(zeros, parts, strict=True)))
    masks = [search.mask(x, uid=part).to_lists() for x, part in zip(zeros, parts, strict=True)]
    assert [row for mask in masks for row in mask] == whole.mask.to_lists()


def test_draws_are_even():
    lengths = np.full(50, 40)
    drawn = np.stack([random_tokens(lengths, share=0.2, seed=s).mask.values for s in range(200)])
    assert (drawn.sum(1) == 400).all()
    # 2000 tokens, each drawn in 200 of 1000 expected hits: chi-square of 1999 degrees of freedom.
    hits = drawn.sum(0)
    chi = float(((hits - 40) ** 2 / (40 * 0.8)).sum())
    assert abs(chi - 1999) < 5 * np.sqrt(2 * 1999)
    by_position = drawn.reshape(200, 50, 40).sum((0, 1))
    assert (abs(by_position - 2000) < 5 * np.sqrt(2000 * 0.8)).all()
    assert abs(float(random_tokens([100_000], share=0.2, seed=1).threshold) - 0.2) < 0.01


def test_kinds_and_edges():
    found = random_tokens(torch.tensor([3, 2]), count=2, seed=0)
    assert isinstance(found.mask.values, torch.Tensor)
    assert found.mask.values.dtype == torch.bool
    assert found.kept.equal(torch.tensor(2))
    masked = random_tokens([2, 2], count=9, seed=0, mask=rm.Ragged([1, 0, 0, 1], [0, 2, 4]))
    assert masked.mask.to_lists() == [[True, False], [False, True]]
    none = random_tokens([3], share=0.1, seed=0)
    assert (none.mask.values.sum(), float(none.threshold), int(none.total)) == (0, 0.0, 3)
    assert int(random_tokens([], share=0.5, seed=0).total) == 0


def test_messages():
    rows = rm.Rows(["a"], [3])
    for name in ("mask", "uid"):
        with pytest.raises(ValueError, match=rf"random_tokens\(\): '{name}' goes with lengths; Rows have their own"):
            random_tokens(rows, count=1, seed=0, **{name: [1]})
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'seed'"):
        random_tokens(rows, count=1)
    with pytest.raises(TypeError, match=r"'seed' must be a whole number, got an object of type NoneType"):
        random_tokens(rows, count=1, seed=None)
    with pytest.raises(ValueError, match=r"'scope' must be one of 'all', 'row', got 'group'"):
        random_tokens(rows, count=1, seed=0, scope="group")
    with pytest.raises(ValueError, match=r"random_tokens\(\): give either 'share' or 'count'"):
        random_tokens(rows, seed=0)
    with pytest.raises(TypeError, match=r"random_tokens\(\): 'rows' must hold integers, got float64"):
        random_tokens([1.5], count=1, seed=0)
    with pytest.raises(ValueError, match=r"'lengths'.*negative"):
        random_tokens([-1], count=1, seed=0)
    with pytest.raises(ValueError, match=r"'mask' must have shape \(3,\)"):
        random_tokens([3], count=1, seed=0, mask=[1, 1])
    with pytest.raises(ValueError, match=r"'uid' must name each row once, got 'a' twice"):
        random_tokens([3, 2], count=1, seed=0, uid=["a", "a"])
