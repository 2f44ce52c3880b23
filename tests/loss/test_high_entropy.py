"""loss.entropy_threshold and loss.entropy_mask."""

import math

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.loss import _high_entropy, entropy_mask, entropy_threshold  # noqa: E402

ENTROPIES = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.floats(0, 12, width=32))
PARTS = st.lists(st.lists(ENTROPIES, max_size=8), max_size=6)
LEVELS = st.one_of(st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.floats(0, 1))
METHODS = st.sampled_from(["linear", "lower", "higher"])


def test_by_hand():
    parts = [[0.1, 2.0, 0.2], [0.3, 0.4, 1.5]]
    # In order 0.1 0.2 0.3 0.4 1.5 2.0; 0.5 is between the ranks 2 and 3.
    assert entropy_threshold(parts, quantile=0.5) == pytest.approx(0.35)
    assert entropy_threshold(parts, quantile=0.5, method="lower") == 0.3
    assert entropy_threshold(parts, quantile=0.5, method="higher") == 0.4
    assert [entropy_threshold(parts, quantile=q) for q in (0.0, 1.0)] == [0.1, 2.0]
    assert entropy_mask([[0.1, 0.4], [1.5, np.nan]], 0.4).tolist() == [[False, True], [True, False]]


@given(PARTS, LEVELS, METHODS)
def test_the_oracle(oracle, tolerance, parts, quantile, method):
    expected = oracle("loss/high_entropy.py", "entropy_threshold")(parts, quantile=quantile, method=method)
    got = entropy_threshold((np.array(p) for p in parts), quantile=quantile, method=method)
    assert type(got) is float
    np.testing.assert_allclose(got, expected, **tolerance("float64"))


@given(st.lists(ENTROPIES, min_size=1, max_size=30), LEVELS, METHODS)
def test_numpy(entropies, quantile, method):
    rank = quantile * (len(entropies) - 1)
    # NumPy takes a rank that is whole but for rounding as it is.
    assume(rank == round(rank) or abs(rank - round(rank)) > 1e-9)
    expected = np.quantile(np.array(entropies), quantile, method=method)
    got = entropy_threshold([entropies], quantile=quantile, method=method)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@given(st.lists(st.floats(0, 12), max_size=20), st.floats(0, 12))
def test_the_oracle_of_the_mask(oracle, entropies, threshold):
    expected = oracle("loss/high_entropy.py", "entropy_mask")(entropies, threshold)
    assert entropy_mask(np.array(entropies), threshold).tolist() == expected


@given(st.lists(ENTROPIES, min_size=1, max_size=40), LEVELS, METHODS, st.randoms(), st.lists(st.integers(0, 40)))
def test_any_order_and_any_split_give_the_same_bits(same_bits, entropies, quantile, method, random, cuts):
    one = entropy_threshold([entropies], quantile=quantile, method=method)
    shuffled = random.sample(entropies, len(entropies))
    parts = np.split(np.array(shuffled), sorted(min(c, len(shuffled)) for c in cuts))
    same_bits(one, entropy_threshold(parts, quantile=quantile, method=method))
    assert math.copysign(1.0, one) == 1.0 or one < 0


@given(st.lists(st.floats(0, 12, width=32), min_size=1, max_size=40), LEVELS)
def test_how_many_tokens_are_kept(entropies, quantile):
    x = np.array(entropies, dtype=np.float32)
    kept = {m: entropy_mask(x, entropy_threshold([x], quantile=quantile, method=m)).sum() for m in ("linear", "higher")}
    # Those above the quantile, and all that tie with the last of them; never none.
    assert kept["linear"] == kept["higher"] >= len(x) - math.ceil(quantile * (len(x) - 1)) >= 1
    assert entropy_mask(x, entropy_threshold([x], quantile=0.0)).all()
    assert entropy_mask(x, entropy_threshold([x], quantile=1.0)).sum() == (x == x.max()).sum()


def test_a_threshold_between_two_float32_numbers():
    low, high = 1.0, float(np.nextafter(np.float32(1.0), np.float32(2.0)))
    x = np.array([low, high], dtype=np.float32)
    threshold = entropy_threshold([x], quantile=0.25)
    assert low < threshold < high
    # In float32 the threshold is rounded to the lower one, which would be kept.
    assert np.float32(threshold) == low
    assert entropy_mask(x, threshold).tolist() == [False, True]
    assert entropy_mask(torch.tensor(x), threshold).tolist() == [False, True]


def test_a_threshold_of_each_part_is_another_one():
    dull, lively = np.linspace(0, 0.1, 100), np.linspace(1, 3, 100)
    both = entropy_threshold([dull, lively], quantile=0.8)
    assert [entropy_mask(x, both).sum() for x in (dull, lively)] == [0, 40]
    assert [entropy_mask(x, entropy_threshold([x], quantile=0.8)).sum() for x in (dull, lively)] == [20, 20]


def test_kinds_and_no_mutation(same_bits):
    x = np.array([3.0, 1.0, 2.0, 0.5, 2.5], dtype=np.float32)
    before = x.copy()
    expected = entropy_threshold([x], quantile=0.3)
    for parts in (
        (x,),
        iter([x[:2], x[2:]]),
        {0: x[:1], 1: x[1:]}.values(),
        [x[:1].tolist(), torch.tensor(x[1:], requires_grad=True)],
        [torch.tensor(x).bfloat16()],
        [x[:3].astype(np.float64), x[3:].astype(np.float16)],
        [[], x, np.empty(0)],
    ):
        same_bits(expected, entropy_threshold(parts, quantile=0.3))
    tensor = torch.tensor(x)
    entropy_threshold([tensor], quantile=0.3)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(tensor.numpy(), before)
    assert entropy_threshold([[1, 3]], quantile=0.5) == 2.0


