"""Values of vocab.logprobs and vocab.row_stats."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

from rollmath import vocab  # noqa: E402
from rollmath.vocab import _chunks  # noqa: E402

ALL = ("logprob", "entropy", "lse", "sum_p_squared")


def test_hand_checked_vector(vectors):
    expected = vectors("flat")["vocab"]
    stats = vocab.row_stats(torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64), torch.tensor(0), outputs=ALL)
    assert stats.lse.item() == pytest.approx(2.440190, abs=1e-6)
    assert stats.entropy.item() == pytest.approx(0.947537, abs=1e-6)
    assert stats.sum_p_squared.item() == pytest.approx(0.479361, abs=1e-6)
    assert stats.logprob.item() == pytest.approx(2 - 2.440190, abs=1e-6)
    assert expected  # the same row is in the vectors file


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.one_of(st.floats(-50, 50), st.just(-np.inf), st.floats(9_990, 10_000)),
    ),
    st.floats(0.1, 10),
    st.integers(0, 10**6),
)
def test_agrees_with_the_oracle(oracle, x, temperature, seed):
    labels = np.random.default_rng(seed).integers(0, x.shape[1], len(x))
    stats = vocab.row_stats(torch.tensor(x), torch.tensor(labels), outputs=ALL, temperature=temperature)
    expected = oracle("vocab/row_stats.py", "row_stats")(x, labels, temperature)
    for name in ALL:
        np.testing.assert_allclose(getattr(stats, name).numpy(), expected[name], rtol=1e-12, atol=1e-11, err_msg=name)
    lp = vocab.logprobs(torch.tensor(x), torch.tensor(labels), temperature=temperature)
    np.testing.assert_allclose(lp, oracle("vocab/logprobs.py", "logprobs")(x, labels, temperature), atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0, 1000])
def test_narrow_logits_lose_nothing_to_the_arithmetic(dtype, offset):
    # The oracle sees the rounded logits: what is left is the error of float32, whatever the offset.
    torch.manual_seed(0)
    x = (torch.randn(64, 4000) * 3 + offset).to(dtype)
    labels = torch.randint(4000, (64,))
    stats = vocab.row_stats(x, labels, outputs=ALL)
    logp = torch.log_softmax(x.double(), dim=1)
    p = logp.exp()
    assert stats.logprob.dtype == torch.float32
    assert (stats.logprob - logp[torch.arange(64), labels]).abs().max() < 3e-6
    assert (stats.entropy + (p * logp).sum(1)).abs().max() < 3e-6
    assert (stats.sum_p_squared / (p * p).sum(1) - 1).abs().max() < 3e-6


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("spread", [3, 6])
def test_bfloat16_logits_cost_less_than_a_millionth(spread, temperature):
    # All that is left of the arithmetic, the rounding of the result to float32 included, beside exact sums of the very
    # same logits: half of the labels are likely, as sampled ones are.
    torch.manual_seed(0)
    x = (torch.randn(32, 32_000) * spread).bfloat16()
    labels = torch.randint(32_000, (32,))
    labels[::2] = (x.float() / temperature).softmax(1).multinomial(1)[::2, 0]
    stats = vocab.row_stats(x, labels, temperature=temperature)
    logp = torch.log_softmax(x.double() / temperature, dim=1)
    chosen, entropy = logp[torch.arange(32), labels], -(logp.exp() * logp).sum(1)
    moderate = chosen > -8
    assert moderate.sum() >= 10
    assert (stats.logprob - chosen)[moderate].abs().max() < 1e-6
    assert entropy.max() < 8
    assert (stats.entropy - entropy).abs().max() < 1e-6
    # Beyond, what float32 can hold of them is less than that, and half a unit in the last place is all there may be.
    assert ((stats.logprob - chosen).abs() <= 5e-7 + chosen.abs() * 2**-24).all()


def test_temperature_divides_in_float32():
    x = torch.randn(3, 5).bfloat16()
    t = torch.tensor([0.3, 1.0, 2.5])
    y = torch.tensor([4, 0, 2])
    per_row = vocab.logprobs(x, y, temperature=t)
    expected = torch.log_softmax(x.double() / t.double()[:, None], 1).gather(1, y[:, None])[:, 0]
    assert torch.allclose(per_row.double(), expected, atol=1e-6)
    one_by_one = [vocab.logprobs(x[i], y[i], temperature=float(t[i])) for i in range(3)]
    assert torch.equal(per_row, torch.stack(one_by_one))


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 7), (2, 0, 7), (0, 7), (3, 1)])
def test_shapes(shape):
    x, y = torch.randn(shape), torch.zeros(shape[:-1], dtype=torch.int32)
    assert vocab.logprobs(x, y).shape == shape[:-1]
    stats = vocab.row_stats(x, outputs=("entropy",))
    assert stats.entropy.shape == shape[:-1]
    assert stats[0] is stats[2] is stats[3] is None


def test_kinds_of_one_temperature():
    x, y = torch.randn(2, 5), torch.tensor([0, 4])
    same = [vocab.logprobs(x, y, temperature=t) for t in (2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0))]
    assert all(torch.equal(lp, same[0]) for lp in same)


def test_vocabulary_of_one():
    stats = vocab.row_stats(torch.tensor([[5.0], [-3.0]]), torch.tensor([0, 0]), outputs=ALL)
    assert stats.logprob.tolist() == [0, 0]
    assert stats.entropy.tolist() == [0, 0]
    assert stats.lse.tolist() == [5, -3]
    assert stats.sum_p_squared.tolist() == [1, 1]


def test_non_contiguous_logits():
    x = torch.randn(4, 6, 10)
    y = torch.randint(5, (4, 5))
    for view in (
        x[:, :-1, ::2],
        x[:, :-1, :5],
        x.transpose(1, 2)[:, :5, :6].contiguous().transpose(0, 1).transpose(0, 1),
    ):
        assert torch.equal(vocab.logprobs(view, y), vocab.logprobs(view.contiguous(), y))


def test_chunks_change_no_bit(monkeypatch):
    x, y = torch.randn(50, 33), torch.randint(33, (50,))
    whole = vocab.row_stats(x, y, outputs=ALL)
    monkeypatch.setattr(_chunks, "_CPU_BYTES", 1)
    for name, b in vocab.row_stats(x, y, outputs=ALL)._asdict().items():
        a = getattr(whole, name)
        assert (a is b is None) or torch.equal(a, b)


def test_minus_inf_is_probability_zero():
    inf = torch.inf
    x = torch.tensor([[0.0, -inf, 0.0], [-inf, -inf, -inf], [-inf, 3.0, -inf]])
    stats = vocab.row_stats(x, torch.tensor([1, 0, 1]), outputs=ALL)
    assert stats.logprob[0] == -inf
    assert stats.entropy[0].item() == pytest.approx(np.log(2))
    assert stats.lse[1] == -inf
    assert all(torch.isnan(s[1]) for s in (stats.logprob, stats.entropy, stats.sum_p_squared))
    assert [getattr(stats, name)[2].item() for name in ALL] == [0, 0, 3, 1]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_plus_inf_stay_in_their_row(bad):
    x = torch.zeros(2, 3)
    x[0, 1] = bad
    stats = vocab.row_stats(x, torch.tensor([0, 0]), outputs=("logprob", "entropy"))
    assert torch.isnan(stats.logprob[0])
    assert torch.isnan(stats.entropy[0])
    assert torch.isfinite(stats.logprob[1])


def test_ignore_index():
    x = torch.randn(2, 2, 5, requires_grad=True)
    with torch.no_grad():
        x[0, 1] = torch.nan
    lp = vocab.logprobs(x, torch.tensor([[1, -100], [2, -100]]), ignore_index=-100)
    assert lp[:, 1].tolist() == [0, 0]
    lp.sum().backward()
    assert (x.grad[:, 1] == 0).all()
    assert (x.grad[:, 0] != 0).all()


def test_a_label_out_of_range_is_nan_where_it_cannot_be_checked():
    # What a device does; the public functions raise on the CPU.
    lp = vocab.logprobs(torch.zeros(3, 4), torch.tensor([-1, 4, 3]), check=False)
    assert torch.isnan(lp[:2]).all()
    assert lp[2].item() == pytest.approx(-np.log(4))


def test_inputs_are_not_changed():
    x, y, t = torch.randn(4, 5), torch.randint(5, (4,)), torch.rand(4) + 0.5
    before = x.clone(), y.clone(), t.clone()
    vocab.row_stats(x, y, outputs=ALL, temperature=t)
    assert all(torch.equal(a, b) for a, b in zip((x, y, t), before, strict=True))
