"""Outputs and options of vocab.row_stats against the oracle, and what each option promises."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

from rollmath import vocab  # noqa: E402

ALL = vocab.RowStats._fields


@st.composite
def calls(draw):
    """Logits and every option, present or not."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    numbers = st.one_of(st.floats(-50, 50), st.just(-np.inf), st.floats(9_990, 10_000))
    x = draw(hnp.arrays(np.float64, shape, elements=numbers))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, v = shape
    one = draw(st.booleans())
    options = {
        "temperature": draw(st.floats(0.1, 10)) if one else rng.uniform(0.1, 10, n),
        "softcap": draw(st.one_of(st.none(), st.floats(1, 60))),
        "mask": rng.random(n) < 0.7 if draw(st.booleans()) else None,
        "ignore_index": draw(st.one_of(st.none(), st.just(0), st.just(-100))),
        "ids": rng.integers(0, v, (n, draw(st.integers(1, 3)))),
        "allowed": None,
    }
    if draw(st.booleans()):
        options["allowed"] = [np.flatnonzero(rng.random(v) < 0.6).tolist() for _ in range(n)]
    labels = rng.integers(0, v, n)
    if options["ignore_index"] is not None:
        labels[rng.random(n) < 0.3] = options["ignore_index"]
    return x, labels, options


def torch_options(options, dtype=torch.float64):
    made = {name: torch.tensor(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    if options["allowed"] is not None:
        made["allowed"] = vocab.TokenSets.of_lists(options["allowed"])
    return made


@given(calls())
def test_everything_agrees_with_the_oracle(oracle, call):
    x, labels, options = call
    made = torch_options(options)
    stats = vocab.row_stats(torch.tensor(x), torch.tensor(labels), outputs=ALL, **made)
    expected = oracle("vocab/row_stats.py", "row_stats")(x, labels, **options)
    # Without a distribution the argmax says nothing.
    some = ~np.isnan(expected["entropy"])
    assert (stats.argmax.numpy() == expected["argmax"])[some].all()
    for name in set(ALL) - {"argmax"}:
        np.testing.assert_allclose(getattr(stats, name), expected[name], rtol=1e-11, atol=3e-11, err_msg=name)
    del options["ids"], made["ids"]
    lp = vocab.logprobs(torch.tensor(x), torch.tensor(labels), **made)
    np.testing.assert_allclose(lp, oracle("vocab/logprobs.py", "logprobs")(x, labels, **options), atol=1e-10)


@given(calls())
def test_parts_of_the_vocabulary_merge(call):
    from rollmath.vocab import _torch_rows as rows

    x, labels, options = call
    x, labels, made = torch.tensor(x), torch.tensor(labels), torch_options(options)
    v = x.shape[1]
    t, sets = made.pop("temperature"), made.pop("allowed")
    made["inv_temperature"] = t.reciprocal() if isinstance(t, torch.Tensor) else 1 / t
    made["allowed"] = None if sets is None else (sets.ids, sets.offsets)
    whole = rows.forward(x, labels, outputs=ALL, **made)
    cuts = [0, v // 3, v // 3, v, v + 2]
    # One part has no columns, and the last lies beyond the vocabulary.
    wide = torch.cat([x, torch.full((len(x), 2), torch.nan, dtype=x.dtype)], 1)
    parts = [rows.partials(wide[:, a:b], labels, outputs=ALL, first=a, total=v, **made) for a, b in pairwise(cuts)]
    given = {name: made[name] for name in ("mask", "ignore_index", "ids")}
    merged = rows.merge(torch.stack(parts), labels, outputs=ALL, total=v, **given)
    live = ~whole["log2_l"].isneginf()
    for name in (*ALL, "log2_l"):
        a, b = merged[name], whole[name]
        if name == "argmax":
            a, b = a[live], b[live]
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, equal_nan=True, msg=name)
    grads = {name: torch.ones_like(whole[name]) for name in ALL if name != "argmax"}
    grads["entropy"] = torch.full_like(grads["entropy"], 0.3)
    expected = rows.backward(x, labels, whole, grads, **made)
    pieces = [rows.backward(wide[:, a:b], labels, merged, grads, first=a, total=v, **made) for a, b in pairwise(cuts)]
    found = torch.cat(pieces, 1)
    assert (found[:, v:] == 0).all()
    torch.testing.assert_close(found[live, :v], expected[live], rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0, 1000, -1000])
def test_narrow_parts_lose_nothing(dtype, offset):
    from rollmath.vocab import _torch_rows as rows

    torch.manual_seed(3)
    x = (torch.randn(16, 600) * 3 + offset).to(dtype)
    labels, ids = torch.randint(600, (16,)), torch.randint(600, (16, 2))
    options = {"outputs": ALL, "inv_temperature": 1 / 0.7, "ids": ids}
    parts = [rows.partials(x[:, a : a + 200], labels, first=a, total=600, **options) for a in (0, 200, 400)]
    merged = rows.merge(torch.stack(parts), labels, outputs=ALL, total=600, ids=ids)
    exact = rows.forward(x.double(), labels, **options)
    assert torch.equal(merged["argmax"], exact["argmax"])
    for name in ("logprob", "entropy", "sum_p_squared", "var_logprob", "p_max", "mean_logprob", "gathered"):
        # One rounding of a result, and 1e-6.
        bound = 1e-6 + exact[name].abs() * 1.2e-7
        assert ((merged[name].double() - exact[name]).abs() <= bound).all(), name


def test_masked_rows_are_zero_whatever_they_hold():
    x = torch.randn(3, 4)
    x[1] = torch.nan
    x.requires_grad_()
    mask = torch.tensor([True, False, True])
    # The label of a masked row is not looked at.
    stats = vocab.row_stats(x, torch.tensor([0, -100, 3]), outputs=ALL, mask=mask, ids=torch.tensor([[1], [9], [2]]))
    assert all((s[1] == 0).all() for s in stats)
    sum(s.sum() for name, s in stats._asdict().items() if name != "argmax").backward()
    assert (x.grad[1] == 0).all()
    assert torch.isfinite(x.grad).all()
    kept = vocab.row_stats(x[mask], torch.tensor([0, 3]), outputs=ALL, ids=torch.tensor([[1], [2]]))
    for a, b in zip(stats, kept, strict=True):
        assert torch.equal(a[mask], b)


@pytest.mark.parametrize("width", [7, 4000])
@pytest.mark.parametrize("rows", [1, 9])
def test_a_mask_changes_no_bit_of_other_rows(width, rows):
    torch.manual_seed(4)
    x, y = torch.randn(rows, width), torch.randint(width, (rows,))
    mask = torch.rand(rows) < 0.6
    mask[0] = True
    a = x.clone().requires_grad_()
    b = x.clone().requires_grad_()
    some, every = vocab.row_stats(a, y, mask=mask), vocab.row_stats(b, y)
    (some.logprob + some.entropy).sum().backward()
    (every.logprob + every.entropy)[mask].sum().backward()
    assert torch.equal(some.entropy, every.entropy.where(mask, 0))
    assert torch.equal(some.logprob, every.logprob.where(mask, 0))
    assert torch.equal(a.grad, b.grad)


def test_one_long_row_has_the_bits_it_has_among_others():
    # Torch shares the sum of a single long row among its threads.
    x, y = torch.randn(3, 100_000), torch.tensor([5, 6, 7])
    together = vocab.row_stats(x, y, outputs=ALL[:-1])
    for i in range(3):
        alone = vocab.row_stats(x[i : i + 1], y[i : i + 1], outputs=ALL[:-1])
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together[:-1], alone[:-1], strict=True))


