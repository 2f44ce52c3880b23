"""loss.aggregate: any numbers a token, weighted as in policy_loss."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Aggregation,
    EntropyBonus,
    Normalizer,
    _places,
    aggregate,
    policy_loss,
)
from rollmath.loss import _token_values as core  # noqa: E402

FORMS = {"in pieces": core._in_pieces, "at once": core._at_once}
NAMES = {
    "token_mean": (None, "sum"),
    "token_sum": (None, "sum"),
    "seq_mean_token_mean": ("row", "mean"),
    "seq_mean_token_sum": ("row", "sum"),
    "rollout_mean_token_mean": ("rollout", "mean"),
    "rollout_mean_token_sum": ("rollout", "sum"),
    "prompt_mean_token_mean": ("prompt", "mean"),
    "prompt_mean_token_sum": ("prompt", "sum"),
}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    monkeypatch.setattr(core, "_in_pieces", FORMS[request.param])
    return request.param


def batch(seed, n_rows=6):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, n_rows)
    total = int(lengths.sum())
    rows = Rows(rng.integers(0, 4, n_rows), lengths, mask=rng.random(total) < 0.7)
    x = torch.tensor(rng.standard_normal(total), requires_grad=True)
    prompts = rng.integers(0, 2, rows.n_rollouts)
    return rows, x, prompts


def pad(x, rows, width=9):
    return Ragged(x.detach(), rows.offsets).to_padded(width, fill=float("nan"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("made", FORMS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 2))
def test_agrees_with_the_oracle(oracle, made, name, seed, coef):
    rows, x, prompts = batch(seed)
    norm = Normalizer.local(rows, prompts=prompts)
    unit, within = NAMES[name]
    index = rows.rollouts.index
    units = {None: None, "row": list(range(rows.n_rows)), "rollout": index.tolist(), "prompt": prompts[index].tolist()}
    counted = {None: norm.tokens, "row": norm.rows, "rollout": norm.rollouts, "prompt": norm.prompts}[unit]
    counted = 1 if name == "token_sum" else max(counted, 1)
    lists = [Ragged(v, rows.offsets).to_lists() for v in (x.detach().numpy(), rows.mask)]
    loss, gradient = oracle("loss/aggregate_values.py", "aggregate")(*lists, units[unit], within, counted, coef=coef)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "_in_pieces", FORMS[made])
        out = aggregate(x, rows, normalizer=norm, aggregation=name, coef=coef)
    assert out.item() == pytest.approx(loss, rel=1e-12, abs=1e-13)
    flat = np.array([g for row in gradient for g in row])
    np.testing.assert_allclose(torch.autograd.grad(out, x)[0], flat, rtol=1e-12, atol=1e-15)


def test_the_vectors(form, vectors):
    data = vectors("flat")["agg"]
    mask = np.array(data["mask"])
    rows = Rows([0, 1], mask.sum(1))
    x, norm = torch.tensor(data["loss"], dtype=torch.float64), Normalizer.local(rows)
    for name in ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum"):
        assert aggregate(x, rows, normalizer=norm, aggregation=name).item() == pytest.approx(data[name], rel=1e-15)
    dr_grpo = Aggregation(unit="row", within="sum", divisor=4)
    assert aggregate(x, rows, normalizer=norm, aggregation=dr_grpo).item() == pytest.approx(data["dr_const"], rel=1e-15)


def test_finite_differences(form):
    rows, x, _ = batch(2)
    norm = Normalizer.local(rows)
    assert torch.autograd.gradcheck(lambda x: 2 * aggregate(x, rows, normalizer=norm, coef=0.3), (x,))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(NAMES)), st.data())
def test_parts_add_up(seed, name, data):
    rows, x, prompts = batch(seed)
    norm = Normalizer.local(rows, prompts=prompts).under(grad_reduce="mean", ranks=4, accumulation=3)
    whole = aggregate(x, rows, normalizer=norm, aggregation=name)
    part_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    # Rows of a rollout may be apart: the normalizer knows the whole of it.
    parts = []
    for part in range(3):
        picked = np.flatnonzero(part_of == part)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        parts.append(aggregate(x[at], rows.take(picked), normalizer=norm, aggregation=name))
    torch.testing.assert_close(sum(parts), whole, rtol=1e-12, atol=1e-13)
    made, expected = (torch.autograd.grad(y, x)[0] for y in (sum(parts), whole))
    torch.testing.assert_close(made, expected, rtol=1e-13, atol=1e-15)
    one = aggregate(x, rows, normalizer=norm.under(), aggregation=name)
    torch.testing.assert_close(whole, 12 * one, rtol=1e-13, atol=1e-15)


def test_it_is_the_weight_that_policy_loss_has(form):
    rows, x, _ = batch(4)
    norm = Normalizer.local(rows)
    theta = torch.zeros_like(x, requires_grad=True)
    for name in ("token_mean", "rollout_mean_token_mean"):
        bonus = EntropyBonus(x, coef=-0.2)
        zeros = np.zeros(rows.n_rollouts)
        other = policy_loss(
            LogProbs(theta), zeros, rows, PPO(), normalizer=norm, entropy=bonus, aggregation=name, level="rollout"
        )
        mine = aggregate(x, rows, normalizer=norm, aggregation=name, coef=0.2)
        torch.testing.assert_close(mine, other.loss, rtol=1e-13, atol=0)
        made, expected = (torch.autograd.grad(y, x)[0] for y in (mine, other.loss))
        torch.testing.assert_close(made, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_padded_packed_and_jagged_agree_and_gaps_are_not_read(form, poison):
    rows, x, _ = batch(5)
    norm = Normalizer.local(rows)
    expected = aggregate(x, rows, normalizer=norm)
    (g,) = torch.autograd.grad(expected, x)
    packed = torch.where(torch.tensor(rows.mask != 0), x.detach(), poison).requires_grad_()
    made = aggregate(packed, rows, normalizer=norm)
    torch.testing.assert_close(made, expected, rtol=1e-14, atol=0)
    assert torch.equal(torch.autograd.grad(made, packed)[0], g)
    padded = pad(packed, rows).requires_grad_()
    made = aggregate(padded, rows, normalizer=norm)
    torch.testing.assert_close(made, expected, rtol=1e-14, atol=0)
    wide = torch.autograd.grad(made, padded)[0]
    assert torch.equal(Ragged.from_padded(wide, lengths=rows.lengths).values, g)
    assert (wide[np.arange(9) >= rows.lengths[:, None]] == 0).all()
    leaf = packed.detach().clone().requires_grad_()
    jagged = torch.nested.nested_tensor_from_jagged(leaf, torch.tensor(rows.offsets))
    made = aggregate(jagged, rows, normalizer=norm)
    torch.testing.assert_close(made, expected, rtol=1e-14, atol=0)
    assert torch.equal(torch.autograd.grad(made, leaf)[0], g)


def test_a_value_that_is_not_finite_is_seen(form):
    rows = Rows([0, 1], [2, 1])
    x = torch.tensor([1.0, torch.nan, 2.0], requires_grad=True)
    out = aggregate(x, rows, normalizer=Normalizer.local(rows))
    assert out.isnan()
    assert torch.equal(torch.autograd.grad(out, x)[0], torch.full((3,), 1 / 3))


def test_many_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    rows = Rows(np.arange(50), rng.integers(0, 9, 50))
    x = torch.tensor(rng.standard_normal(int(rows.offsets[-1])), requires_grad=True)
    norm = Normalizer.local(rows)
    whole = aggregate(x, rows, normalizer=norm, aggregation="seq_mean_token_mean")
    monkeypatch.setattr(_places, "PIECE", 7)
    made = aggregate(x, rows, normalizer=norm, aggregation="seq_mean_token_mean")
    torch.testing.assert_close(made, whole, rtol=1e-13, atol=0)
    assert torch.equal(*(torch.autograd.grad(y, x)[0] for y in (made, whole)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(form, dtype):
    rows, x, _ = batch(6, n_rows=30)
    leaf = x.detach().to(dtype).requires_grad_()
    norm = Normalizer.local(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = aggregate(leaf, rows, normalizer=norm)
    assert out.dim() == 0
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = leaf.detach().double()[torch.tensor(rows.mask != 0)].mean()
    assert out.item() == pytest.approx(exact.item(), rel=1e-6, abs=1e-8)
    out.backward()
    assert leaf.grad.dtype == dtype


def test_constants_and_no_grad(form):
    rows, x, _ = batch(7)
    norm = Normalizer.local(rows)
    assert not aggregate(x.detach(), rows, normalizer=norm).requires_grad
    with torch.no_grad():
        assert not aggregate(x, rows, normalizer=norm).requires_grad


@pytest.mark.parametrize("rows", [Rows([], []), Rows(["a", "b"], [2, 0], mask=[0, 0])])
def test_nothing_trained(form, rows):
    x = torch.full((int(rows.offsets[-1]),), float("nan"), requires_grad=True)
    out = aggregate(x, rows, normalizer=Normalizer.local(rows))
    assert out.item() == 0
    assert (torch.autograd.grad(out, x)[0] == 0).all()


def test_no_second_derivative():
    rows, x, _ = batch(8)
    out = aggregate(x, rows, normalizer=Normalizer.local(rows))
    with pytest.raises(RuntimeError, match=r"aggregate\(\) has no second derivative"):
        torch.autograd.grad(out, x, create_graph=True)


ROWS = Rows(["a", "b"], [3, 1])
NORM = Normalizer.local(ROWS)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"values": np.zeros(4)}, TypeError, "'values' must be a float tensor, packed, jagged or padded, got a 1-D"),
        ({"values": torch.zeros(4, dtype=torch.int64)}, TypeError, "'values' must be a float tensor"),
        (
            {"values": torch.zeros(3)},
            ValueError,
            r"'values' must have shape \(4,\) \(= positions of rows\) or \(2, T\)",
        ),
        ({"values": torch.zeros(2, 2)}, ValueError, r"'values' must have shape .* got \(2, 2\)"),
        (
            {"values": torch.nested.nested_tensor_from_jagged(torch.zeros(4), torch.tensor([0, 2, 4]))},
            ValueError,
            r"'values' as a jagged tensor must have the offsets of the rows, got 2 ",
        ),
        ({"rows": [3, 1]}, TypeError, "'rows' must be Rows, got an object of type list"),
        ({"normalizer": 4}, TypeError, "'normalizer' must be a Normalizer"),
        (
            {"normalizer": Normalizer(tokens=3, rows=2, rollouts=2)},
            ValueError,
            "'normalizer' must count the whole step",
        ),
        ({"aggregation": "mean"}, ValueError, "'aggregation' must be one of"),
        ({"coef": float("nan")}, ValueError, "'coef' must be finite, got nan"),
        ({"coef": None}, TypeError, "'coef' must be a number, got an object of type NoneType"),
    ],
)
def test_errors(arguments, error, match):
    given_ = {"values": torch.zeros(4), "rows": ROWS, "normalizer": NORM} | arguments
    with pytest.raises(error, match=rf"aggregate\(\): {match}"):
        aggregate(given_.pop("values"), given_.pop("rows"), **given_)
