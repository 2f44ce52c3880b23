"""Statistics of the rows of a linear layer: values, gradients, chunks, precision, rows that are dropped."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402
from rollmath.vocab import _linear_autograd, _linear_rows  # noqa: E402
from rollmath.vocab._linear_plan import make_plan, parts, shard_plan  # noqa: E402
from rollmath.vocab._row_stats import NAMES  # noqa: E402

#: Bytes: all in one chunk; several chunks of columns; several of rows too.
WORKSPACES = (1 << 28, 128 * 40 * 8, 128 * 3 * 8)


class Case:
    """Factors, labels and what flows back."""

    def __init__(self, n=11, h=7, v=517, dtype=torch.float64, seed=0, spread=1.0):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)

        self.hidden, self.weight, self.bias = normal(n, h), normal(v, h) * spread, normal(v)
        self.labels = torch.randint(v, (n,), generator=generator)
        self.ids = torch.randint(v, (n, 3), generator=generator)
        self.temperature = torch.rand(n, generator=generator, dtype=torch.float64) + 0.5
        self.upstream = {name: normal(n, 3) if name == "gathered" else normal(n) for name in NAMES}

    def factors(self, *names, dtype=None):
        return [getattr(self, name).to(dtype or self.weight.dtype, copy=True).requires_grad_() for name in names]

    def backward(self, stats, outputs=NAMES):
        wanted = [name for name in outputs if name != "argmax"]
        sum((self.upstream[name] * getattr(stats, name)).sum() for name in wanted).backward()


def dense(hidden, weight, bias=None, temperature=1.0, softcap=None, labels=None, ids=None):
    """All outputs by autograd."""
    x = hidden @ weight.T + (0 if bias is None else bias)
    if softcap is not None:
        x = softcap * torch.tanh(x / softcap)
    z = x / (temperature[:, None] if isinstance(temperature, torch.Tensor) else temperature)
    logp = z.log_softmax(-1)
    p, entropy = logp.exp(), -(logp.exp() * logp).sum(-1)
    return vocab.RowStats(
        logp.gather(1, labels[:, None])[:, 0],
        entropy,
        z.logsumexp(-1),
        (p * p).sum(-1),
        (p * (logp + entropy[:, None]) ** 2).sum(-1),
        p.amax(-1),
        z.argmax(-1),
        logp.mean(-1),
        logp.gather(1, ids),
    )


@given(
    n=st.integers(1, 5), h=st.integers(1, 4), v=st.integers(1, 300), seed=st.integers(0, 99),
    softcap=st.sampled_from([None, 2.0]), biased=st.booleans(), per_row=st.booleans(), rows=st.integers(1, 6),
)  # fmt: skip
def test_values_are_those_of_the_oracle(oracle, n, h, v, seed, softcap, biased, per_row, rows):
    case = Case(n, h, v, seed=seed)
    options = {
        "bias": case.bias if biased else None,
        "temperature": case.temperature if per_row else 0.7,
        "softcap": softcap,
        "ids": case.ids,
    }
    stats = vocab.linear_row_stats(
        case.hidden, case.weight, case.labels, outputs=NAMES, workspace=128 * rows * 8, **options
    )
    want = oracle("vocab/linear_row_stats.py", "linear_row_stats")(case.hidden, case.weight, case.labels, **options)
    for name in NAMES:
        np.testing.assert_allclose(getattr(stats, name), want[name], rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("biased", [False, True])
def test_gradients_are_those_of_autograd(workspace, softcap, biased):
    case = Case()
    names = ("hidden", "weight", "bias")[: 2 + biased]
    ours, theirs = case.factors(*names), case.factors(*names)
    options = {"temperature": case.temperature, "softcap": softcap, "labels": case.labels, "ids": case.ids}
    got = vocab.linear_row_stats(
        *ours[:2], bias=ours[2] if biased else None, outputs=NAMES, workspace=workspace, **options
    )
    want = dense(*theirs, **options)
    for name in NAMES:
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12)
    case.backward(got)
    case.backward(want)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_each_output_alone():
    case = Case()
    for name in NAMES:
        ours, theirs = case.factors("hidden", "weight"), case.factors("hidden", "weight")
        ids = case.ids if name == "gathered" else None
        got = vocab.linear_row_stats(*ours, case.labels, outputs=(name,), ids=ids, workspace=WORKSPACES[2])
        want = dense(*theirs, labels=case.labels, ids=case.ids)
        assert [n for n in NAMES if getattr(got, n) is not None] == [name]
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12)
        assert getattr(got, name).requires_grad == (name != "argmax")
        if name != "argmax":
            case.backward(got, (name,))
            case.backward(want, (name,))
            for mine, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_float32_is_within_its_rounding_of_float64(workspace):
    """The products of 64 numbers, not the reductions, make most of it."""
    case = Case(n=9, h=64, v=1000, dtype=torch.float32, spread=0.3)
    ours, theirs = (
        case.factors("hidden", "weight", "bias"),
        case.factors("hidden", "weight", "bias", dtype=torch.float64),
    )
    options = {"temperature": 0.8, "labels": case.labels, "ids": case.ids}
    got = vocab.linear_row_stats(*ours[:2], bias=ours[2], outputs=NAMES, workspace=workspace, **options)
    want = dense(*theirs, **options)
    for name in NAMES:
        torch.testing.assert_close(getattr(got, name).double(), getattr(want, name).double(), rtol=1e-6, atol=4e-6)
    case.backward(got)
    case.backward(want)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=0, atol=2e-6 * float(other.grad.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_logits_of_16_bits_are_rounded_once_and_all_else_is_float32(dtype, workspace):
    case = Case(n=9, h=64, v=1000, dtype=dtype, spread=0.3)
    got = vocab.linear_row_stats(
        case.hidden, case.weight, case.labels, outputs=NAMES, ids=case.ids, workspace=workspace
    )
    logits = (case.hidden.double() @ case.weight.double().T).to(dtype)
    want = vocab.row_stats(logits.double(), case.labels, outputs=NAMES, ids=case.ids)
    for name in NAMES:
        assert getattr(got, name).dtype == (torch.int64 if name == "argmax" else torch.float32)
    # A product that lies between two numbers of 16 bits may be rounded to the other one.
    torch.testing.assert_close(got.entropy.double(), want.entropy, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.lse.double(), want.lse, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_float32_logits_of_factors_of_16_bits(dtype, workspace):
    """logprob and entropy as of exact logits; gradients rounded once, to the dtype of the factors."""
    case = Case(n=40, h=64, v=1000, dtype=dtype, spread=0.3)
    ours, theirs = case.factors("hidden", "weight"), case.factors("hidden", "weight", dtype=torch.float64)
    got = vocab.linear_row_stats(*ours, case.labels, logits_dtype="float32", workspace=workspace)
    want = dense(*theirs, labels=case.labels, ids=case.ids)
    torch.testing.assert_close(got.logprob.double(), want.logprob, rtol=0, atol=5e-6)
    torch.testing.assert_close(got.entropy.double(), want.entropy, rtol=0, atol=5e-6)
    both = ("logprob", "entropy")
    case.backward(got, both)
    case.backward(want, both)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad.dtype == dtype
        unit = torch.finfo(dtype).eps
        torch.testing.assert_close(
            mine.grad.double(), other.grad, rtol=0.51 * unit, atol=1e-6 * float(other.grad.abs().max())
        )


@pytest.mark.parametrize("chunked", [False, True])
def test_gradients_of_the_weight_are_added_up_in_float32(chunked):
    """256 rows that all say the same: partial sums of bfloat16 would stop growing."""
    n, v = 256, 256
    hidden = torch.ones(n, 1, dtype=torch.bfloat16)
    weight = torch.zeros(v, 1, dtype=torch.bfloat16, requires_grad=True)
    stats = vocab.linear_row_stats(
        hidden, weight, torch.zeros(n, dtype=torch.int64), outputs=("logprob",), logits_dtype="float32",
        workspace=128 * 4 * 4 if chunked else 1 << 20,
    )  # fmt: skip
    stats.logprob.sum().backward()
    want = torch.full((v, 1), -float(n) / v)
    want[0] += n
    torch.testing.assert_close(weight.grad.float(), want, rtol=2**-8, atol=0)


def test_chunks_of_the_same_sizes_give_the_same_bits(same_bits):
    case = Case(n=33, h=16, v=900, dtype=torch.float32)
    found = []
    for _ in range(2):
        factors = case.factors("hidden", "weight")
        stats = vocab.linear_row_stats(*factors, case.labels, workspace=128 * 7 * 4)
        (stats.logprob.sum() + stats.entropy.sum()).backward()
        found.append([stats.logprob.detach(), stats.entropy.detach(), *(x.grad for x in factors)])
    for a, b in zip(*found, strict=True):
        same_bits(a, b)


def test_with_and_without_gradient_the_bits_are_the_same(same_bits):
    """The ratio of a policy to itself is exactly 1."""
    case = Case(n=33, h=16, v=900, dtype=torch.bfloat16)
    with torch.no_grad():
        before = vocab.linear_row_stats(case.hidden, case.weight, case.labels, workspace=128 * 64 * 4)
    after = vocab.linear_row_stats(*case.factors("hidden", "weight"), case.labels, workspace=128 * 64 * 4)
    same_bits(before.logprob, after.logprob.detach())
    assert not before.logprob.requires_grad


def test_frozen_factors_cost_no_product(monkeypatch):
    case, seen = Case(), []
    for name in ("product", "add_product"):
        plain = getattr(_linear_autograd, name)
        monkeypatch.setattr(
            _linear_autograd, name, lambda *args, plain=plain: (seen.append(args[0].shape), plain(*args))[1]
        )
    counts = {}
    for who in (("hidden", "weight"), ("hidden",), ("weight",)):
        hidden, weight = (getattr(case, name).clone().requires_grad_(name in who) for name in ("hidden", "weight"))
        seen.clear()
        stats = vocab.linear_row_stats(hidden, weight, case.labels)
        forward = len(seen)
        stats.logprob.sum().backward()
        counts[who] = len(seen) - forward
        assert (hidden.grad is None) == ("hidden" not in who)
        assert (weight.grad is None) == ("weight" not in who)
    assert counts == {("hidden", "weight"): 3, ("hidden",): 2, ("weight",): 2}


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_masked_rows_are_dropped_before_the_product(workspace, monkeypatch):
    case, seen = Case(), []
    mask = torch.arange(11) % 3 == 0
    plain = _linear_autograd.product
    monkeypatch.setattr(
        _linear_autograd, "product", lambda a, b, out: (seen.append(a.shape[0] * b.shape[1]), plain(a, b, out))[1]
    )
    ours, theirs = case.factors("hidden", "weight"), case.factors("hidden", "weight")
    ours[0].data[~mask] = torch.nan
    got = vocab.linear_row_stats(
        *ours, case.labels, outputs=NAMES, ids=case.ids, mask=mask, temperature=case.temperature, workspace=workspace
    )
    assert sum(seen) == 4 * 517
    want = dense(*theirs, labels=case.labels, ids=case.ids, temperature=case.temperature)
    for name in NAMES:
        mine, other = getattr(got, name), getattr(want, name)
        torch.testing.assert_close(mine[mask], other[mask], rtol=1e-12, atol=1e-12)
        assert (mine[~mask] == 0).all()
    case.backward(got)
    case.upstream = {name: g * (mask if g.dim() == 1 else mask[:, None]) for name, g in case.upstream.items()}
    case.backward(want)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)
    assert (ours[0].grad[~mask] == 0).all()


def test_ignored_labels_are_dropped_where_nothing_else_is_asked():
    case = Case()
    labels = case.labels.clone()
    labels[::2] = -100
    hidden, weight = case.factors("hidden", "weight")
    alone = vocab.linear_row_stats(hidden, weight, labels, outputs=("logprob",), ignore_index=-100)
    both = vocab.linear_row_stats(case.hidden, case.weight, labels, ignore_index=-100)
    want = dense(case.hidden, case.weight, labels=case.labels, ids=case.ids)
    for stats in (alone, both):
        assert (stats.logprob[::2] == 0).all()
        torch.testing.assert_close(stats.logprob[1::2], want.logprob[1::2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both.entropy, want.entropy, rtol=1e-12, atol=1e-12)
    alone.logprob.sum().backward()
    assert (hidden.grad[::2] == 0).all()
    assert (hidden.grad[1::2] != 0).any()


@pytest.mark.parametrize("kept", [0, 1])
def test_no_rows_at_all(kept):
    """By an empty tensor, and by a mask."""
    case = Case(n=2)
    hidden, weight = case.factors("hidden", "weight")
    mask = torch.zeros(2, dtype=torch.bool)
    if kept:
        got = vocab.linear_row_stats(hidden, weight, case.labels, outputs=NAMES, ids=case.ids, mask=mask)
    else:
        got = vocab.linear_row_stats(hidden[:0], weight, case.labels[:0], outputs=NAMES, ids=case.ids[:0])
    for name in NAMES:
        shape = (2 * kept, 3) if name == "gathered" else (2 * kept,)
        assert getattr(got, name).shape == shape
        assert (getattr(got, name) == 0).all()
    sum(getattr(got, name).sum() for name in NAMES if name != "argmax").backward()
    assert (weight.grad == 0).all()
    assert (hidden.grad == 0).all()


def test_a_vocabulary_of_one():
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(1, 4, requires_grad=True)
    stats = vocab.linear_row_stats(hidden, weight, torch.zeros(3, dtype=torch.int64))
    assert stats.logprob.tolist() == [0, 0, 0]
    assert stats.entropy.tolist() == [0, 0, 0]
    (stats.logprob.sum() + stats.entropy.sum()).backward()
    assert (weight.grad == 0).all()


def test_shapes_and_strides():
    """Rows of several axes, a slice that no view makes a matrix, a transposed weight."""
    case = Case(n=12)
    hidden, labels = case.hidden.view(3, 4, 7), case.labels.view(3, 4)
    turned = case.weight.T.contiguous().T
    got = vocab.linear_row_stats(hidden[:, :-1], turned, labels[:, :-1], workspace=WORKSPACES[1])
    want = dense(case.hidden, case.weight, labels=case.labels, ids=case.ids)
    torch.testing.assert_close(got.logprob, want.logprob.view(3, 4)[:, :-1], rtol=1e-12, atol=1e-12)
    one = vocab.linear_row_stats(case.hidden[0], case.weight, case.labels[0])
    assert one.logprob.shape == ()


def test_infinite_and_missing_logits():
    """-inf through the bias is probability zero; NaN and +inf spoil their row alone."""
    case = Case(dtype=torch.float32)
    bias = torch.zeros(517)
    bias[::2] = -torch.inf
    hidden, weight = case.factors("hidden", "weight")
    got = vocab.linear_row_stats(hidden, weight, case.labels, bias=bias, workspace=WORKSPACES[2])
    want = dense(case.hidden.double(), case.weight.double()[1::2], labels=case.labels // 2 % 258, ids=case.ids % 258)
    torch.testing.assert_close(got.entropy.double(), want.entropy, rtol=1e-6, atol=2e-6)
    impossible = case.labels % 2 == 0
    assert impossible.any()
    assert (got.logprob[impossible] == -torch.inf).all()
    assert got.logprob[~impossible].isfinite().all()
    got.entropy[1:].sum().backward()
    assert (weight.grad[::2] == 0).all()
    assert weight.grad.isfinite().all()
    assert (hidden.grad[0] == 0).all()
    spoiled = case.hidden.clone()
    spoiled[3], spoiled[5, 0] = torch.nan, torch.inf
    again = vocab.linear_row_stats(spoiled, weight, case.labels, bias=bias, workspace=WORKSPACES[2])
    assert again.entropy.isnan().nonzero().flatten().tolist() == [3, 5]


def test_a_mask_that_only_the_device_knows(monkeypatch):
    """Rows are multiplied, but not read, and nothing of them reaches a gradient."""
    case, mask = Case(), torch.arange(11) % 3 == 0
    both = []
    for known in (True, False):
        if not known:
            monkeypatch.setattr(_linear_rows, "known_rows", lambda mask, *_: (None, mask))
        hidden, weight = case.factors("hidden", "weight")
        hidden.data[~mask] = torch.nan
        stats = vocab.linear_row_stats(
            hidden, weight, case.labels, outputs=NAMES, ids=case.ids, mask=mask, workspace=WORKSPACES[2]
        )
        case.backward(stats)
        both.append([*(getattr(stats, name) for name in NAMES), hidden.grad, weight.grad])
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_autocast_chooses_the_dtype_of_the_products():
    case = Case(n=9, h=64, v=1000, dtype=torch.float32, spread=0.3)
    factors = case.factors("hidden", "weight", "bias")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = vocab.linear_row_stats(*factors[:2], case.labels, bias=factors[2], workspace=128 * 40 * 6)
        same = torch.nn.functional.linear(case.hidden, case.weight, case.bias)
    assert same.dtype == torch.bfloat16
    want = vocab.row_stats(same, case.labels)
    torch.testing.assert_close(got.logprob, want.logprob, rtol=0, atol=2e-2)
    torch.testing.assert_close(got.entropy, want.entropy, rtol=0, atol=1e-3)
    (got.logprob.sum() + got.entropy.sum()).backward()
    assert {x.grad.dtype for x in factors} == {torch.float32}
    exact = case.factors("hidden", "weight", "bias", dtype=torch.float64)
    want = dense(*exact, labels=case.labels, ids=case.ids)
    (want.logprob.sum() + want.entropy.sum()).backward()
    for mine, other in zip(factors, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=0, atol=0.02 * float(other.grad.abs().max()))


def test_there_is_no_second_derivative():
    case = Case()
    hidden, weight = case.factors("hidden", "weight")
    stats = vocab.linear_row_stats(hidden, weight, case.labels)
    with pytest.raises(RuntimeError, match=r"linear_row_stats has no second derivative; .* without create_graph=True"):
        torch.autograd.grad(stats.logprob.sum(), hidden, create_graph=True)


@pytest.mark.parametrize("masked", [False, True])
def test_results_may_be_changed_in_place(masked, same_bits):
    """What backward reads is not what the caller has."""
    case, found = Case(), []
    options = {"mask": torch.arange(11) % 3 == 0} if masked else {}
    for changed in (False, True):
        hidden, weight = case.factors("hidden", "weight")
        stats = vocab.linear_row_stats(hidden, weight, case.labels, outputs=NAMES, ids=case.ids, **options)
        total = sum(getattr(stats, name).sum() for name in NAMES if name != "argmax")
        if changed:
            with torch.no_grad():
                for x in stats:
                    x.mul_(3)
        total.backward()
        found.append((hidden.grad, weight.grad))
    for a, b in zip(*found, strict=True):
        same_bits(a, b)


def test_a_weight_that_changes_before_backward_is_noticed():
    case = Case()
    hidden, weight = case.factors("hidden", "weight")
    stats = vocab.linear_row_stats(hidden, weight, case.labels)
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        stats.logprob.sum().backward()


@pytest.mark.filterwarnings("ignore")
def test_it_goes_around_the_compiler():
    torch._dynamo.reset()
    w = torch.randn(40, 4, requires_grad=True)
    h, y = torch.randn(3, 4), torch.arange(3)

    def step(h):
        return vocab.linear_row_stats(h * 2, w, y).logprob.sum() * 3

    (want,) = torch.autograd.grad(step(h), w)
    (got,) = torch.autograd.grad(torch.compile(step, backend="eager")(h), w)
    torch.testing.assert_close(got, want)


@given(
    rows=st.integers(0, 5000),
    v=st.integers(1, 200_000),
    size=st.sampled_from([2, 4, 6, 8]),
    workspace=st.integers(1024, 1 << 28),
)
def test_chunks_fit_and_cover(rows, v, size, workspace):
    plan = make_plan(rows, v, size, workspace)
    assert plan.rows >= 1
    assert plan.columns >= 1
    # Rows start at aligned addresses.
    padded = -(-plan.columns // 8) * 8
    assert plan.rows * padded * size <= max(workspace, min(128, -(-v // 8) * 8) * size)
    whole = parts(v, plan.columns)
    assert [whole[0].start, whole[-1].stop] == [0, v]
    assert all(a.stop == b.start for a, b in pairwise(whole))


def test_chunks_of_a_large_layer():
    """8192 rows go together; 100,000 are cut both ways, in near squares."""
    assert make_plan(8192, 151_936, 2, 256 << 20) == (8192, 15_232)
    many = make_plan(100_000, 151_936, 2, 256 << 20)
    assert 0.5 < many.rows / many.columns < 2
    # Ranks have as many chunks, whatever they hold.
    plans = [shard_plan(8192, 37_984, columns, 2, 256 << 20) for columns in (37_984, 37_000, 0, 60_000)]
    assert {chunks for _, chunks in plans} == {3}
    assert all(plan.rows * plan.columns * 2 <= 256 << 20 for plan, _ in plans)