def test_an_ignored_label_may_be_a_token():
    x = torch.randn(3, 5, requires_grad=True)
    stats = vocab.row_stats(x, torch.tensor([2, 1, 2]), outputs=("logprob", "lse"), ignore_index=2)
    assert stats.logprob[[0, 2]].tolist() == [0, 0]
    (stats.logprob.sum() + stats.lse[2]).backward()
    assert (x.grad[0] == 0).all()
    torch.testing.assert_close(x.grad[2], torch.softmax(x.detach()[2], 0))


def test_a_softcap_keeps_infinities():
    x = torch.tensor([[1.0, -torch.inf, 2.0], [1.0, torch.inf, 0.0]], requires_grad=True)
    stats = vocab.row_stats(x, torch.tensor([1, 0]), softcap=2.0)
    assert stats.logprob[0] == -torch.inf
    assert torch.isfinite(stats.entropy[0])
    assert stats.logprob[1].isnan()
    stats.entropy[0].backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad[0, 1] == 0


def test_allowed_sets_of_every_kind():
    x = torch.randn(5, 6, requires_grad=True)
    sets = vocab.TokenSets.of_lists([[0, 1, 2, 3, 4, 5], [5, 2], [3], [], [1, 4]])
    stats = vocab.row_stats(x, torch.tensor([0, 2, 3, 1, 0]), outputs=("logprob", "entropy", "argmax"), allowed=sets)
    plain = vocab.row_stats(x, torch.tensor([0] * 5))
    torch.testing.assert_close(stats.entropy[0], plain.entropy[0])
    torch.testing.assert_close(stats.logprob[1], torch.log_softmax(x[1, [2, 5]], 0)[0])
    assert (stats.logprob[2], stats.entropy[2], stats.argmax[2]) == (0, 0, 3)
    assert stats.logprob[3].isnan()
    assert stats.logprob[4] == -torch.inf
    (stats.logprob[1] + stats.logprob[2] + 2 * stats.entropy[1]).backward()
    assert (x.grad[:, [0, 1, 3, 4]] == 0).all()
    assert x.grad[1].sum().abs() < 1e-6
    assert (x.grad[[0, 2, 3, 4]] == 0).all()


def test_a_token_may_be_gathered_twice():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[3, 3], [0, 4]])
    got = vocab.row_stats(x, outputs=("gathered",), ids=ids).gathered
    torch.testing.assert_close(got, torch.log_softmax(x, 1).gather(1, ids))
    (a,) = torch.autograd.grad(got.sum(), x)
    (b,) = torch.autograd.grad(torch.log_softmax(x, 1).gather(1, ids).sum(), x)
    torch.testing.assert_close(a, b)


def test_the_first_of_equal_logits_is_the_argmax():
    x = torch.zeros(2, 50)
    x[1, [7, 30]] = 1
    assert vocab.row_stats(x, outputs=("argmax",)).argmax.tolist() == [0, 7]


def test_autocast_changes_nothing():
    x, y = torch.randn(3, 40), torch.tensor([1, 2, 3])
    plain = vocab.row_stats(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        cast = vocab.row_stats(x, y)
    assert torch.equal(plain.logprob, cast.logprob)
    assert torch.equal(plain.entropy, cast.entropy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_results_are_float32_or_wider(dtype):
    stats = vocab.row_stats(torch.zeros(2, 3, dtype=dtype), torch.tensor([0, 1]), outputs=("logprob", "argmax"))
    assert stats.logprob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert stats.argmax.dtype == torch.int64
