"""Wrong calls name the argument, what was expected and what came; odd but right calls just work."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import ops

#: Every public function of one number a row, as (name, name of its first argument, call).
CALLS = [
    ("grpo", "rewards", rm.group.grpo),
    ("rloo", "rewards", rm.group.rloo),
    ("stats", "rewards", rm.group.stats),
    ("normalize", "x", ops.normalize),
    ("loo_mean", "x", ops.loo_mean),
    ("segment_sum", "x", ops.segment_sum),
    ("segment_mean", "x", ops.segment_mean),
    ("segment_var", "x", ops.segment_var),
    ("segment_std", "x", ops.segment_std),
    ("segment_min", "x", ops.segment_min),
    ("segment_max", "x", ops.segment_max),
    ("segment_quantile", "x", lambda x, g, **k: ops.segment_quantile(x, g, 0.5, **k)),
    ("segment_logmeanexp", "x", lambda x, g, **k: ops.segment_logmeanexp(x, g, 1.0, **k)),
    ("segment_broadcast", "x", ops.segment_broadcast),
    ("segment_weighted_mean", "x", lambda x, g, **k: ops.segment_weighted_mean(x, g, np.ones(len(g)), **k)),
]
functions = pytest.mark.parametrize(("who", "name", "call"), CALLS, ids=[c[0] for c in CALLS])
IDS = [0, 0, 1]

BAD_VALUES = [
    ([1.0, 2.0], ValueError, r"{} must have length 3 \(= len\(groups\)\), got 2"),
    ([], ValueError, r"{} must have length 3 \(= len\(groups\)\), got 0"),
    (1.0, TypeError, r"{} must be 1-D, got a 0-D float64 array of shape \(\)"),
    ([[1.0, 2.0, 3.0]], TypeError, r"{} must be 1-D, got a 2-D float64 array of shape \(1, 3\)"),
    (["a", "b", "c"], TypeError, r"{} must hold floats, ints or bools, got <U1"),
    (np.ones(3, dtype=complex), TypeError, r"{} must hold floats, ints or bools, got complex128"),
    (np.ones(3, dtype="M8[s]"), TypeError, r"{} must hold floats, ints or bools, got datetime64\[s\]"),
    ([1.0, None, 2.0], TypeError, r"{} must be an array of numbers, got an object of type list that NumPy cannot read"),
    ([[1.0], [1.0, 2.0], [3.0]], TypeError, r"{} must be an array of numbers, got an object of type list"),
    (None, TypeError, r"{} must be an array of numbers, got an object of type NoneType"),
    (np.array([1.0, None, 2.0], dtype=object), TypeError, r"{} must hold floats, ints or bools, got object"),
    (
        np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        TypeError,
        r"{} is a masked array, whose mask would be lost; pass its",
    ),
]
BAD_MASKS = [
    ([1, 0], ValueError, r"'valid' must have length 3 \(= len\(groups\)\), got 2"),
    (True, TypeError, r"'valid' must be 1-D, got a 0-D bool array"),
    ([[1, 0, 1]], TypeError, r"'valid' must be 1-D, got a 2-D int64 array"),
    ([1.0, 0.0, 1.0], TypeError, r"'valid' must be bool or integer \(nonzero = True\), got float64"),
    (["a", "b", "c"], TypeError, r"'valid' must be bool or integer \(nonzero = True\), got <U1"),
]


@functions
@pytest.mark.parametrize(("x", "error", "message"), BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_bad_values(who, name, call, x, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): " + message.format(f"'{name}'")):
        call(x, IDS)


@functions
@pytest.mark.parametrize(("valid", "error", "message"), BAD_MASKS, ids=range(len(BAD_MASKS)))
def test_bad_masks(who, name, call, valid, error, message):
    with pytest.raises(error, match=rf"^{who}\(\): {message}"):
        call([1.0, 2.0, 3.0], IDS, valid=valid)


@functions
def test_tensors_that_do_not_fit(who, name, call):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=rf"^{who}\(\): '{name}' requires grad, but no gradient .*; call .detach\(\)"):
        call(torch.ones(3, requires_grad=True), IDS)
    for x in (torch.ones(3).to_sparse(), torch.ones(3).to(torch.float8_e4m3fn)):
        with pytest.raises(
            TypeError, match=rf"^{who}\(\): '{name}' must be a dense tensor of a dtype that NumPy knows"
        ):
            call(x, IDS)
    with pytest.raises(TypeError, match=rf"^{who}\(\): '{name}' must hold floats, ints or bools, got complex64"):
        call(torch.ones(3, dtype=torch.complex64), IDS)


@functions
def test_no_rows_at_all(who, name, call):
    torch = pytest.importorskip("torch")
    for x, ids in [([], []), (np.zeros(0), np.zeros(0, int)), (np.zeros(0, "f4"), rm.Groups([])), ((), ())]:
        out = call(x, ids, valid=[])
        assert all(len(column) == 0 for column in (out if who == "stats" else [out]))
    if who != "stats":
        out = call(torch.zeros(0, dtype=torch.bfloat16), torch.zeros(0, dtype=torch.int64))
        assert (out.dtype, out.shape) == (torch.float32, (0,))
        assert call(np.zeros(0, "f4"), []).dtype == np.float32


@functions
def test_layouts_and_buffers_that_need_a_copy(who, name, call):
    torch = pytest.importorskip("torch")
    wide = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    wide.setflags(write=False)

    def column(out):
        return np.asarray(out.mean if who == "stats" else out)

    expected = column(call(wide[:, 1].copy(), IDS))
    unaligned = np.frombuffer(b"x" + wide[:, 1].tobytes(), dtype=np.float64, count=3, offset=1)
    for x in (
        wide[:, 1],
        wide[::-1, 1][::-1],
        wide[:, 1].astype(">f8"),
        unaligned,
    ):
        assert_allclose(column(call(x, IDS)), expected, rtol=0)
    assert_allclose(column(call(torch.tensor(wide.tolist()).double()[:, 1], IDS)), expected, rtol=0)


@functions
def test_a_mask_byte_of_two_is_true(who, name, call):
    torch = pytest.importorskip("torch")
    x = [1.0, 2.0, 7.0]
    two = np.array([2, 0, 2], dtype=np.uint8)

    def column(out):
        return np.asarray(out.mean if who == "stats" else out)

    expected = column(call(x, [0, 0, 0], valid=[True, False, True]))
    odd_tensor = torch.tensor([2, 0, 2], dtype=torch.uint8).view(torch.bool)
    masks = [two.view(bool), two, odd_tensor, two.astype(np.int64) * -8, np.array([256, 0, 1], dtype=np.int32)]
    for mask in [*masks, np.stack([two, two], axis=1)[:, 0].view(bool), [2, 0, 2]]:
        assert_allclose(column(call(x, [0, 0, 0], valid=mask)), expected, rtol=0)


@functions
def test_all_rows_left_out(who, name, call):
    out = call([math.nan, math.inf, 3.0], IDS, valid=[0, 0, 0])
    if who in {"grpo", "rloo", "normalize"}:
        assert out.tolist() == [0.0, 0.0, 0.0]
    elif who == "segment_sum":
        assert out.tolist() == [0.0, 0.0]
    else:
        assert np.isnan(out.mean if who == "stats" else out).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: rm.group.grpo([1.0], [0], scale="mean"),
            ValueError,
            "'scale' must be one of 'std', 'none', got 'mean'",
        ),
        (
            lambda: rm.group.grpo([1.0], [0], scale=np.ones(1)),
            ValueError,
            "'scale' must be one of 'std', 'none', got arr",
        ),
        (
            lambda: rm.group.grpo([1.0], [0], nan="skip"),
            ValueError,
            "'nan' must be one of 'raise', 'omit', 'propagate'",
        ),
        (
            lambda: rm.group.grpo([1.0], [0], singleton="raise"),
            ValueError,
            r"one valid member \(the group of row 0\); ch",
        ),
        (
            lambda: ops.segment_var([1.0], [0], ddof=-1),
            ValueError,
            "'ddof' must be a whole number from 0 to 1000, got -1",
        ),
        (
            lambda: ops.segment_std([1.0], [0], ddof="1"),
            TypeError,
            "'ddof' must be a whole number of at least 0, got '1'",
        ),
        (lambda: ops.segment_quantile([1.0], [0], 1.5), ValueError, r"'q' must be in \[0, 1\], got 1.5"),
        (lambda: ops.segment_quantile([1.0], [0], math.nan), ValueError, r"'q' must be in \[0, 1\], got NaN"),
        (
            lambda: ops.segment_quantile([1.0], [0], [0.5]),
            TypeError,
            "'q' must be a number, got an object of type list",
        ),
        (
            lambda: ops.segment_quantile([1.0], [0], 0.5, method="x"),
            ValueError,
            "'method' must be one of 'linear', .*'x'",
        ),
        (lambda: ops.segment_logmeanexp([1.0], [0], 0), ValueError, "'beta' must be finite and not 0, got 0"),
        (lambda: ops.segment_logmeanexp([1.0], [0], math.inf), ValueError, "'beta' must be finite and not 0, got inf"),
        (
            lambda: ops.segment_logmeanexp([1.0], [0], "1"),
            TypeError,
            "'beta' must be a number, got an object of type str",
        ),
        (
            lambda: ops.segment_weighted_mean([1.0], [0], [-1.0]),
            ValueError,
            "'weights' must be finite and not negative, ",
        ),
        (
            lambda: ops.segment_weighted_mean([1.0], [0], [math.nan]),
            ValueError,
            "'weights' must be finite and not negat",
        ),
        (lambda: ops.segment_weighted_mean([1.0], [0], [1, 2]), ValueError, "'weights' must have length 1 .*, got 2"),
        (lambda: ops.gather([1.0, 2.0], [0]), ValueError, r"'per_group' must have length 1 \(= n_groups\), got 2"),
        (lambda: ops.gather([[1.0]], [0]), TypeError, "'per_group' must be 1-D, got a 2-D float64 array"),
        (lambda: rm.set_num_threads(0), ValueError, "'n' must be between 1 and 512, got 0"),
        (lambda: rm.set_num_threads(513), ValueError, "'n' must be between 1 and 512, got 513"),
    ],
)
def test_options(call, error, message):
    with pytest.raises(error, match=rf"\(\): .*{message}"):
        call()


@pytest.mark.parametrize("n", [-1, 1.5, "2", None])
def test_a_wrong_number_of_threads_is_named(n):
    with pytest.raises((ValueError, TypeError), match=r"set_num_threads\(\): 'n' must be"):
        rm.set_num_threads(n)


def test_nan_is_named_where_it_is():
    x = np.ones(100_000, dtype=np.float32)
    x[[70_001, 90_000]] = np.nan, np.inf
    with pytest.raises(
        ValueError, match=r"grpo\(\): 'rewards' must be finite, got NaN at index 70001; leave the row out"
    ):
        rm.group.grpo(x, np.arange(100_000) // 8)


def test_a_long_method_of_groups_of_one_and_of_one_group(tolerance):
    r = np.random.default_rng(0).normal(size=1000)
    assert not rm.group.grpo(r, np.arange(1000)).any()
    assert not rm.group.rloo(r, np.arange(1000)).any()
    assert_allclose(rm.group.grpo(r, ["x"] * 1000), (r - r.mean()) / (r.std(ddof=1) + 1e-6), **tolerance("float64"))


def test_errors_pickle_so_that_workers_can_send_them():
    with pytest.raises(ValueError, match="length") as caught:
        rm.group.grpo([1.0], [0, 0])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.gpu
def test_cuda_tensors_come_back_to_their_device():
    import torch

    r, ids = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 0, 1])
    valid = torch.tensor([True, True, False])
    for call in (rm.group.grpo, rm.group.rloo, ops.segment_mean, ops.loo_mean):
        got = call(r.cuda(), ids.cuda(), valid=valid.cuda())
        assert got.is_cuda
        assert torch.equal(got.cpu().nan_to_num(), call(r, ids, valid=valid).nan_to_num())
    assert ops.gather(torch.ones(2, device="cuda", dtype=torch.bfloat16), ids).is_cuda
    rows = rm.Ragged.from_padded(torch.eye(3).cuda(), lengths=[1, 2, 3])
    assert rows.values.is_cuda
    assert torch.equal(rows.to_padded().cpu(), torch.eye(3))
    marked = rm.Ragged.from_padded(torch.eye(3).cuda(), mask=torch.eye(3).bool().cuda())
    assert marked.values.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(marked.to_padded().cpu(), torch.eye(3))
