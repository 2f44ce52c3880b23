"""The same tokens in every form and kind that functions of tokens take; for tests."""

import contextlib
from unittest import mock

import numpy as np
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops import _device_rows

#: Values of which many are equal, and zeros of both signs.
VALUES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 0.7, 1.0, 3.0, float("inf")]) | st.integers(-8, 8).map(
    lambda k: k / 8
)
ROWS = st.lists(st.lists(st.tuples(VALUES, st.booleans() | st.just(True)), max_size=6), min_size=1, max_size=6)
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 1.0]) | st.floats(0.0, 1.0)
WANTS = st.one_of(
    st.fixed_dictionaries({"share": SHARES}),
    st.fixed_dictionaries({"share": SHARES, "least": st.integers(0, 4)}),
    st.fixed_dictionaries({"count": st.integers(1, 40)}),
)
FORMS = ("ragged", "padded", "through a mask", "torch ragged", "torch padded", "device ragged", "device padded")


def unzip(rows, dtype=np.float32):
    """Scores rounded to a type, None where not trained, and whether they are."""
    values = [[float(dtype(x)) for x, _ in row] for row in rows]
    trained = [[ok for _, ok in row] for row in rows]
    return values, trained, hidden(values, trained)


def hidden(values, trained):
    return [[x if ok else None for x, ok in zip(*pair, strict=True)] for pair in zip(values, trained, strict=True)]


class Form:
    """Rows of tokens in one form; ``column`` makes others like them."""

    def __init__(self, name, trained, dtype=np.float32, fill=np.nan):
        self.name, self.trained, self.dtype, self.fill = name, trained, dtype, fill
        self.lengths = np.array([len(row) for row in trained], np.int64)
        self.torch = "torch" in name or "device" in name
        self.width = int(self.lengths.max(initial=0)) + 1

    def _kind(self, x):
        if not self.torch:
            return x
        import torch

        return torch.from_numpy(x)

    def column(self, values, dtype=None):
        dtype = self.dtype if dtype is None else dtype
        flat = np.array([x for row in values for x in row], dtype)
        if "ragged" in self.name:
            return rm.Ragged.from_lengths(self._kind(flat), self.lengths)
        fill = self.fill if np.dtype(dtype).kind == "f" else 1
        padded = rm.Ragged.from_lengths(flat, self.lengths).to_padded(self.width, fill=fill)
        if self.name == "through a mask":
            return rm.Ragged.from_padded(padded, mask=self.marks())
        return self._kind(padded)

    def marks(self):
        rows = [[*row, *[False] * (self.width - len(row))] for row in self.trained]
        return np.array(rows, bool).reshape(len(rows), self.width)

    @property
    def options(self):
        if self.name == "through a mask":
            return {}
        mask = {"mask": self.column(self.trained, bool)}
        return mask if "ragged" in self.name else mask | {"lengths": self._kind(self.lengths)}

    def on_device(self):
        """Where CPU tensors take the way of those on a GPU."""
        if "device" not in self.name:
            return contextlib.nullcontext()
        return mock.patch.object(_device_rows, "INTERPRET", True)

    def lists(self, mask):
        """A mask as lists of lists."""
        if self.name == "through a mask":
            padded = mask.to_padded(self.width)
        elif isinstance(mask, rm.Ragged):
            return [np.asarray(row).tolist() for row in mask]
        else:
            padded = np.asarray(mask)
        return [row[:n].tolist() for row, n in zip(padded, self.lengths, strict=True)]


def agrees(form, found, expected, scope="all"):
    """A TokenSelection is what the oracle says; numbers exactly."""
    mask, thresholds, kept, totals = expected
    assert form.lists(found.mask) == mask
    numbers = (found.threshold, found.kept, found.total)
    for got, want in zip(numbers, (thresholds, kept, totals), strict=True):
        assert tuple(got.shape) == (() if scope == "all" else (len(mask),))
        assert type(got).__name__ == ("Tensor" if form.torch else "ndarray")
        assert np.asarray(got).reshape(-1).tolist() == list(want)
    values = found.mask.values if isinstance(found.mask, rm.Ragged) else found.mask
    assert str(values.dtype).removeprefix("torch.") == "bool"
    assert str(found.threshold.dtype).removeprefix("torch.") == np.dtype(form.dtype).name
    # Padding is never chosen.
    assert int(values.sum()) == sum(kept)
