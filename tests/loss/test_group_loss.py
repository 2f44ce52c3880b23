"""What all losses over the scores of a group share: derivatives, laws, kinds, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

import rollmath as rm  # noqa: E402
from rollmath.loss import a_star_po, copg, disco, drpo, flowrl, gvpo, process_q, real, rebel, tbrm  # noqa: E402

#: name -> (loss of (s, reward, third, fourth, ids), the same for one group in torch, not divided).
LOSSES = {
    "real": (
        lambda s, r, a, b, g, **k: real(s, r > 0, g, **k),
        lambda s, r, a, b: _lse0(-s[r > 0] / 0.5) + _lse0(s[r <= 0] / 0.5),
    ),
    "disco": (
        lambda s, r, a, b, g, **k: disco(s, r > 0, g, tau=2.0, **k),
        lambda s, r, a, b: _contrast(s, r > 0, torch.ones_like(s), 2.0),
    ),
    "drpo": (
        lambda s, r, a, b, g, **k: drpo(s, r > 0, a + 4, g, max_length=8, lam=0.5, tau=2.0, **k),
        lambda s, r, a, b: _contrast(s, r > 0, torch.exp((1 - (a + 4) / 8) / 0.5), 2.0),
    ),
    "rebel": (
        lambda s, r, a, b, g, **k: rebel(s, r, g, eta=0.5, **k),
        lambda s, r, a, b: 2 * _variance(s / 0.5 - r),
    ),
    "copg": (
        lambda s, r, a, b, g, **k: copg(s, r, g, beta=0.5, **k),
        lambda s, r, a, b: len(s) * _variance(r - 0.5 * s),
    ),
    "gvpo": (
        lambda s, r, a, b, g, **k: gvpo(s, r, g, beta=0.5, **k),
        lambda s, r, a, b: 0.5 * _variance(0.5 * s - r),
    ),
    "a_star_po": (
        lambda s, r, a, b, g, **k: a_star_po(s, r, a, g, beta2=0.5, **k),
        lambda s, r, a, b: ((0.5 * s + a - r) ** 2).sum(),
    ),
    "tbrm": (
        lambda s, r, a, b, g, **k: tbrm(s, a, r, b, g, beta=0.5, **k),
        lambda s, r, a, b: ((s + a - r / 0.5 - b) ** 2).sum(),
    ),
    "flowrl": (
        lambda s, r, a, b, g, **k: flowrl(s, a, r, b, g, beta=2.0, **k),
        lambda s, r, a, b: ((a + s - 2 * r - b) ** 2).sum(),
    ),
    "process_q": (
        lambda s, r, a, b, g, **k: process_q(s, r > 0, g, **k),
        lambda s, r, a, b: _ranking(s, r > 0),
    ),
}
ROWS = st.lists(
    st.tuples(*[st.integers(-256, 256).map(lambda k: k / 64)] * 4, st.integers(0, 3), st.booleans()), max_size=16
)


def _lse0(z):
    return torch.logsumexp(torch.cat([z, torch.zeros(1, dtype=z.dtype)]), 0)


def _contrast(s, right, w, tau):
    if not right.any() or right.all():
        return 0 * s.sum()
    w = w[right] / w[right].sum()
    return tau * torch.log(torch.exp(s[~right] / tau).mean()) - (w * s[right]).sum()


def _variance(x):
    return x.var() if len(x) > 1 else 0 * x.sum()


def _ranking(q, right):
    wrong = torch.logsumexp(torch.cat([torch.zeros(1, dtype=q.dtype), q[~right] + 4]), 0)
    items = [] if right.all() else [wrong]
    for t in range(len(q)):
        if right[t]:
            upto = q[: t + 1][right[: t + 1]]
            items.append(torch.logaddexp(torch.logsumexp(upto, 0), wrong) - q[t])
    return torch.stack(items).mean()


def unzip(rows):
    *columns, ids, valid = zip(*rows, strict=True) if rows else ((),) * 6
    return [np.array(c, dtype=float) for c in columns], np.array(ids, dtype=np.int64), np.array(valid, dtype=bool)


@pytest.mark.parametrize("name", LOSSES)
@given(rows=ROWS)
def test_the_coefficients_are_the_derivative(name, rows):
    (s, r, a, b), ids, valid = unzip(rows)
    loss, formula = LOSSES[name]
    x = torch.tensor(s, requires_grad=True)
    groups = rm.Groups(ids)
    total, each = torch.zeros((), dtype=torch.float64), []
    for group in range(groups.n_groups):
        mine = torch.tensor([i for i in groups.rows(group) if valid[i]], dtype=torch.int64)
        each.append(formula(x[mine], *(torch.tensor(c)[mine] for c in (r, a, b))) if len(mine) else 0 * x.sum())
        total = total + each[-1]
    grad = torch.autograd.grad(total, x)[0] if each else torch.zeros(0)
    out = loss(s, r, a, b, groups, valid=valid, divisor=1)
    assert_allclose(out.loss, total.detach(), rtol=1e-11, atol=1e-11)
    assert_allclose(out.coefficient, grad, rtol=1e-11, atol=1e-11)
    assert_allclose(out.per_group, [v.detach() for v in each], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
@given(rows=ROWS.filter(bool))
def test_finite_differences(name, rows):
    (s, r, a, b), ids, _ = unzip(rows)
    loss = LOSSES[name][0]
    h = 1e-5
    for i in range(min(len(s), 4)):
        step = h * (np.arange(len(s)) == i)
        rise = loss(s + step, r, a, b, ids, divisor=1).loss - loss(s - step, r, a, b, ids, divisor=1).loss
        assert_allclose(rise / (2 * h), loss(s, r, a, b, ids, divisor=1).coefficient[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_permuting_rows_changes_no_bit(same_bits, name, rows, random):
    (s, r, a, b), ids, valid = unzip(rows)
    s = s * 0.1
    loss = LOSSES[name][0]
    turn = np.arange(len(s))
    random.shuffle(turn)
    if name == "process_q":  # whole responses change places; their steps stay in order
        turn = np.concatenate([np.flatnonzero(ids == g) for g in random.sample(range(4), 4)])
    base = loss(s, r, a, b, ids, valid=valid)
    out = loss(s[turn], r[turn], a[turn], b[turn], ids[turn], valid=valid[turn])
    same_bits(out.loss, base.loss)
    same_bits(out.coefficient, base.coefficient[turn])


@pytest.mark.parametrize("name", LOSSES)
@given(rows=ROWS)
def test_parts_that_keep_groups_whole_give_the_same_bits(same_bits, name, rows):
    (s, r, a, b), ids, valid = unzip(rows)
    s = s * 0.1
    loss = LOSSES[name][0]
    whole, total = loss(s, r, a, b, ids, valid=valid, divisor=3), 0.0
    for part in ((0, 2), (1, 3)):
        mine = np.isin(ids, part)
        out = loss(s[mine], r[mine], a[mine], b[mine], ids[mine], valid=valid[mine], divisor=3)
        same_bits(out.coefficient, whole.coefficient[mine])
        total += out.loss
        groups = rm.Groups(ids).ids
        same_bits(out.per_group, whole.per_group[[groups.index(g) for g in rm.Groups(ids[mine]).ids]])
    assert_allclose(total, whole.loss, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_huge_scores_do_not_overflow(name):
    s = np.array([1e4, -1e4, 1e4, -1e4, 9e3, 0.0])
    r, a = np.array([1.0, 1.0, -1.0, -1.0, 1.0, -1.0]), np.zeros(6)
    for ids in ([0] * 6, [0, 0, 1, 1, 2, 3], list(range(6))):
        for dtype in (np.float32, np.float64):
            out = LOSSES[name][0](s.astype(dtype), r, a, a, ids)
            assert all(np.isfinite(x).all() for x in out)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_left_out_are_not_looked_at(name):
    s, r = np.array([0.3, np.nan, -0.2, np.inf]), np.array([1.0, 0.0, -1.0, 1.0])
    a, keep = np.array([0.5, np.inf, 0.1, np.nan]), np.array([0, 2])
    out = LOSSES[name][0](s, r, a, a, ["p", "p", "p", "q"], valid=[1, 0, 1, 0])
    alone = LOSSES[name][0](s[keep], r[keep], a[keep], a[keep], ["p", "p"])
    assert out.loss == alone.loss
    assert out.coefficient.tolist() == [alone.coefficient[0], 0.0, alone.coefficient[1], 0.0]
    assert out.per_group.tolist() == [alone.per_group[0], 0.0]


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_at_all(name):
    out = LOSSES[name][0](*[np.zeros(0)] * 4, [])
    assert (float(out.loss), out.coefficient.tolist(), out.per_group.tolist()) == (0.0, [], [])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("given_as", "returned"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("int64", "float32"),
    ],
)
def test_torch_kinds(name, given_as, returned):
    s = torch.tensor([1, -1, 2]).to(getattr(torch, given_as))
    r = torch.tensor([1.0, 0.0, 1.0])
    out = LOSSES[name][0](s, r, r, r, torch.tensor([5, 5, 6]))
    assert all(type(x) is torch.Tensor and x.dtype == getattr(torch, returned) for x in out)
    assert (out.loss.ndim, out.coefficient.shape, out.per_group.shape) == (0, (3,), (2,))
    exact = LOSSES[name][0](s.double().numpy(), r.numpy(), r.numpy(), r.numpy(), [5, 5, 6])
    assert_allclose(out.coefficient, exact.coefficient, rtol=2e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_numpy_kinds(name):
    r = np.array([1.0, 0.0, 1.0])
    for s, dtype in (([1, -1, 2], np.float64), (np.array([1, -1, 2], np.float16), np.float32), (r, np.float64)):
        out = LOSSES[name][0](s, r, r, r, ["a", "a", "b"])
        assert isinstance(out.loss, np.floating)
        assert all(x.dtype == dtype for x in out)


def test_two_micro_batches_of_a_model():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    right, ids = torch.tensor([1, 0, 1, 0, 1, 1]) > 0, ["a", "a", "b", "b", "a", "b"]
    scores = lambda rows: model(x[rows]).squeeze(1)  # noqa: E731
    with torch.no_grad():
        out = disco(scores(list(range(6))), right, ids, tau=2.0)
    for part in ([0, 2, 4], [1, 3, 5]):
        (out.coefficient[part] * scores(part)).sum().backward()
    got = [p.grad.clone() for p in model.parameters()]
    s = scores(list(range(6)))
    groups = [torch.tensor([i for i in range(6) if ids[i] == g]) for g in "ab"]
    loss = sum(_contrast(s[g], right[g], torch.ones(len(g)).double(), 2.0) for g in groups) / 2
    for a, b in zip(got, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert_allclose(out.loss, loss.detach(), rtol=1e-13)


def test_inputs_are_not_changed_and_need_not_be_contiguous():
    s, r = np.random.default_rng(0).normal(size=(2, 8, 3))
    before = s.copy()
    for loss, _ in LOSSES.values():
        got, wanted = (loss(x, r[:, 1], r[:, 2], r[:, 0], [0, 0, 0, 1, 1, 1, 2, 2]) for x in (s[:, 1], s[:, 1].copy()))
        assert got.coefficient.tolist() == wanted.coefficient.tolist()
    assert (s == before).all()


@pytest.mark.parametrize("name", LOSSES)
def test_shared_errors(name):
    loss, (s, r, ids) = LOSSES[name][0], (np.array([1.0, 2.0]), np.array([1.0, 0.0]), [0, 0])
    scores, groups = ("q_values", "responses") if name == "process_q" else ("scores", "groups")
    grad = torch.ones(2, requires_grad=True)
    for call, error, message in [
        (
            lambda: loss(grad, r, r, r, ids),
            ValueError,
            f"'{scores}' requires grad, but the gradient is in 'coefficient'",
        ),
        (lambda: loss(s[:1], r, r, r, ids), ValueError, f"'{scores}' must have length 2 .= len.{groups}.., got 1"),
        (lambda: loss(s[None], r, r, r, ids), TypeError, f"'{scores}' must be 1-D, got a 2-D float64 array"),
        (lambda: loss(["a", "b"], r, r, r, ids), TypeError, f"'{scores}' must hold floats, ints or bools, got <U1"),
        (
            lambda: loss([1.0, math.nan], r, r, r, ids),
            ValueError,
            f"'{scores}' must be finite where rows .* at index 1",
        ),
        (lambda: loss(s, r, r, r, [0.5, 1.0]), TypeError, f"'{groups}' must be strings, ints, UUIDs or tuples, got"),
        (lambda: loss(s, r, r, r, ids, valid=[1.0, 0.0]), TypeError, "'valid' must be bool or integer"),
        (lambda: loss(s, r, r, r, ids, divisor=0), ValueError, "'divisor' must be finite and positive, got 0"),
        (lambda: loss(s, r, r, r, ids, divisor=True), TypeError, "'divisor' must be a number, got True"),
        (
            lambda: loss(s, r, r, r, ids, divisor="2"),
            TypeError,
            "'divisor' must be a number, got an object of type str",
        ),
    ]:
        with pytest.raises(error, match=rf"^{name}\(\): {message}"):
            call()


@pytest.mark.parametrize("name", [n for n in LOSSES if n in {"real", "disco", "drpo", "process_q"}])
def test_labels_are_asked_for(name):
    call = {
        "real": lambda y: real([1.0], y, [0]),
        "disco": lambda y: disco([1.0], y, [0]),
        "drpo": lambda y: drpo([1.0], y, [1], [0], max_length=1),
        "process_q": lambda y: process_q([1.0], y, [0]),
    }[name]
    for labels, message in (([1.0], "must be bool or integer"), (None, "must be bool or integer, one a row, got None")):
        with pytest.raises(TypeError, match=rf"{name}\(\): 'correct' {message}"):
            call(labels)
    groups = "responses" if name == "process_q" else "groups"
    with pytest.raises(ValueError, match=rf"{name}\(\): 'correct' must have length 1 \(= len\({groups}\)\), got 2"):
        call([1, 0])


def test_a_loss_that_float32_cannot_hold():
    with pytest.raises(ValueError, match=r"tbrm\(\): the loss and its derivatives must fit float32, got 1e\+40; scale"):
        tbrm(torch.tensor([1e20]), [0.0], [0.0], [0.0], [0], beta=1)
