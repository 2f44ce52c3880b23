"""What all subsets of rollouts obey: order of rows, shards, threads, kinds, reasons, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import select

#: Every function, of values and groups; random() takes no values.
CALLS = {
    "max_variance": select.max_variance,
    "top": select.top,
    "bottom": select.bottom,
    "nearest": lambda x, g, **k: select.nearest(x, g, target=0.4, **k),
    "balanced": lambda x, g, **k: select.balanced(x, g, order="extreme", **k),
    "random": lambda x, g, nan="raise", ties=None, **k: select.random(g, **{"seed": 1, **k}),
}
every = pytest.mark.parametrize("name", CALLS)
ranked = pytest.mark.parametrize("name", [name for name in CALLS if name != "random"])
ROWS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 0.5, 0.25]), st.integers(0, 3), st.integers(0, 4)), max_size=30)


@every
def test_neither_the_order_of_rows_nor_shards_matter(name):
    @given(ROWS, st.integers(1, 5), st.sampled_from([None, 3]), st.booleans(), st.randoms(use_true_random=False))
    def check(rows, keep, seed, tied, random):
        x, ids, flag = (
            (np.array(c) for c in zip(*rows, strict=True)) if rows else (np.zeros(0), *[np.zeros(0, int)] * 2)
        )
        n = len(x)
        uid = np.arange(n) * 3 - 20
        options = {"keep": keep, **({} if seed is None else {"seed": seed})}
        columns = {"valid": flag > 0, **({"ties": -x} if tied else {})}

        def kept(part, **more):
            given = {key: column[part] for key, column in columns.items()}
            return uid[part][CALLS[name](x[part], ids[part], uid=uid[part], **given, **options, **more).indices]

        order = np.array(random.sample(range(n), n), np.int64)
        whole = set(kept(np.arange(n)).tolist())
        assert set(kept(order).tolist()) == whole
        # Shards that keep groups whole.
        shards = [kept(order[ids[order] % 2 == rank]).tolist() for rank in (0, 1)]
        assert sorted([*shards[0], *shards[1]]) == sorted(whole)
        assert set(kept(order, per="batch").tolist()) == set(kept(np.arange(n), per="batch").tolist())

    check()


@every
def test_nothing_is_dropped_without_a_reason(name):
    @given(ROWS, st.integers(1, 5), st.sampled_from(["keep", "drop"]), st.sampled_from(["group", "batch"]))
    def check(rows, keep, short, per):
        x, ids, flag = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [])
        valid = np.array(flag, int) > 0
        chosen = CALLS[name](x, ids, keep=keep, short=short, per=per, valid=valid)
        report = chosen.report
        assert (report.codes == 0).tolist() == chosen.mask.tolist()
        assert np.flatnonzero(chosen.mask).tolist() == chosen.indices.tolist()
        assert sum(one.rollouts for one in report.dropped) == len(x) - len(chosen.indices)
        assert set(report.lost) == set(ids) - {ids[i] for i in chosen.indices}
        assert not chosen.mask[~valid].any()
        n = [int(valid[np.array(ids) == g].sum()) if per == "group" else int(valid.sum()) for g in dict.fromkeys(ids)]
        if per == "group":
            expected = [min(k, keep) if k >= keep or short == "keep" else 0 for k in n]
            assert report.kept.tolist() == expected
        elif n:
            assert len(chosen.indices) == (min(n[0], keep) if n[0] >= keep or short == "keep" else 0)
        assert all(str(key) in str(report) for key in list(report.lost)[:1])

    check()


@every
@pytest.mark.parametrize("per", ["group", "batch"])
def test_threads_change_nothing(name, per):
    n, before = 120_000, rm.num_threads()
    rng = np.random.default_rng(0)
    x = np.where(rng.random(n) < 0.5, np.round(rng.random(n), 1), rng.normal(size=n))
    ids, valid, uid = rng.integers(0, n // 8, n), rng.random(n) < 0.9, rng.permutation(n)
    groups, turn = rm.Groups(ids), rng.permutation(n)
    keep = 3 if per == "group" else n // 3
    try:
        masks = []
        for threads in (1, 2, 3):
            rm.set_num_threads(threads)
            masks.append(CALLS[name](x, groups, keep=keep, per=per, valid=valid, uid=uid).mask)
        turned = CALLS[name](x[turn], ids[turn], keep=keep, per=per, valid=valid[turn], uid=uid[turn]).mask
    finally:
        rm.set_num_threads(before)
    assert all((mask == masks[0]).all() for mask in masks)
    assert (turned == masks[0][turn]).all()


@every
def test_kinds(name):
    x, ids = [0.0, 1.0, 0.5, 0.25, 1.0, 0.0], [3, 3, 3, 3, 8, 8]
    expected = CALLS[name](np.array(x), ids, keep=2)
    assert expected.indices.dtype == np.int64
    assert expected.mask.dtype == bool
    groups = rm.Groups(ids)
    for values in (x, np.array(x, np.float32), np.array(x, np.float16), np.array(x)[::-1][::-1]):
        chosen = CALLS[name](values, groups, keep=2)
        assert isinstance(chosen.mask, np.ndarray)
        assert chosen.indices.tolist() == expected.indices.tolist()
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        chosen = CALLS[name](torch.tensor(x, dtype=dtype), torch.tensor(ids), keep=2)
        assert chosen.indices.equal(torch.tensor(expected.indices.tolist()))
        assert chosen.mask.dtype == torch.bool
        assert chosen.mask.tolist() == expected.mask.tolist()
    assert CALLS[name](x, groups, keep=10**30, short="keep").mask.all()
    assert not CALLS[name](x, groups, keep=10**30, short="drop", per="batch").mask.any()
    empty = CALLS[name]([], [], keep=1)
    assert (empty.indices.tolist(), empty.mask.shape) == ([], (0,))
    assert CALLS[name]([], [], keep=1, per="batch", short="drop").indices.tolist() == []


@ranked
def test_values_that_are_missing(name):
    x, ids = [math.nan, 1.0, 0.0, 0.5, math.nan], ["a", "a", "a", "a", "b"]
    chosen = CALLS[name](x, ids, keep=2, nan="omit")
    assert len(chosen.indices) == 2
    what = "reward" if name in {"max_variance", "balanced"} else "value"
    assert chosen.report.dropped[0] == (f"missing {what}", 2, 2, ("a", "b"), (1, 1))
    assert chosen.report.lost == ("b",)
    assert CALLS[name](x, ids, keep=3, valid=[0, 1, 1, 1, 0]).indices.tolist() == [1, 2, 3]


WRONG = [
    pytest.param({"keep": 0}, ValueError, "'keep' must be at least 1, got 0", id="keep"),
    pytest.param({"keep": 2.0}, TypeError, "'keep' must be a whole number, got an object of type float", id="float"),
    pytest.param({"keep": True}, TypeError, "'keep' must be a whole number", id="bool"),
    pytest.param({"per": "prompt"}, ValueError, "'per' must be one of 'group', 'batch', got 'prompt'", id="per"),
    pytest.param({"short": "pad"}, ValueError, "'short' must be one of 'keep', 'drop', 'raise', got 'pad'", id="short"),
    pytest.param(
        {"short": "raise"}, ValueError,
        "'keep' must be at most the rollouts that take part, got 2, but group 'b' has 1", id="few",
    ),
    pytest.param(
        {"short": "raise", "per": "batch", "keep": 4}, ValueError,
        "'keep' must be at most the rollouts that take part, got 4, but the batch has 3", id="few of batch",
    ),
    pytest.param({"uid": [1, 1, 2]}, ValueError, "'uid' must name each row once, got 1 twice", id="uid"),
    pytest.param({"uid": [1]}, ValueError, r"'uid' must have length 3 \(= len\(groups\)\), got 1", id="uid length"),
    pytest.param({"seed": -1}, ValueError, "'seed' must be at least 0, got -1", id="seed"),
    pytest.param({"seed": 0.5}, TypeError, "'seed' must be a whole number", id="seed float"),
    pytest.param({"valid": [1]}, ValueError, r"'valid' must have length 3 \(= len\(groups\)\), got 1", id="valid"),
    pytest.param({"valid": [0.5] * 3}, TypeError, "'valid' must be bool or integer", id="valid float"),
]  # fmt: skip


@every
def test_a_batch_without_rollouts_is_too_short(name):
    message = rf"^{name}\(\): 'keep' must be at most the rollouts that take part, got 2, but the batch has 0"
    with pytest.raises(ValueError, match=message):
        CALLS[name]([], [], keep=2, short="raise", per="batch")
    assert len(CALLS[name]([], [], keep=2, short="raise").mask) == 0


@every
@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_messages(name, options, error, message):
    with pytest.raises(error, match=rf"^{name}\(\): {message}"):
        CALLS[name]([0.0, 1.0, 0.5], ["a", "a", "b"], **{"keep": 2, **options})


@ranked
def test_messages_of_values(name):
    call, argument = CALLS[name], "rewards" if name in {"max_variance", "balanced"} else "values"
    for x, error, message in [
        ([0.0, math.nan], ValueError, f"'{argument}' must be finite where rows are valid, got nan at index 1"),
        ([[0.0, 1.0]], TypeError, f"'{argument}' must be 1-D"),
        (["a", "b"], TypeError, f"'{argument}' must hold floats, ints or bools"),
    ]:
        with pytest.raises(error, match=rf"^{name}\(\): {message}"):
            call(x, [0, 0], keep=1)
    with pytest.raises(ValueError, match=rf"^{name}\(\): '{argument}' must be finite where rows are valid, got inf"):
        call([0.0, math.inf], [0, 0], keep=1, nan="omit")
    with pytest.raises(ValueError, match=rf"^{name}\(\): 'nan' must be one of 'raise', 'omit', got 'zero'"):
        call([0.0, 1.0], [0, 0], keep=1, nan="zero")
    with pytest.raises(ValueError, match=rf"^{name}\(\): 'ties' must be finite where rows are valid, got nan"):
        call([0.0, 1.0], [0, 0], keep=1, ties=[0.0, math.nan])
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=rf"^{name}\(\): '{argument}' requires grad"):
        call(torch.ones(2, requires_grad=True), [0, 0], keep=1)