def test_without_tokens_nothing_is_kept():
    for parts in ([], [[]], [np.empty(0), torch.empty(0)]):
        assert entropy_threshold(parts, quantile=0.8) == math.inf
    assert not entropy_mask([0.0, 100.0], math.inf).any()
    assert entropy_mask([0.0, 100.0], -math.inf).all()


def test_more_tokens_than_float32_can_count():
    n = 2**24 + 3
    x = torch.arange(n, dtype=torch.float64).flip(0)
    for quantile in (0.5, 0.75):
        assert entropy_threshold([x[: n // 2], x[n // 2 :]], quantile=quantile) == (n - 1) * quantile


def test_a_rank_that_is_whole_but_for_rounding():
    # 0.8 and 1 - 0.2 are a little more than 4/5: the threshold must not be a little more than the entropy at the rank.
    for n in range(1, 3000, 5):
        x = np.sqrt(np.arange(n))
        for method in ("linear", "lower", "higher"):
            assert entropy_threshold([x], quantile=1 - 0.2, method=method) == x[4 * (n - 1) // 5]


@given(st.lists(ENTROPIES, min_size=1, max_size=40), st.data())
def test_the_path_of_other_devices(entropies, data):
    """There the ranks come from ``kthvalue``; here a tensor only says that it is elsewhere."""
    below = data.draw(st.integers(0, len(entropies) - 1))
    above = min(below + 1, len(entropies) - 1)

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    x = torch.tensor(entropies)
    got = _high_entropy._order_statistics(x.as_subclass(Elsewhere), below, above)
    assert got == _high_entropy._order_statistics(x, below, above)


@pytest.mark.gpu
def test_on_a_device():
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(1))
    threshold = entropy_threshold(x.split(30_000), quantile=0.8)
    assert entropy_threshold(x.cuda().split(30_000), quantile=0.8) == threshold
    mask = entropy_mask(x.cuda(), threshold)
    assert mask.is_cuda
    assert torch.equal(mask.cpu(), entropy_mask(x, threshold))
    with pytest.raises(ValueError, match=r"'entropy_parts\[1\]' must be on cpu \(= the first part\), got cuda"):
        entropy_threshold([x, x.cuda()], quantile=0.8)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: entropy_threshold(np.ones(3), quantile=0.8),
            TypeError,
            r"entropy_threshold\(\): 'entropy_parts' must be an iterable of 1-D arrays, got a 1-D float64 array; put",
        ),
        (
            lambda: entropy_threshold(torch.ones(3), quantile=0.8),
            TypeError,
            "got a 1-D float32 array; put one in a list",
        ),
        (lambda: entropy_threshold(3.0, quantile=0.8), TypeError, "got an object of type float"),
        (lambda: entropy_threshold("ab", quantile=0.8), TypeError, "got an object of type str"),
        (
            lambda: entropy_threshold([1.0, 2.0], quantile=0.8),
            TypeError,
            r"'entropy_parts\[0\]' must be 1-D, got a 0-D float64 array",
        ),
        (
            lambda: entropy_threshold([[1.0], np.ones((1, 2))], quantile=0.8),
            TypeError,
            r"'entropy_parts\[1\]' must be 1-D, got a 2-D float64 array",
        ),
        (
            lambda: entropy_threshold([[1.0], [0.5, np.nan]], quantile=0.8),
            ValueError,
            r"'entropy_parts\[1\]' must be finite, got nan",
        ),
        (
            lambda: entropy_threshold([[np.inf]], quantile=0.8),
            ValueError,
            r"'entropy_parts\[0\]' must be finite, got inf",
        ),
        (
            lambda: entropy_threshold([["a"]], quantile=0.8),
            TypeError,
            r"'entropy_parts\[0\]' must hold floats, ints or bools, got <U1",
        ),
        (lambda: entropy_threshold([[1.0]], quantile=80), ValueError, "'quantile' must be between 0 and 1, got 80"),
        (
            lambda: entropy_threshold([[1.0]], quantile=0.8, method="nearest"),
            ValueError,
            "'method' must be one of 'linear', 'lower', 'higher', got 'nearest'",
        ),
        (
            lambda: entropy_mask([1.0], np.nan),
            ValueError,
            r"entropy_mask\(\): 'threshold' must be a number that is not NaN",
        ),
        (
            lambda: entropy_mask([1.0], [1.0]),
            TypeError,
            r"entropy_mask\(\): 'threshold' must be a number, got an object",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_parts_on_two_devices(monkeypatch):
    """Said before anything is joined; on a machine without a second device, by a column that claims one."""
    real, devices = _high_entropy.read, iter(["cpu", "meta"])

    def read(who, name, x, ranks):
        column = real(who, name, x, ranks)
        return type(column)(column.values.to(next(devices)))

    monkeypatch.setattr(_high_entropy, "read", read)
    with pytest.raises(ValueError, match=r"'entropy_parts\[1\]' must be on cpu \(= the first part\), got meta"):
        entropy_threshold([[1.0], [2.0]], quantile=0.8)
