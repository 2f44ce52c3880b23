"""One measurement: check the output, then time it. A provider whose output disagrees gets no time."""

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import machine

#: Rows of the run, and failures as ``(op, provider)``; filled by the fixture ``measure``.
ROWS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()

PEERS = ("verl", "trl", "trinity", "torch", "networkx", "rustworkx", "scipy")
#: Seconds that the rounds of one provider may take together, and how many rounds at least and at most.
BUDGET, FEWEST, MOST = 1.5, 3, 41

#: Every row of bench/results has these fields with these types.
SCHEMA: dict[str, tuple[type, ...]] = {
    "op": (str,),
    "provider": (str,),
    "kind": (str,),
    "shape": (str,),
    "dtype": (str,),
    "threads": (int,),
    "output": (str,),
    "correct": (bool,),
    "min_ms": (float, type(None)),
    "p20_ms": (float, type(None)),
    "p50_ms": (float, type(None)),
    "p80_ms": (float, type(None)),
    "rounds": (int,),
    "bytes": (int, type(None)),
    "count": (int, type(None)),
    "peer_version": (str, type(None)),
    "run": (str,),
    "date": (str,),
    "cpu": (str,),
    "cores": (int,),
    "scheduler": (str,),
    "load": (float,),
    "python": (str,),
    "numpy": (str,),
    "torch": (str, type(None)),
    "numba": (str, type(None)),
    "rollmath": (str,),
    "commit": (str, type(None)),
    "bandwidth_gb_s": (dict,),
}


def validate(row: dict[str, Any]) -> None:
    """Raises ValueError unless a row has exactly the fields of SCHEMA, is correct, and holds one figure."""
    row = {"count": None} | row  # the first runs counted nothing
    if row.keys() != SCHEMA.keys():
        msg = f"row fields differ: {sorted(row.keys() ^ SCHEMA.keys())}"
        raise ValueError(msg)
    wrong = {name: row[name] for name, types in SCHEMA.items() if type(row[name]) not in types}
    if wrong:
        msg = f"row fields have wrong types: {wrong}"
        raise ValueError(msg)
    if row["correct"] is not True or sum(row[name] is not None for name in ("p50_ms", "bytes", "count")) != 1:
        msg = f"a row holds a time, a size or a count, and a correct output: {row}"
        raise ValueError(msg)


def kind_of(provider: str) -> str:
    name = provider.split(maxsplit=1)[0]
    if name in {"rollmath", "probe"}:
        return name
    return "peer" if name in PEERS else "alternative"


def cases(**providers: int | list[int]) -> Any:
    """Parametrises a suite by ``(provider, threads)``; keywords with ``_`` for spaces."""
    params = [
        pytest.param(name.replace("_", " "), threads, id=f"{name}-t{threads}")
        for name, counts in providers.items()
        for threads in ([counts] if isinstance(counts, int) else counts)
    ]
    return pytest.mark.parametrize(("provider", "threads"), params)


def arrays(x: Any) -> list[np.ndarray]:
    """NumPy views of an array, a tensor, a number, or a tuple of these."""
    if isinstance(x, tuple):
        return [a for part in x for a in arrays(part)]
    return [np.asarray(x)]


def check(provider: str, got: Any, expected: Any, rtol: float) -> None:
    """Raises AssertionError unless outputs agree: in every bit for ``rtol=0``, else within rtol and the same atol."""
    left, right = arrays(got), arrays(expected)
    assert len(left) == len(right), f"{provider} returns {len(left)} arrays, expected {len(right)}"
    for a, b in zip(left, right, strict=True):
        assert a.shape == b.shape, f"{provider} returns shape {a.shape}, expected {b.shape}"
        if rtol == 0:
            assert np.array_equal(a, b), f"{provider} disagrees"
        else:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=f"{provider} disagrees")


class Measure:
    """``measure(op, provider, call, ...)`` checks, times, and keeps the row."""

    def __init__(self, benchmark: Any, rows: list[dict[str, Any]], *, quick: bool) -> None:
        self.benchmark, self.rows, self.quick = benchmark, rows, quick

    def __call__(
        self,
        op: str,
        provider: str,
        call: Callable[[], Any],
        *,
        shape: str,
        dtype: str,
        expected: Any = None,
        view: Callable[[Any], Any] = lambda x: x,
        rtol: float = 0.0,
        threads: int = 1,
        output: str = "fresh",
        rounds: int | None = None,
        setup: Callable[[], None] | None = None,
    ) -> None:
        """Times ``call()``.

        Args:
            op: what is computed; rows of one op are compared.
            provider: who computes it.
            call: no arguments; everything that is not to be timed is done before.
            shape: sizes in words, the same for all providers of an op.
            dtype: of the main input.
            expected: what ``view(call())`` must return; None for calls without output.
            view: takes from the output what is compared.
            rtol: 0 for equal bits.
            threads: set for rollmath, torch and numba before the call.
            output: "fresh" if the call allocates what it returns, "reused" if it writes into given memory.
            rounds: default: by the time the first call takes.
            setup: called before each round, and not timed.
        """
        machine.set_threads(threads)
        prepare = setup or (lambda: None)
        prepare()
        got = call()  # compiles, loads and warms; the second call tells the time
        if expected is not None:
            check(provider, view(got), expected, rtol)
        del got
        if rounds is None:
            prepare()
            start = time.perf_counter()
            call()
            rounds = int(np.clip(BUDGET / (time.perf_counter() - start), FEWEST, 5 if self.quick else MOST))
        self.benchmark.group = op
        self.benchmark.pedantic(call, setup=prepare, rounds=rounds)
        times = np.array(self.benchmark.stats.stats.data) * 1e3
        p20, p50, p80 = (round(float(p), 4) for p in np.percentile(times, [20, 50, 80]))
        row = {"min_ms": round(float(times.min()), 4), "p20_ms": p20, "p50_ms": p50, "p80_ms": p80, "rounds": rounds}
        self.keep(op, provider, shape=shape, dtype=dtype, threads=threads, output=output, **row)

    def size(self, op: str, provider: str, n: int, *, shape: str = "-", dtype: str = "-", threads: int = 1) -> None:
        """Keeps a size in bytes."""
        self.keep(op, provider, shape=shape, dtype=dtype, threads=threads, output="fresh", bytes=n, rounds=1)

    def peak(
        self, op: str, provider: str, call: Callable[[], Any], *, shape: str, dtype: str, threads: int = 1
    ) -> None:
        """Keeps how far the memory of the process rises during ``call()``, in bytes."""
        machine.set_threads(threads)
        call()
        gc.collect()
        before = machine.resident()
        call()
        self.size(op, provider, machine.peak() - before, shape=shape, dtype=dtype, threads=threads)

    def count(self, op: str, provider: str, n: int, *, shape: str) -> None:
        """Keeps a number of things."""
        self.keep(op, provider, shape=shape, dtype="-", threads=1, output="fresh", count=n, rounds=1)

    def keep(self, op: str, provider: str, **fields: Any) -> None:
        name = provider.split(maxsplit=1)[0]
        peer = machine.version({"trinity": "trinity-rft"}.get(name, name)) if name in PEERS else None
        row = {"op": op, "provider": provider, "kind": kind_of(provider), "correct": True, "peer_version": peer}
        row |= dict.fromkeys(("min_ms", "p20_ms", "p50_ms", "p80_ms", "bytes", "count"))
        self.rows.append(row | fields)
