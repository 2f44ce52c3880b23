"""Ragged rows: Python lists to one array, padded to packed and back."""

import numpy as np
import pytest

import rollmath as rm
from bench import alternatives, inputs
from bench.machine import THREADS
from bench.measure import cases
from bench.peers import torch_functions, verl_trainer


@cases(
    rollmath=1, rollmath_int32=1, numpy_fromiter=1, numpy_rows=1, numpy_rows_reused=1,
    rollmath_padded=THREADS[-1], numpy_padded=1, torch_pad_sequence=1, verl_padded=1,
)  # fmt: skip
@pytest.mark.parametrize("order", ["in_order", "scattered"])
def test_from_lists(measure, quick, provider, threads, order):
    rows, total = (512, 100_000) if quick else (8192, 10_000_000)
    if order == "scattered" and provider in {"verl padded", "torch pad sequence"}:
        pytest.skip("seconds a call; measured in order")
    data = inputs.token_lists(rows, total, order)
    lists, total = data.lists, len(data.packed)
    reused = np.zeros(total, np.int64)
    call = {
        "rollmath": lambda: lambda: rm.Ragged.from_lists(lists).values,
        "rollmath int32": lambda: lambda: rm.Ragged.from_lists(lists, dtype=np.int32).values,
        "numpy fromiter": lambda: lambda: alternatives.lists_fromiter(lists, total),
        "numpy rows": lambda: lambda: alternatives.lists_rows(lists, data.offsets, np.empty(total, np.int64)),
        "numpy rows reused": lambda: lambda: alternatives.lists_rows(lists, data.offsets, reused),
        "rollmath padded": lambda: lambda: rm.Ragged.from_lists(lists).to_padded(),
        "numpy padded": lambda: lambda: alternatives.lists_padded(lists, np.empty_like(data.padded)),
        "torch pad sequence": lambda: torch_functions.collate(lists),
        "verl padded": lambda: verl_trainer.collate(lists),
    }[provider]()
    expected = data.padded if "pad" in provider else data.packed
    shape = f"{total} ids in {rows} lists, {order.replace('_', ' ')}"
    measure(
        f"from_lists_{order}", provider, call, shape=shape, dtype="int32" if "int32" in provider else "int64",
        expected=expected, threads=threads, output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


def padded(quick):
    return inputs.padded_rows(512 if quick else 8192, 512 if quick else 4096, 0.3)


def shape_of(data):
    return "{} x {} at {:.0%} fill".format(*data.padded.shape, len(data.packed) / data.padded.size)


@cases(
    rollmath_reused=THREADS, rollmath_fresh=THREADS, numpy_rows_reused=1, numba_rows_reused=THREADS,
    verl_unpad_input=THREADS, verl_index_first_axis=THREADS, torch_mask=THREADS,
)  # fmt: skip
def test_from_padded(measure, quick, provider, threads):
    if provider.startswith("numba") and alternatives.numba is None:
        pytest.skip("numba is not installed")
    data = padded(quick)
    x, lengths, out = data.padded, data.lengths, np.zeros_like(data.packed)
    call = {
        "rollmath reused": lambda: lambda: rm.Ragged.from_padded(x, lengths=lengths, out=out).values,
        "rollmath fresh": lambda: lambda: rm.Ragged.from_padded(x, lengths=lengths).values,
        "numpy rows reused": lambda: lambda: alternatives.pack_rows(x, lengths, data.offsets, out),
        "numba rows reused": lambda: lambda: alternatives.pack_numba(x, data.offsets, out),
        "verl unpad input": lambda: verl_trainer.unpad(x, lengths),
        "verl index first axis": lambda: verl_trainer.index(x, lengths),
        "torch mask": lambda: torch_functions.select(x, lengths),
    }[provider]()
    measure(
        "from_padded", provider, call, shape=shape_of(data), dtype="float32", expected=data.packed, threads=threads,
        output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip


@cases(
    rollmath_reused=THREADS, rollmath_fresh=THREADS, numpy_rows_reused=1, numba_rows_reused=THREADS,
    verl_pad_input=THREADS,
)  # fmt: skip
def test_to_padded(measure, quick, provider, threads):
    if provider.startswith("numba") and alternatives.numba is None:
        pytest.skip("numba is not installed")
    data = padded(quick)
    packed, lengths, out = data.packed, data.lengths, np.ones_like(data.padded)
    rows = rm.Ragged(packed, data.offsets)
    call = {
        "rollmath reused": lambda: lambda: rows.to_padded(out=out),
        "rollmath fresh": lambda: lambda: rows.to_padded(out.shape[1]),
        "numpy rows reused": lambda: lambda: alternatives.unpack_rows(packed, lengths, data.offsets, out),
        "numba rows reused": lambda: lambda: alternatives.unpack_numba(packed, data.offsets, out),
        "verl pad input": lambda: verl_trainer.pad(packed, data.padded, lengths),
    }[provider]()
    measure(
        "to_padded", provider, call, shape=shape_of(data), dtype="float32", expected=data.padded, threads=threads,
        output="reused" if "reused" in provider else "fresh",
    )  # fmt: skip
