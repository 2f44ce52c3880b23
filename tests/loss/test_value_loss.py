"""The value loss: values, gradients, metrics, what is read."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import Ragged, Rows  # noqa: E402
from rollmath.loss import Aggregation, LossMetrics, Normalizer, explained_variance, value_loss  # noqa: E402
from rollmath.loss import _token_values as core  # noqa: E402

FORMS = {"in pieces": core._in_pieces, "at once": core._at_once}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    monkeypatch.setattr(core, "_in_pieces", FORMS[request.param])
    return request.param


def batch(seed, n_rows=6, size=5):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, size, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 4, n_rows), lengths, mask=rng.random(total) < 0.7)
    values, returns, old = rng.standard_normal((3, total))
    return rows, torch.tensor(values, requires_grad=True), returns, old


options = st.fixed_dictionaries(
    {
        "clip": st.sampled_from([None, 0.2, 1.0]),
        "kind": st.sampled_from(["squared", "huber"]),
        "huber_delta": st.sampled_from([0.3, 1.0, 10.0]),
    }
)


def call(values, returns, old, rows, chosen, **more):
    norm = Normalizer.local(rows)
    given_old = None if chosen["clip"] is None else old
    return value_loss(
        values, returns, rows, **({"normalizer": norm} | more), old_values=given_old, level="token", **chosen
    )


@pytest.mark.parametrize("made", FORMS)
@pytest.mark.parametrize("aggregation", ["token_mean", "rollout_mean_token_mean"])
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), options)
def test_agrees_with_the_oracle(oracle, made, aggregation, seed, chosen):
    rows, values, returns, old = batch(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "_in_pieces", FORMS[made])
        out = call(values, returns, old, rows, chosen, aggregation=aggregation)
    per_row = Aggregation.named(aggregation).weights(rows, Normalizer.local(rows))
    inside = rows.mask != 0
    columns = [x[inside].tolist() for x in (values.detach().numpy(), returns, old, np.repeat(per_row, rows.lengths))]
    loss, gradient, clipped = oracle("loss/value_loss.py", "value_loss")(*columns, **chosen)
    assert out.loss.item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert out.metrics["value_loss"].item() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert out.metrics["value_clip"].item() == pytest.approx(clipped, abs=1e-12)
    flat = np.zeros(len(inside))
    flat[inside] = gradient
    np.testing.assert_allclose(torch.autograd.grad(out.loss, values)[0], flat, rtol=1e-12, atol=1e-15)
    v, r = columns[:2]
    if len(r) > 1:
        for name, x in {"value": v, "return": r, "return_squared": np.square(r)}.items():
            assert out.metrics[name].item() == pytest.approx(np.mean(x), rel=1e-12, abs=1e-13)
        expected = oracle("loss/value_loss.py", "explained_variance")(v, r)
        assert explained_variance(out.metrics).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), options)
def test_closed_form_is_the_gradient_of_plain_operations(seed, chosen):
    rows, values, returns, old = batch(seed)
    out = call(values, returns, old, rows, chosen)
    target, before = torch.tensor(returns), torch.tensor(old)

    def error(v):
        if chosen["kind"] == "huber":
            return torch.nn.functional.huber_loss(v, target, reduction="none", delta=chosen["huber_delta"])
        return (v - target) ** 2 / 2

    loss = error(values)
    if chosen["clip"] is not None:
        loss = torch.maximum(loss, error(values.clamp(before - chosen["clip"], before + chosen["clip"])))
    plain = (loss * torch.tensor(rows.mask)).sum() / max(int(rows.trained.sum()), 1)
    torch.testing.assert_close(out.loss, plain, rtol=1e-12, atol=1e-14)
    made, expected = (torch.autograd.grad(x, values)[0] for x in (out.loss, plain))
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chosen", [{}, {"clip": 0.5}, {"clip": 0.5, "kind": "huber", "huber_delta": 0.4}])
def test_finite_differences(form, chosen):
    rows, values, returns, old = batch(3)
    chosen = {"clip": None} | chosen
    assert torch.autograd.gradcheck(lambda v: call(v, returns, old, rows, chosen).loss, (values,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inside_the_clip_no_rounding_stops_the_gradient(form, dtype):
    # old + (value - old) is not always value: nothing may be counted as clipped for that.
    torch.manual_seed(0)
    rows = Rows([0], [4000])
    values = torch.randn(4000).to(dtype).requires_grad_()
    old = (values.detach().float() + 0.4 * (torch.rand(4000) - 0.5)).double()
    returns = torch.randn(4000)
    out = value_loss(values, returns, rows, normalizer=Normalizer.local(rows), old_values=old, clip=0.5)
    assert out.metrics["value_clip"] == 0
    assert (torch.autograd.grad(out.loss, values)[0] != 0).all()


def test_levels_of_the_returns(form):
    rows, values, _, _ = batch(4)
    norm = Normalizer.local(rows)
    per_rollout = np.arange(rows.n_rollouts) + 1.0
    per_row = per_rollout[rows.rollouts.index]
    tokens = rows.expand(per_rollout)
    same = [
        value_loss(values, x, rows, normalizer=norm, level=level).loss
        for x, level in [
            (per_rollout, "rollout"),
            (per_row.tolist(), "row"),
            (torch.tensor(per_row), "row"),
            (tokens, None),
            (torch.tensor(tokens.values), "token"),
            (tokens.to_padded(7), None),
        ]
    ]
    assert all(torch.equal(x, same[0]) for x in same)


def test_padded_and_packed_agree_and_nothing_is_read_behind_the_mask(form):
    rows, values, returns, old = batch(5)
    inside = rows.mask != 0

    def pad(x):
        hidden = torch.where(torch.tensor(inside), torch.as_tensor(x).detach(), torch.nan)
        return Ragged(hidden, rows.offsets).to_padded(9, fill=float("nan"))

    chosen = {"clip": 0.5}
    packed = call(values, returns, old, rows, chosen)
    wide = pad(values).requires_grad_()
    made = call(wide, pad(returns), pad(old), rows, chosen)
    torch.testing.assert_close(made.loss, packed.loss, rtol=1e-14, atol=0)
    torch.testing.assert_close(made.metrics.values_tensor, packed.metrics.values_tensor, rtol=1e-13, atol=1e-15)
    g = torch.autograd.grad(made.loss, wide)[0]
    assert (g[np.arange(9) >= rows.lengths[:, None]] == 0).all()
    flat = Ragged.from_padded(g, lengths=rows.lengths).values
    torch.testing.assert_close(flat, torch.autograd.grad(packed.loss, values)[0], rtol=1e-13, atol=1e-16)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_parts_add_up(seed, data):
    rows, values, returns, old = batch(seed)
    norm = Normalizer.local(rows).under(grad_reduce="mean", ranks=2)
    chosen = {"clip": 0.5}
    whole = call(values, returns, old, rows, chosen, normalizer=norm)
    part_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    parts = []
    for part in range(3):
        picked = np.flatnonzero(part_of == part)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        parts.append(call(values[at], returns[at], old[at], rows.take(picked), chosen, normalizer=norm))
    total = sum(part.loss for part in parts)
    torch.testing.assert_close(total, whole.loss, rtol=1e-12, atol=1e-14)
    made, expected = (torch.autograd.grad(x, values)[0] for x in (total, whole.loss))
    torch.testing.assert_close(made, expected, rtol=1e-13, atol=1e-16)
    merged = LossMetrics.merge([part.metrics for part in parts])
    torch.testing.assert_close(merged.values_tensor, whole.metrics.values_tensor, rtol=1e-12, atol=1e-14)
    assert whole.metrics["value_loss"].item() == pytest.approx(whole.loss.item() / 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes(form, dtype):
    rows, values, returns, old = batch(6, n_rows=30)
    leaf = values.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = call(leaf, returns, old, rows, {"clip": 0.5})
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = call(leaf.detach().double(), returns, old, rows, {"clip": 0.5})
    assert out.loss.item() == pytest.approx(exact.loss.item(), rel=1e-6)
    assert torch.autograd.grad(out.loss, leaf)[0].dtype == dtype


def test_extreme_and_nan_values(form):
    rows = Rows([0, 1], [2, 1])
    norm = Normalizer.local(rows)
    values = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    zeros = torch.zeros(3)
    out = value_loss(values, zeros, rows, normalizer=norm, level="token", kind="huber", huber_delta=1.0)
    assert torch.autograd.grad(out.loss, values)[0].tolist() == pytest.approx([1 / 3, -1 / 3, 0])
    out = value_loss(values, zeros, rows, normalizer=norm, level="token", old_values=zeros, clip=0.5)
    assert out.loss.item() == pytest.approx(1e8 / 3)
    broken = torch.tensor([torch.nan, 0.0, 1.0], requires_grad=True)
    out = value_loss(broken, zeros, rows, normalizer=norm, level="token", old_values=zeros, clip=0.5)
    assert out.loss.isnan()
    assert torch.autograd.grad(out.loss, broken)[0].isnan().tolist() == [True, False, False]


@pytest.mark.parametrize("rows", [Rows([], []), Rows(["a", "b"], [2, 0], mask=[0, 0])])
def test_nothing_trained(form, rows):
    values = torch.full((int(rows.offsets[-1]),), float("nan"), requires_grad=True)
    out = value_loss(values, np.zeros(rows.n_rollouts), rows, normalizer=Normalizer.local(rows), level="rollout")
    assert set(out.metrics.to_dict().values()) == {0.0}
    assert out.loss.item() == 0
    assert (torch.autograd.grad(out.loss, values)[0] == 0).all()
    assert explained_variance(out.metrics).isnan()


def test_explained_variance():
    rows = Rows([0], [4])
    norm = Normalizer.local(rows)

    def of(values, returns):
        metrics = value_loss(torch.tensor(values), returns, rows, normalizer=norm, level="token").metrics
        return explained_variance(metrics).item()

    assert of([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]) == 1
    assert of([7.0, 7.0, 7.0, 7.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(0, abs=1e-12)
    assert of([4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(-3)
    # A constant offset of the values explains as much.
    assert of([3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(1)
    assert math.isnan(of([1.0, 2.0, 3.0, 4.0], [0.1, 0.1, 0.1, 0.1]))
    # A spread that is small beside the mean is still told from rounding.
    assert of([10.0, 10.0, 10.0, 10.0], [10.0, 10.001, 10.0, 10.001]) == pytest.approx(0, abs=1e-6)


ROWS = Rows(["a", "b"], [3, 1])
X = torch.zeros(4)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"values": [0.0] * 4}, TypeError, "'values' must be a float tensor, packed, jagged or padded, got an object"),
        ({"values": X[:3]}, ValueError, r"'values' must have shape \(4,\) \(= positions of rows\) or \(2, T\)"),
        ({"rows": None}, TypeError, "'rows' must be Rows, got an object of type NoneType"),
        ({"returns": X[:3]}, ValueError, r"'returns' must have shape \(2,\) \(= rollouts\), \(2,\) \(= rows\), \(4,\)"),
        ({"returns": X.clone().requires_grad_()}, ValueError, "'returns' requires grad, but it is a constant of the"),
        ({"returns": [1.0, math.nan]}, ValueError, "'returns' must be finite in float32 where tokens are trained, got"),
        ({"returns": ["a", "b"]}, TypeError, "'returns' must hold floats, ints or bools, got <U1"),
        ({"level": "prompt"}, ValueError, "'level' must be one of 'rollout', 'row', 'turn', 'token', got 'prompt'"),
        ({"old_values": X}, ValueError, "'old_values' and 'clip' go together; give both or neither"),
        ({"clip": 0.2}, ValueError, "'old_values' and 'clip' go together"),
        ({"old_values": X[:2], "clip": 0.2}, ValueError, r"'old_values' must have shape \(4,\) \(= tokens\)"),
        ({"old_values": X, "clip": 0}, ValueError, "'clip' must be finite and positive, got 0"),
        ({"kind": "l1"}, ValueError, "'kind' must be one of 'squared', 'huber', got 'l1'"),
        ({"huber_delta": -1}, ValueError, "'huber_delta' must be finite and positive, got -1"),
        ({"huber_delta": None}, TypeError, "'huber_delta' must be a number"),
        ({"aggregation": 1}, TypeError, "'aggregation' must be a name or an Aggregation"),
        ({"normalizer": None}, TypeError, "'normalizer' must be a Normalizer"),
    ],
)
def test_errors(arguments, error, match):
    made = {"values": X, "returns": [0.0, 0.0], "rows": ROWS, "normalizer": Normalizer.local(ROWS)} | arguments
    with pytest.raises(error, match=rf"value_loss\(\): {match}"):
        value_loss(made.pop("values"), made.pop("returns"), made.pop("rows"), **made)


@pytest.mark.parametrize(
    ("metrics", "error", "match"),
    [
        ({"loss": 1.0}, TypeError, "'metrics' must be LossMetrics of value_loss, got an object of type dict"),
        (
            LossMetrics({"loss": torch.zeros(())}),
            ValueError,
            "'metrics' must be those of value_loss, got none named 'return'",
        ),
    ],
)
def test_errors_of_explained_variance(metrics, error, match):
    with pytest.raises(error, match=rf"explained_variance\(\): {match}"):
        explained_variance(metrics)
