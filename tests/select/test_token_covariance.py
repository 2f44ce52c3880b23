"""Tokens of high covariance: the vector, exact rationals, and what Clip-Cov and KL-Cov choose."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_forms import FORMS, Form, agrees, hidden

import rollmath as rm

torch = pytest.importorskip("torch")

high_covariance_tokens = rm.select.high_covariance_tokens

#: Few bits, so that float64 covariances of up to 16 tokens are far from one another or exactly equal.
LOGPROB = st.integers(-40, 0).map(lambda k: k / 8)
ADVANTAGE = st.integers(-16, 16).map(lambda k: k / 8)
ROW = st.lists(st.tuples(LOGPROB, ADVANTAGE, st.booleans() | st.just(True)), max_size=4)
TOKENS = st.lists(st.tuples(ADVANTAGE, ROW), min_size=1, max_size=4)
WANT = st.one_of(
    st.fixed_dictionaries({"share": st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), "least": st.integers(0, 2)}),
    st.fixed_dictionaries({"count": st.integers(1, 12)}),
)


def rows_of(batch, per_row):
    """Log-probabilities, advantages, trained; as many tokens as a power of two, so that means are exact."""
    flat = [(i, x, whole if per_row else a, ok) for i, (whole, row) in enumerate(batch) for x, a, ok in row]
    seen = sum(ok for *_, ok in flat)
    spare = seen - (1 << seen.bit_length() - 1 if seen else 0)
    rows = [[] for _ in batch]
    for i, x, a, ok in reversed(flat):
        kept = ok and not spare
        spare -= ok and not kept
        rows[i].insert(0, (x, a, kept))
    return [[[token[j] for token in row] for row in rows] for j in range(3)]


def test_the_vector(vectors):
    v = vectors("flat")["cov"]
    top = high_covariance_tokens(v["logp"], v["A"], count=1)
    assert np.flatnonzero(top.mask).tolist() == [v["top1"]]
    assert float(top.threshold) == pytest.approx(v["cov"][3], rel=1e-14)
    band = high_covariance_tokens(v["logp"], v["A"], share=1.0, bounds=(1, 5))
    assert np.flatnonzero(band.mask).tolist() == v["in_1_5"]
    assert (int(band.kept), int(band.total)) == (2, 2)
    for k, x in enumerate(sorted(v["cov"], reverse=True), start=1):
        assert float(high_covariance_tokens(v["logp"], v["A"], count=k).threshold) == pytest.approx(x, rel=1e-14)


@given(
    form=st.sampled_from(FORMS),
    batch=TOKENS,
    want=WANT,
    ties=st.sampled_from(["all", "exact"]),
    bounds=st.sampled_from([None, None, (0.0, 2.0), (-1.0, math.inf)]),
    per_row=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_it_is_the_definition(oracle, form, batch, want, ties, bounds, per_row, dtype):
    logp, a, trained = rows_of(batch, per_row)
    form = Form(form, trained, dtype)
    options = {"bounds": bounds, "seed": 3, **want}
    expected = oracle("select/token_covariance.py", "high_covariance_tokens")(
        hidden(logp, trained), a, ties=ties, **options
    )
    advantages = form.column(a)
    if per_row:
        values = np.array([whole for whole, _ in batch], dtype)
        advantages = torch.from_numpy(values) if form.torch else values
    with form.on_device():
        found = high_covariance_tokens(form.column(logp), advantages, ties=ties, **options, **form.options)
    mask, thresholds, kept, totals = expected
    form.dtype = np.float64
    agrees(form, found, (mask, [float(x) for x in thresholds], kept, totals))


def batch(seed=0, sizes=(40, 30, 50)):
    rng = np.random.default_rng(seed)
    rows = rm.Rows([f"r{i}" for i in range(len(sizes))], sizes)
    return rows, torch.from_numpy(-rng.exponential(size=sum(sizes))), rng.normal(size=len(sizes))


def flat(prepared, rows):
    row, position = prepared.selection.among("test", rows)
    found = np.zeros(int(rows.offsets[-1]), bool)
    found[rows.offsets[row] + position] = True
    return found.tolist()


def test_the_losses_choose_the_same():
    from rollmath.loss import ClipCov, KLCov

    rows, logp, a = batch()
    x = rm.Ragged(logp, rows.offsets)
    kl = KLCov(share=0.1)
    kl = kl.with_parts([kl.prepare(rm.LogProbs(logp), a, rows)])
    assert flat(kl, rows) == high_covariance_tokens(x, a, share=0.1, least=1).mask.values.tolist()
    # The whole band: then the draw, which is by another hash, does not matter.
    clip = ClipCov(share=1.0, bounds=(0.1, 0.5))
    clip = clip.with_parts([clip.prepare(rm.LogProbs(logp), a, rows)])
    band = high_covariance_tokens(x, a, share=1.0, least=1, bounds=(0.1, 0.5))
    assert flat(clip, rows) == band.mask.values.tolist()
    assert 0 < int(band.kept) < 120


def test_parts_of_a_step():
    rows, logp, a = batch(1, (40, 30, 50, 1, 0, 9))
    whole = high_covariance_tokens(rm.Ragged(logp, rows.offsets), a, share=0.2, uid=rows)
    parts = [[4, 1], [0, 5], [2, 3]]
    given_rows = [rows.take(part) for part in parts]
    logps = []
    for part, r in zip(parts, given_rows, strict=True):
        values = np.concatenate([logp[rows.offsets[i] : rows.offsets[i + 1]] for i in part])
        logps.append(rm.Ragged(values, r.offsets))
    x_moments = rm.ops.Moments.merge([rm.ops.moments(x) for x in logps])
    a_moments = rm.ops.Moments.merge(
        [rm.ops.moments(a[part], weights=r.lengths) for part, r in zip(parts, given_rows, strict=True)]
    )
    means = x_moments.mean, a_moments.mean
    scores = [
        x.with_values((x.values - means[0]) * (r.expand(a[part], per="row").values - means[1]))
        for x, r, part in zip(logps, given_rows, parts, strict=True)
    ]
    search = rm.select.TokenSearch(share=0.2, ties="exact", dtype="float64")
    while not search.done:
        search = search.narrow(sum(search.count(x, uid=r) for x, r in zip(scores, given_rows, strict=True)))
    for x, r, part, score in zip(logps, given_rows, parts, scores, strict=True):
        mask = search.mask(score, uid=r)
        assert mask.to_lists() == [whole.mask[i].tolist() for i in part]
        again = high_covariance_tokens(x, a[part], count=10**6, bounds=(-math.inf, math.inf), means=means, uid=r)
        assert again.mask.values.all()
    assert float(search.threshold) == float(whole.threshold)


def test_constants_have_covariance_zero():
    x = np.array([[-0.1, -0.3, -0.7], [-0.2, -5.0, -0.4]])
    for logp, a in ((x, np.full(2, 0.7)), (np.full((2, 3), -0.1), [0.3, 0.9])):
        found = high_covariance_tokens(logp, a, share=0.5)
        assert (float(found.threshold), int(found.kept)) == (0.0, 3)
        assert int(high_covariance_tokens(logp, a, share=0.5, ties="all").kept) == 6
        assert int(high_covariance_tokens(logp, a, share=0.5, bounds=(0, 1)).kept) == 0


def test_shift_changes_nothing_and_seeds_do():
    rows, logp, a = batch(2)
    x = rm.Ragged(logp, rows.offsets)
    base = high_covariance_tokens(x, a, share=0.3).mask.values
    assert base.equal(high_covariance_tokens(x.with_values(logp + 64.0), a - 32.0, share=0.3).mask.values)
    drawn = [
        high_covariance_tokens(x, a, share=0.05, bounds=(0, 9), seed=s).mask.values.numpy().tobytes() for s in range(6)
    ]
    assert len(set(drawn)) > 4


def test_messages():
    x = np.zeros((2, 2))
    with pytest.raises(TypeError, match=r"^high_covariance_tokens\(\): 'bounds' must be a pair \(low, high\), got 1"):
        high_covariance_tokens(x, x, count=1, bounds=1)
    for bounds in ((5, 1), (1, 1), (math.nan, 1)):
        with pytest.raises(ValueError, match=r"'bounds' must have low < high, got \("):
            high_covariance_tokens(x, x, count=1, bounds=bounds)
    with pytest.raises(TypeError, match=r"'bounds' must be a number, got an object of type str"):
        high_covariance_tokens(x, x, count=1, bounds=("1", 5))
    with pytest.raises(TypeError, match=r"'means' must be a pair, of log-probabilities and of advantages, got 0.5"):
        high_covariance_tokens(x, x, count=1, means=0.5)
    with pytest.raises(ValueError, match=r"'means' must be finite, got \(nan, 0\)"):
        high_covariance_tokens(x, x, count=1, means=(math.nan, 0))
    bad = np.array([[0.0, 0.0], [math.inf, 0.0]])
    with pytest.raises(ValueError, match=r"'logprobs' must be finite at trained tokens, got inf at row 1, position 0"):
        high_covariance_tokens(bad, x, count=1)
    with pytest.raises(
        ValueError,
        match=r"'advantages' must be finite at trained tokens, got inf at row 1, position 0",
    ):
        high_covariance_tokens(x, bad, count=1)
    with pytest.raises(ValueError, match=r"'advantages' must be finite where tokens are trained, got nan at row 1"):
        high_covariance_tokens(x, [0.0, math.nan], count=1)
    assert int(high_covariance_tokens(x, [0.0, math.nan], count=9, mask=[[1, 1], [0, 0]]).kept) == 2
    with pytest.raises(ValueError, match=r"'seed' must be at least 0, got -1"):
        high_covariance_tokens(x, x, count=1, bounds=(1, 5), seed=-1)
    with pytest.raises(
        ValueError, match=r"'advantages' must have length 2 \(= the number of rows; of one a rollout take"
    ):
        high_covariance_tokens(x, [1.0], count=1)
