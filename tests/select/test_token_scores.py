"""Tokens by entropy, |A| H and low probability: vectors, definitions, and what the losses and TRL choose."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_forms import FORMS, SHARES, Form, agrees, hidden

import rollmath as rm

torch = pytest.importorskip("torch")

select = rm.select
ENTROPY = st.sampled_from([0.0, 0.1, 0.5, 2.0]) | st.floats(0.0, 12.0, width=32)
ADVANTAGE = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.3]) | st.floats(-3.0, 3.0, width=32)
TOKENS = st.lists(
    st.tuples(ADVANTAGE, st.lists(st.tuples(ENTROPY, ADVANTAGE, st.booleans() | st.just(True)), max_size=6)),
    min_size=1,
    max_size=5,
)
COMMON = {
    "form": st.sampled_from(FORMS),
    "batch": TOKENS,
    "share": SHARES,
    "scope": st.sampled_from(["all", "row"]),
    "ties": st.sampled_from(["all", "exact"]),
    "dtype": st.sampled_from([np.float32, np.float64]),
}


class Batch:
    """Entropies, and advantages one a token or one a row."""

    def __init__(self, form, batch, dtype, per_row=False):
        rows = [[(h, a, ok) for h, one, ok in row for a in [whole if per_row else one]] for whole, row in batch]
        self.trained = [[ok for _, _, ok in row] for row in rows]
        self.form = Form(form, self.trained, dtype)
        self.h = [[float(dtype(h)) for h, _, _ in row] for row in rows]
        self.a = [[float(dtype(a)) for _, a, _ in row] for row in rows]
        self.hidden = hidden(self.h, self.trained)
        self.x = self.form.column(self.h)
        self.advantages = self.form.column(self.a)
        if per_row:
            values = np.array([whole for whole, _ in batch], dtype)
            self.advantages = torch.from_numpy(values) if self.form.torch else values


def test_the_vector(vectors):
    v = vectors("flat")["d3s_token"]
    chosen = select.d3s_tokens(v["A"], v["H"], share=v["K"], scope="all")
    assert chosen.mask.tolist() == [bool(x) for x in v["keep"]]
    assert float(chosen.threshold) == sorted(v["key"])[3]
    kept = select.d3s_tokens(np.array([v["A"]]), np.array([v["H"]]), share=v["K"], scope="row")
    assert kept.mask.tolist() == [[bool(x) for x in v["keep"]]]


@given(**COMMON)
def test_high_entropy_tokens_is_the_definition(oracle, form, batch, share, scope, ties, dtype):
    b = Batch(form, batch, dtype)
    options = {"share": share, "scope": scope, "ties": ties, "seed": 2}
    expected = oracle("select/token_scores.py", "high_entropy_tokens")(b.hidden, **options)
    with b.form.on_device():
        agrees(b.form, select.high_entropy_tokens(b.x, **options, **b.form.options), expected, scope)


@given(per_row=st.booleans(), **COMMON)
def test_d3s_tokens_is_the_definition(oracle, form, batch, share, scope, ties, dtype, per_row):
    b = Batch(form, batch, dtype, per_row)
    options = {"share": share, "scope": scope, "ties": ties, "seed": 2}
    expected = oracle("select/token_scores.py", "d3s_tokens")(b.a, b.hidden, dtype=dtype, **options)
    with b.form.on_device():
        agrees(b.form, select.d3s_tokens(b.advantages, b.x, **options, **b.form.options), expected, scope)


@given(per_row=st.booleans(), of=st.sampled_from(["negative", "all", None]), **COMMON)
def test_low_probability_tokens_is_the_definition(oracle, form, batch, share, scope, ties, dtype, per_row, of):
    b = Batch(form, batch, dtype, per_row)
    options = {"share": share, "scope": scope, "ties": ties, "seed": 2} | ({"of": of} if of else {})
    expected = oracle("select/token_scores.py", "low_probability_tokens")(
        b.hidden, advantages=b.a if of else None, **options
    )
    with b.form.on_device():
        advantages = b.advantages if of else None
        found = select.low_probability_tokens(b.x, advantages=advantages, **options, **b.form.options)
        agrees(b.form, found, expected, scope)


def test_a_constant_factor_changes_nothing():
    rng = np.random.default_rng(0)
    a, h = rng.normal(size=(8, 30)).astype(np.float32), rng.exponential(size=(8, 30)).astype(np.float32)
    chosen = select.d3s_tokens(a, h, share=0.2, scope="all")
    assert chosen.mask.tolist() == select.d3s_tokens(-4 * a, h, share=0.2, scope="all").mask.tolist()
    assert chosen.mask.tolist() == select.top_tokens(np.abs(a) * h, share=0.2).mask.tolist()
    # Products are rounded once, as those of torch are.
    assert chosen.mask.tolist() == select.top_tokens(torch.tensor(a).abs() * torch.tensor(h), share=0.2).mask.tolist()
    search = select.TokenSearch(share=0.2)
    while not search.done:
        search = search.narrow(sum(search.count(np.abs(a[i]) * h[i]) for i in range(8)))
    assert search.mask(np.abs(a) * h).tolist() == chosen.mask.tolist()


def test_types_of_two_arrays():
    a, h = np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]], np.float32)
    assert select.d3s_tokens(a, h, share=0.5, scope="all").threshold.dtype == np.float64
    assert select.d3s_tokens(a.astype("f4"), h, share=0.5, scope="all").threshold.dtype == np.float32
    assert select.d3s_tokens(np.float32([2.0]), h, share=0.5, scope="all").threshold.dtype == np.float32
    assert select.d3s_tokens([2.0], h, share=0.5, scope="all").threshold.dtype == np.float64
    mixed = select.d3s_tokens(torch.tensor([2.0]), h, share=0.5, scope="all")
    assert (type(mixed.mask), mixed.threshold.dtype) == (np.ndarray, np.float32)


def test_the_threshold_is_not_a_quantile():
    from rollmath.loss import entropy_mask, entropy_threshold

    entropy = torch.arange(10.0)
    limit = entropy_threshold([entropy], quantile=0.75)
    assert int(entropy_mask(entropy, limit).sum()) == 3
    assert int(select.high_entropy_tokens(entropy, share=0.25).kept) == 2
    # Where the rank is whole, both keep the same.
    assert entropy_mask(torch.arange(11.0), entropy_threshold([torch.arange(11.0)], quantile=0.8)).sum() == 3
    assert int(select.high_entropy_tokens(torch.arange(11.0), share=3 / 11).kept) == 3


def test_lp_reg_chooses_the_same():
    from rollmath.loss import LpReg

    rng = np.random.default_rng(1)
    rows = rm.Rows(["a", "b", "c"], [40, 30, 50])
    logp, a = torch.from_numpy(-rng.exponential(size=120)).float(), [1.0, -1.0, -0.5]
    for of in ("negative", "all"):
        lp_reg = LpReg(share=0.1, of=of)
        prepared = lp_reg.with_parts([lp_reg.prepare(rm.LogProbs(logp), a, rows)])
        theirs = prepared.selection.among("test", rows)
        scores = rm.Ragged(logp, rows.offsets)
        ours = select.low_probability_tokens(scores, share=0.1, advantages=a, of=of)
        flat = np.zeros(120, bool)
        flat[rows.offsets[theirs[0]] + theirs[1]] = True
        assert ours.mask.values.numpy().tolist() == flat.tolist()
        assert int(ours.kept) == flat.sum() > 0


def test_messages():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(
        ValueError,
        match=r"^d3s_tokens\(\): 'entropy' must not be NaN at trained tokens, got NaN at row 1",
    ):
        select.d3s_tokens(x, np.array([[1, 1, 1], [math.nan, 1, 1]], np.float32), share=0.5, scope="all")
    with pytest.raises(
        ValueError,
        match=r"'advantages' must not be NaN at trained tokens, got NaN at row 0, position 2",
    ):
        select.d3s_tokens(np.array([[1, 1, math.nan], [1, 1, 1]]), x, share=0.5, scope="all")
    with pytest.raises(
        ValueError,
        match=r"'advantages' must not be NaN at trained tokens, got NaN at row 1, position 0",
    ):
        select.d3s_tokens([1.0, math.nan], x, share=0.5, scope="row")
    with pytest.raises(
        ValueError,
        match=r"'entropy' times 'advantages' is 0 times infinity, which is NaN, at row 0, position 0",
    ):
        select.d3s_tokens([0.0, 1.0], np.full((2, 3), math.inf), share=0.5, scope="all")
    with pytest.raises(
        ValueError,
        match=r"'advantages' must have length 2 \(= the number of rows; of one a rollout take adv",
    ):
        select.d3s_tokens([0.0, 1.0, 2.0], x, share=0.5, scope="all")
    with pytest.raises(
        ValueError,
        match=r"'advantages' must have shape \(2, 3\) \(= that of 'entropy'\), got \(2, 2\)",
    ):
        select.d3s_tokens(np.ones((2, 2)), x, share=0.5, scope="all")
    with pytest.raises(ValueError, match=r"'advantages' must have length 3 \(= that of 'entropy'\), got 2"):
        select.d3s_tokens([1.0, 2.0], [1.0, 2.0, 3.0], share=0.5, scope="all")
    with pytest.raises(TypeError, match=r"'advantages' must hold floats, ints or bools, got <U1"):
        select.d3s_tokens(["a", "b"], x, share=0.5, scope="all")
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'scope'"):
        select.d3s_tokens(x, x, share=0.5)
    with pytest.raises(ValueError, match=r"^high_entropy_tokens\(\): 'share' must be between 0 and 1, got 20"):
        select.high_entropy_tokens(x, share=20)
    with pytest.raises(
        ValueError,
        match=r"^low_probability_tokens\(\): 'of' must be one of 'negative', 'all', got 'pos'",
    ):
        select.low_probability_tokens(x, share=0.5, of="pos")
    with pytest.raises(ValueError, match=r"^low_probability_tokens\(\): give either 'share' or 'count'"):
        select.low_probability_tokens(x)
    with pytest.raises(ValueError, match=r"^low_probability_tokens\(\): 'logprobs' must not be NaN at trained tokens"):
        select.low_probability_tokens(x * math.nan, share=0.5)
    # Gaps may hold anything.
    hidden = select.d3s_tokens([1.0, math.nan], x, share=1.0, scope="all", mask=[[1, 1, 1], [0, 0, 0]])
    assert int(hidden.kept) == 3
