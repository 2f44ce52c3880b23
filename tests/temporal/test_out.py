"""Results written into arrays of the caller."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm
from rollmath import temporal

RNG = np.random.default_rng(0)
LENGTHS = np.array([4, 0, 2, 3])
MASK = np.array([1, 0, 1, 1, 1, 1, 0, 0, 0])
FLAT = {name: RNG.normal(size=9) for name in ("rewards", "values", "log_ratios")}
FLAT["rewards"] = FLAT["rewards"] * MASK
FLAT["turns"] = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0])
OF_TURNS = rm.Ragged.from_lists([[0.5, -1.0], [], [2.0], [3.0]])

#: Function, its columns, number of results, other arguments.
CALLS = {
    "gae": (temporal.gae, ["rewards", "values"], 2, {"gamma": 0.9}),
    "gae, whitened": (temporal.gae, ["rewards", "values"], 2, {"whiten": rm.conventions.Whiten()}),
    "td_lambda": (temporal.td_lambda, ["rewards", "values"], 1, {"lam": 0.5}),
    "vtrace": (temporal.vtrace, ["rewards", "values", "log_ratios"], 2, {}),
    "discounted_returns": (temporal.discounted_returns, ["rewards"], 1, {"gamma": 0.9}),
    "whiten": (temporal.whiten, ["values"], 1, {}),
    "two_level_gae": (temporal.two_level_gae, ["rewards", "values", "turns"], 2, {}),
    "turn_gae": (temporal.turn_gae, ["rewards", "values"], 2, {}),
    "expand_turns": (temporal.expand_turns, ["of turns", "turns"], 1, {}),
}
calls = pytest.mark.parametrize("call", CALLS)


def column(name, layout, dtype):
    if name == "of turns":
        return OF_TURNS.with_values(OF_TURNS.values.astype(dtype))
    x = rm.Ragged.from_lengths(FLAT[name].astype(np.int64 if name == "turns" else dtype), LENGTHS)
    return x if layout == "ragged" else x.to_padded(5)


def run(call, layout, dtype=np.float64, *, out=None, masked=True, tensor=False):
    function, names, count, options = CALLS[call]
    arrays = [column(name, layout, dtype) for name in names]
    if tensor:
        torch = pytest.importorskip("torch")
        arrays = [
            x.with_values(torch.from_numpy(x.values)) if isinstance(x, rm.Ragged) else torch.from_numpy(x)
            for x in arrays
        ]
    options = dict(options)
    if masked and call != "turn_gae":
        mask = rm.Ragged.from_lengths(MASK, LENGTHS)
        options["mask"] = mask if layout == "ragged" else mask.to_padded(5)
    if layout == "padded":
        options["lengths"] = LENGTHS
    if out is not None:
        options["out"] = out if count == 2 else out[0]
    got = function(*arrays, **options)
    return list(got) if count == 2 else [got]


def memory(x):
    return x.values if isinstance(x, rm.Ragged) else x


@calls
@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_same_bits_and_same_memory(same_bits, call, layout, dtype):
    expected = run(call, layout, dtype)
    out = [np.full(memory(x).shape, np.nan, dtype) for x in expected]
    got = run(call, layout, dtype, out=out)
    for ours, theirs, given in zip(got, expected, out, strict=True):
        assert memory(ours) is given
        same_bits(given, memory(theirs))
    if layout == "ragged":
        rows = [x.with_values(np.full(len(x.values), np.nan, dtype)) for x in expected]
        got = run(call, layout, dtype, out=rows)
        for ours, theirs, given in zip(got, expected, rows, strict=True):
            assert ours.values is given.values
            same_bits(given.values, theirs.values)


@calls
@pytest.mark.parametrize("layout", ["ragged", "padded"])
def test_tensors(same_bits, call, layout):
    torch = pytest.importorskip("torch")
    expected = run(call, layout, np.float32)
    out = [torch.full(memory(x).shape, torch.nan) for x in expected]
    got = run(call, layout, np.float32, out=out, tensor=True)
    for ours, theirs, given in zip(got, expected, out, strict=True):
        assert memory(ours) is given
        same_bits(given.numpy(), memory(theirs))
    out[0].requires_grad_()
    with pytest.raises(ValueError, match="'out' requires grad"):
        run(call, layout, np.float32, out=out, tensor=True)


def fresh(call, layout, **k):
    return [np.zeros(memory(x).shape, memory(x).dtype) for x in run(call, layout, **k)]


@calls
@pytest.mark.parametrize("layout", ["ragged", "padded"])
def test_wrong_arrays(call, layout):
    good = fresh(call, layout)
    for bad, error, message in [
        (np.zeros(3), ValueError, r"'out' must have shape \((4, 5|9,)\), got \(3,\)"),
        (good[0].astype(np.float32), TypeError, "'out' must be of the kind and dtype of the values"),
        (good[0].tolist(), TypeError, "'out' must be"),
        (
            np.zeros((10, 9))[:, 0][:9] if layout == "ragged" else np.zeros((5, 4)).T,
            ValueError,
            "'out' must be C-contiguous",
        ),
    ]:
        with pytest.raises(error, match=message):
            run(call, layout, out=[bad, *good[1:]])
    good[-1].flags.writeable = False
    with pytest.raises(ValueError, match="'out' is read-only"):
        run(call, layout, out=good)


@pytest.mark.parametrize("call", [name for name, c in CALLS.items() if c[2] == 2])
def test_two_results_need_two_arrays(call):
    function, names, _, options = CALLS[call]
    arrays = [column(name, "padded", np.float64) for name in names]
    one = np.zeros((4, 5))
    if call != "turn_gae":
        options = options | {"reward_on_gap": "drop"}
    for out in (one, [one], (one, one.copy(), one.copy())):
        with pytest.raises(TypeError, match="'out' must be 2 arrays"):
            function(*arrays, **options, lengths=LENGTHS, out=out)
    with pytest.raises(ValueError, match="'out' shares memory with"):
        run(call, "padded", out=[one, one])


@pytest.mark.parametrize("call", [c for c in CALLS if c != "expand_turns"])
def test_an_input_is_never_written_over(call):
    function, names, count, options = CALLS[call]
    arrays = [column(name, "padded", np.float64) for name in names]
    kept = [x.copy() for x in arrays]
    for x in arrays:
        if x.dtype != np.float64:
            continue
        out = [x] if count == 1 else [np.zeros((4, 5)), x]
        with pytest.raises(ValueError, match="'out' shares memory with"):
            function(*arrays, **options, lengths=LENGTHS, out=out if count == 2 else out[0])
    for before, after in zip(kept, arrays, strict=True):
        assert before.tolist() == after.tolist()
