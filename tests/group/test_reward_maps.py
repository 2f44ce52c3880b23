"""What holds for every reward map: order, dtypes, rollouts that take no part, tensors, strides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

g = rm.group


class Batch:
    """Columns of a batch of rollouts."""

    def __init__(self, rows, dtype=np.float64):
        columns = list(zip(*rows, strict=True)) if rows else [()] * 8
        self.rewards = (np.array(columns[0], dtype=dtype) * dtype(0.1)).astype(dtype)
        self.ids, self.answers, self.calls, self.lengths, self.budgets = (
            np.array(c, dtype=np.int64) for c in columns[1:6]
        )
        self.flags, self.valid = (np.array(c, dtype=bool) for c in columns[6:8])

    def take(self, rows):
        part = object.__new__(Batch)
        part.__dict__ = {name: value[rows] for name, value in self.__dict__.items()}
        return part


ROWS = st.lists(
    st.tuples(
        st.integers(-3, 12),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 6),
        st.integers(0, 300),
        st.sampled_from([64, 128, 256]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=20,
)
#: name -> (call with the first argument in the form to be tested, name of that column).
MAPS = {
    "otc": (lambda x, b, **o: g.otc_reward(x, b.ids, b.calls, max_calls=4, correct=b.flags, **o), "rewards"),
    "otc ppo": (lambda x, b, **o: g.otc_reward(x, b.ids, b.calls, max_calls=4, form="ppo", **o), "rewards"),
    "kimi": (lambda x, b, **o: g.kimi_length_reward(x, b.ids, b.lengths, **o), "rewards"),
    "hbpo": (lambda x, b, **o: g.hbpo(x, b.ids, b.budgets, max_length=256, **o), "rewards"),
    "hbpo_reward": (lambda x, b: g.hbpo_reward(x, b.lengths, b.budgets, max_length=256, correct=b.flags), "rewards"),
    "tempsamp": (lambda x, b: g.tempsamp_reward(x), "rewards"),
    "anchor": (lambda x, b, **o: g.tempsamp_anchor(x, b.ids, b.flags, **o), "rewards"),
    "vote": (lambda x, b, **o: g.vote_reward(x, b.ids, **o), "answers"),
    "vote normalized": (lambda x, b, **o: g.vote_reward(x, b.ids, normalized=True, **o), "answers"),
    "majority": (lambda x, b, **o: g.majority_reward(x, b.ids, **o), "answers"),
    "overlong": (lambda x, b: g.overlong_penalty(x, max_length=250, buffer=70, truncated=b.flags), "lengths"),
}
WITH_VALID = [name for name in MAPS if name not in {"hbpo_reward", "tempsamp", "overlong"}]


def run(name, batch, **options):
    function, column = MAPS[name]
    return function(getattr(batch, column), batch, **options)


@pytest.mark.parametrize("name", MAPS)
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rollouts_changes_no_bit(same_bits, name, rows, random, dtype):
    batch, order = Batch(rows, dtype), np.arange(len(rows))
    random.shuffle(order)
    options = {"valid": batch.valid} if name in WITH_VALID else {}
    turned = {"valid": batch.valid[order]} if options else {}
    same_bits(run(name, batch.take(order), **turned), run(name, batch, **options)[order])


@pytest.mark.parametrize("name", WITH_VALID)
@given(ROWS)
def test_rollouts_that_are_not_valid_could_as_well_be_absent(same_bits, name, rows):
    batch = Batch(rows)
    there = run(name, batch, valid=batch.valid)
    same_bits(there[batch.valid], run(name, batch.take(batch.valid)))
    assert not there[~batch.valid].any()


@pytest.mark.parametrize("name", [n for n in WITH_VALID if MAPS[n][1] == "rewards"])
def test_what_is_not_valid_may_be_nan(name):
    batch = Batch([(3, 0, 0, 1, 10, 64, False, True), (5, 0, 1, 2, 20, 64, False, False)])
    batch.rewards[1] = np.nan
    assert np.isfinite(run(name, batch, valid=[True, False])).all()


@pytest.mark.parametrize("name", MAPS)
@given(ROWS)
def test_groups_do_not_touch_each_other(same_bits, name, rows):
    batch = Batch(rows)
    part = batch.ids < 2
    same_bits(run(name, batch)[part], run(name, batch.take(part)))


@pytest.mark.parametrize("name", MAPS)
def test_kinds_and_strides(name, same_bits):
    torch = pytest.importorskip("torch")
    rows = [(r, r % 2, r % 3, r % 4, 40 * r, 64, r % 5 == 0, True) for r in range(7)]
    function, column = MAPS[name]
    for dtype in (np.float32, np.float64):
        batch = Batch(rows, dtype)
        x = getattr(batch, column)
        before, expected = x.copy(), run(name, batch)
        floats = x.dtype.kind == "f"
        assert expected.dtype == (dtype if floats else np.float64)
        same_bits(function(np.repeat(x, 2)[::2], batch), expected)
        got = function(torch.from_numpy(x.copy()), batch)
        assert got.dtype == (torch.from_numpy(x).dtype if floats else torch.float32)
        assert_allclose(got.numpy(), expected.astype(got.numpy().dtype), rtol=0, atol=0)
        same_bits(function(x.tolist(), batch), function(x.astype(np.float64) if floats else x, batch))
        same_bits(x, before)
    if floats:
        half = function(torch.tensor([0.5] * 7, dtype=torch.bfloat16), batch)
        assert half.dtype == torch.float32
        with pytest.raises(ValueError, match=f"'{'advantages' if name == 'anchor' else column}' requires grad"):
            function(torch.zeros(7, requires_grad=True), batch)


@pytest.mark.parametrize("name", [n for n in MAPS if MAPS[n][1] == "rewards"])
@given(ROWS)
def test_float32_is_float64_rounded_once(same_bits, name, rows):
    batch = Batch(rows, np.float32)
    function, _ = MAPS[name]
    same_bits(function(batch.rewards, batch), function(batch.rewards.astype(np.float64), batch).astype(np.float32))
