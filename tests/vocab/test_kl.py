"""vocab.kl and vocab.top_k_kl: values, gradients, edges, errors, memory."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rollmath import vocab  # noqa: E402
from rollmath.vocab._kl_reference import Some  # noqa: E402

INF = torch.inf
DIRECTIONS = ("reverse", "forward")


def rows(seed, n=4, width=7, impossible=0.0):
    rng = np.random.default_rng(seed)
    x, ref = rng.normal(scale=3, size=(2, n, width))
    never = rng.random((n, width)) < impossible
    never[:, 0] = False
    x[never], ref[never] = -np.inf, -np.inf
    return torch.tensor(x), torch.tensor(ref)


@given(
    st.integers(0, 10**6),
    st.sampled_from(DIRECTIONS),
    st.floats(0.3, 3),
    st.none() | st.integers(1, 7),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
)
def test_agrees_with_the_oracle(oracle, seed, direction, temperature, top_k, tail, impossible):
    x, ref = rows(seed, impossible=impossible)
    options = {"direction": direction, "temperature": temperature, "top_k": top_k, "tail": tail}
    expected = oracle("vocab/kl.py", "kl")(x.numpy(), ref.numpy(), **options)
    np.testing.assert_allclose(vocab.kl(x, ref, **options).numpy(), expected, rtol=1e-11, atol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(DIRECTIONS), st.integers(1, 7), st.booleans())
def test_given_ids_agree_with_the_oracle(oracle, seed, direction, k, tail):
    x, ref = rows(seed)
    rng = np.random.default_rng(seed)
    ids = torch.tensor(np.array([rng.permutation(7)[:k] for _ in range(4)]))
    known = torch.log_softmax(ref, 1).gather(1, ids)
    if k == 7:  # what is left is rounding of 1 - sum q
        assume(not tail)
    options = {"direction": direction, "temperature": 0.7, "tail": tail}
    expected = oracle("vocab/kl.py", "top_k_kl")(x.numpy(), ids.numpy(), known.numpy(), **options)
    np.testing.assert_allclose(vocab.top_k_kl(x, ids, known, **options).numpy(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("temperature", [1.0, 0.7, "rows"])
@pytest.mark.parametrize(("top_k", "tail"), [(None, True), (1, True), (3, True), (3, False), (6, True), (6, False)])
def test_gradcheck(direction, temperature, top_k, tail):
    x, ref = rows(1, n=3, width=6)
    t = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64) if temperature == "rows" else temperature
    options = {"direction": direction, "temperature": t, "top_k": top_k, "tail": tail}
    assert torch.autograd.gradcheck(lambda x: vocab.kl(x, ref, **options), (x.requires_grad_(),))


def plain(x, ref, direction, ids=None, tail=True):
    """Differentiable float64 operations."""
    lp, lq = torch.log_softmax(x, -1), torch.log_softmax(ref, -1)
    if ids is not None:
        others = torch.ones_like(x).scatter(-1, ids, 0)
        rest = [(y.exp() * others).sum(-1, keepdim=True).log() for y in (lp, lq)]
        lp, lq = (
            torch.cat([y.gather(-1, ids), *([r] if tail else [])], -1) for y, r in zip((lp, lq), rest, strict=True)
        )
    return (lp.exp() * (lp - lq)).sum(-1) if direction == "reverse" else (lq.exp() * (lq - lp)).sum(-1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("top_k", [None, 8])
@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradient_against_autograd_in_float64(direction, top_k, tail, dtype):
    torch.manual_seed(2)
    x = (torch.randn(16, 300) * 3).to(dtype).requires_grad_()
    ref = (x.detach() + torch.randn(16, 300)).to(dtype)
    g = torch.randn(16, dtype=torch.float64)
    made = vocab.kl(x, ref, direction=direction, top_k=top_k, tail=tail)
    assert made.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (g * made).sum().backward()
    wide = x.detach().double().requires_grad_()
    ids = None if top_k is None else x.detach().topk(top_k).indices
    expected = plain(wide, ref.double(), direction, ids, tail)
    (g * expected).sum().backward()
    atol = 1e-13 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(made.double(), expected.detach(), rtol=1e-12 if atol < 1e-9 else 1e-6, atol=atol)
    assert x.grad.dtype == dtype
    assert ((x.grad.double() - wide.grad).abs() <= torch.finfo(dtype).eps * wide.grad.abs() + atol).all()


@pytest.mark.parametrize("temperature", [0.1, "rows"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_offset_costs_no_digits(direction, temperature):
    torch.manual_seed(0)
    x = torch.randn(8, 400) + 1000
    ref = x + 0.3 * torch.randn(8, 400)
    t = torch.rand(8) + 0.3 if temperature == "rows" else temperature
    value = vocab.kl(x.requires_grad_(), ref, direction=direction, temperature=t)
    value.sum().backward()
    wide = x.detach().double().requires_grad_()
    divisor = t.double()[:, None] if temperature == "rows" else t
    expected = plain((wide - 1000) / divisor, (ref.double() - 1000) / divisor, direction)
    expected.sum().backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)


def test_directions_are_each_others_mirror():
    x, ref = rows(3)
    torch.testing.assert_close(vocab.kl(x, ref), vocab.kl(ref, x, direction="forward"), rtol=1e-14, atol=0)


def test_laws():
    x, ref = rows(4)
    assert (vocab.kl(x, x) == 0).all()
    assert (vocab.kl(x.float(), x.float()) == 0).all()
    exact = vocab.kl(x, ref)
    torch.testing.assert_close(vocab.kl(x + 100, ref - 50), exact, rtol=1e-12, atol=1e-12)
    for direction in DIRECTIONS:
        exact = vocab.kl(x, ref, direction=direction)
        # Coarser distributions are closer, and all tokens are the exact one.
        values = [vocab.kl(x, ref, direction=direction, top_k=k) for k in range(1, 8)]
        for coarse, fine in itertools.pairwise([torch.zeros(4), *values]):
            assert (coarse <= fine + 1e-12).all()
        for tail in (True, False):
            last = vocab.kl(x, ref, direction=direction, top_k=7, tail=tail)
            torch.testing.assert_close(last, exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_of_a_row_sum_to_zero(direction, top_k):
    x, ref = torch.randn(2, 8, 1000)
    x.requires_grad_()
    vocab.kl(x, ref, direction=direction, top_k=top_k).sum().backward()
    assert x.grad.sum(1).abs().max() < 1e-5


def test_impossible_tokens():
    x = torch.tensor([[0.0, -INF, 1.0], [0.0, 1.0, -INF], [0.0, -INF, 0.0]], dtype=torch.float64)
    ref = torch.tensor([[0.0, -INF, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, -INF]], dtype=torch.float64)
    reverse, forward = vocab.kl(x, ref), vocab.kl(x, ref, direction="forward")
    both = plain(x[:1, ::2], ref[:1, ::2], "reverse")
    assert reverse[0].item() == pytest.approx(both.item(), rel=1e-14)
    assert reverse[1].isfinite()
    assert forward[1] == INF
    assert reverse[2] == forward[2] == INF
    for top_k in (1, 2, 3):
        some = vocab.kl(x, ref, top_k=top_k)
        assert some[:2].isfinite().all()
    assert vocab.kl(x, ref, top_k=2)[2] == INF


@pytest.mark.parametrize("top_k", [None, 1, 2, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_at_impossible_tokens(direction, top_k):
    x = torch.tensor([[0.0, -INF, 1.0], [0.5, 1.0, -INF]], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([[0.0, -INF, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    value = vocab.kl(x, ref, direction=direction, top_k=top_k)
    value[:1].sum().backward()
    assert x.grad[0, 1] == 0
    assert (x.grad[1] == 0).all()
    near = x.detach()[:1, ::2].clone().requires_grad_()
    # Two tokens are possible, so that two or more are the exact one.
    ids = near.detach().topk(1).indices if top_k == 1 else None
    plain(near, ref[:1, ::2], direction, ids).sum().backward()
    torch.testing.assert_close(x.grad[:1, ::2], near.grad, rtol=1e-13, atol=1e-15)


def test_gradients_of_an_infinite_divergence():
    x = torch.tensor([[0.5, 1.0, -INF]], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    vocab.kl(x, ref, direction="forward").sum().backward()
    p, q = torch.softmax(x.detach(), 1), torch.softmax(ref, 1)
    torch.testing.assert_close(x.grad[:, :2], (p - q)[:, :2])
    assert x.grad[0, 2] == 0
    y = ref.clone().requires_grad_()
    vocab.kl(y, x.detach()).sum().backward()
    assert y.grad.isnan().all()


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_no_distribution(poison, top_k):
    x, ref = rows(5, n=3)
    x[1], ref[2] = poison, poison
    x.requires_grad_()
    for direction in DIRECTIONS:
        value = vocab.kl(x, ref, direction=direction, top_k=top_k)
        assert value[0].isfinite()
        assert value[1:].isnan().all()
        x.grad = None
        torch.where(torch.tensor([True, False, False]), value, 0).sum().backward()
        assert x.grad[0].isfinite().all()
        assert (x.grad[1:] == 0).all()


def test_huge_logits_stay_in_their_dtype():
    x = torch.tensor([[1e30, 0.0], [-1e30, 0.0]])
    ref = torch.zeros(2, 2)
    torch.testing.assert_close(vocab.kl(x, ref), torch.full((2,), math.log(2)))


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 7), (2, 0, 7), (0, 7), (3, 1)])
@pytest.mark.parametrize("top_k", [None, 1])
def test_shapes(shape, top_k):
    x = torch.randn(shape, requires_grad=True)
    value = vocab.kl(x, torch.randn(shape), top_k=top_k)
    assert value.shape == shape[:-1]
    value.sum().backward()
    assert x.grad.shape == shape


def test_strides_and_chunks_change_nothing(monkeypatch):
    x, ref = torch.randn(2, 5, 4, 33)
    expected = {(d, k): vocab.kl(x[:, :-1].contiguous(), ref[:, 1:].contiguous(), direction=d, top_k=k)
                for d in DIRECTIONS for k in (None, 5)}  # fmt: skip
    monkeypatch.setattr("rollmath.vocab._chunks._CPU_BYTES", 1)
    for (direction, k), value in expected.items():
        for a, b in ((x[:, :-1], ref[:, 1:]), (x[:, :-1].contiguous(), ref[:, 1:])):
            torch.testing.assert_close(vocab.kl(a, b, direction=direction, top_k=k), value, rtol=0, atol=0)
    leaf = x[:, :-1].detach().requires_grad_()
    vocab.kl(leaf, ref[:, 1:]).sum().backward()
    other = x[:, :-1].clone().requires_grad_()
    plain(other, ref[:, 1:], "reverse").sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_mixed_dtypes():
    x, ref = rows(6)
    value = vocab.kl(x.float(), ref)
    assert value.dtype == torch.float32
    assert vocab.kl(x, ref.float()).dtype == torch.float64
    torch.testing.assert_close(vocab.kl(x.bfloat16(), ref.half()), vocab.kl(x.bfloat16().float(), ref.half().float()))


def test_a_tail_of_almost_nothing_keeps_its_digits():
    x = torch.tensor([[40.0, 0.0, 1.0]], dtype=torch.float64)
    ref = torch.tensor([[40.0, 1.0, 0.5]], dtype=torch.float64)
    p, q = (math.log(math.exp(a) + math.exp(b)) for a, b in ((0.0, 1.0), (1.0, 0.5)))
    mass = math.exp(p - 40)
    x.requires_grad_()
    vocab.kl(x, ref, top_k=1).sum().backward()
    share = torch.softmax(x.detach()[0, 1:], 0)
    torch.testing.assert_close(x.grad[0, 1:], share * mass * (p - q), rtol=1e-12, atol=0)


class _Largest(TorchDispatchMode):
    def __init__(self, *known):
        super().__init__()
        self.known, self.nbytes = {x.untyped_storage().data_ptr() for x in known}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self.nbytes = max(self.nbytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("top_k", [None, 4])
def test_no_copy_of_the_logits(monkeypatch, direction, top_k):
    monkeypatch.setattr("rollmath.vocab._chunks._CPU_BYTES", 16 << 10)
    x, ref = torch.randn(2, 3, 17, 500).bfloat16()
    leaf, other = x[:, :-1].detach().requires_grad_(), ref[:, :-1]
    with _Largest(x, ref) as forward:
        value = vocab.kl(leaf, other, direction=direction, top_k=top_k)
    assert forward.nbytes <= 16 << 10
    with _Largest(x, ref) as backward:
        value.sum().backward()
    assert backward.nbytes == leaf.numel() * 2


def test_no_second_derivative():
    x, ref = rows(7)
    x.requires_grad_()
    for top_k in (None, 2):
        with pytest.raises(RuntimeError, match="vocab has no second derivative"):
            torch.autograd.grad(vocab.kl(x, ref, top_k=top_k).sum(), x, create_graph=True)


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((X.long(), X, {}), TypeError, r"'logits' must be a float tensor \[..., V\], got a 2-D int64 array"),
        ((X, X.long(), {}), TypeError, "'ref_logits' must be a float tensor, got a 2-D int64 array"),
        ((X, X.numpy(), {}), TypeError, "'ref_logits' must be a float tensor, got a 2-D float32 array"),
        ((X, X[:1], {}), ValueError, r"'ref_logits' must have shape \(2, 3\) \(= logits.shape\), got \(1, 3\)"),
        ((X, X.to("meta"), {}), ValueError, r"'ref_logits' must be on cpu \(= logits.device\), got meta"),
        ((X, X.clone().requires_grad_(), {}), ValueError, "'ref_logits' requires grad, but only 'logits' is"),
        ((X, X, {"direction": "kl"}), ValueError, "'direction' must be one of 'reverse', 'forward', got 'kl'"),
        ((X, X, {"temperature": 0}), ValueError, "'temperature' must be positive and finite .*, got 0"),
        ((X, X, {"top_k": 0}), ValueError, "'top_k' must be at least 1, got 0"),
        ((X, X, {"top_k": 4}), ValueError, r"'top_k' must be at most 3 \(= V\), got 4"),
        ((X, X, {"top_k": 1.0}), TypeError, "'top_k' must be a whole number, got an object of type float"),
        ((X, X, {"backend": "cuda"}), ValueError, "'backend' must be one of 'auto', 'torch', 'triton', got 'cuda'"),
        ((X, X, {"top_k": 1, "backend": "cuda"}), ValueError, "'backend' must be one of 'auto', 'torch', 'triton'"),
        ((X, X, {"tail": 1}), TypeError, "'tail' must be True or False, got 1"),
    ],
)
def test_errors(arguments, error, match):
    logits, ref, options = arguments
    with pytest.raises(error, match=rf"^kl\(\): {match}"):
        vocab.kl(logits, ref, **options)


IDS, KNOWN = torch.tensor([[0, 1], [2, 0]]), torch.full((2, 2), -1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((IDS.float(), KNOWN, {}), TypeError, r"'ids' must be an integer tensor \[..., k\], got a 2-D float32 array"),
        ((IDS[0], KNOWN, {}), ValueError, r"'ids' must have shape \(2,\) .* and then k from 1 to 3 .*, got \(2,\)"),
        ((IDS[:, :0], KNOWN, {}), ValueError, r"'ids' must have shape .* got \(2, 0\)"),
        ((IDS.to("meta"), KNOWN, {}), ValueError, "'ids' must be on cpu .* got meta"),
        ((IDS + 1, KNOWN, {}), ValueError, r"'ids' must be in \[0, 3\) \(= V\), got 3 in flat row 1"),
        ((IDS - 1, KNOWN, {}), ValueError, r"'ids' must be in \[0, 3\) \(= V\), got -1 in flat row 0"),
        (
            (torch.tensor([[0, 1], [2, 2]]), KNOWN, {}),
            ValueError,
            "'ids' must be distinct .* got 2 twice in flat row 1",
        ),
        ((IDS, KNOWN[:1], {}), ValueError, r"'ref_logprobs' must have shape \(2, 2\) \(= ids.shape\), got \(1, 2\)"),
        ((IDS, KNOWN.long(), {}), TypeError, "'ref_logprobs' must be a float tensor"),
        ((IDS, KNOWN + 1, {}), ValueError, "'ref_logprobs' must be log-probabilities, .* got 2 at flat index 0"),
        ((IDS, KNOWN, {"direction": 1}), ValueError, "'direction' must be one of"),
        ((IDS, KNOWN, {"tail": None}), TypeError, "'tail' must be True or False"),
    ],
)
def test_errors_of_given_ids(arguments, error, match):
    ids, known, options = arguments
    with pytest.raises(error, match=rf"^top_k_kl\(\): {match}"):
        vocab.top_k_kl(X, ids, known, **options)


def test_an_id_that_a_device_would_not_check():
    """Where ids are not looked at, one out of range gives NaN and is never read."""
    x = torch.zeros(2, 3, requires_grad=True)
    ids, known = torch.tensor([[0, 7], [0, 1]]), torch.full((2, 2), -1.0, dtype=torch.float64)
    for tail in (None, torch.full((2,), -1.0, dtype=torch.float64)):
        for reverse in (True, False):
            value = Some.apply(x, ids, known, tail, 1.0, reverse)
            assert value.isnan().tolist() == [True, False]
            (gradient,) = torch.autograd.grad(value.sum(), x)
            assert gradient[0].isnan().any()
            assert gradient[1].isfinite().all()
