"""Batches of rows of tokens, and the forms in which they are handed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import rollmath as rm

NUMBERS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
#: A position: reward, value, log ratio, trained (most of them), turn begins here.
POSITION = st.tuples(NUMBERS, NUMBERS, st.integers(-128, 128).map(lambda k: k / 64), st.integers(0, 3), st.booleans())
#: A row: positions, value after the last, truncated.
ROW = st.tuples(st.lists(POSITION, max_size=7), NUMBERS, st.booleans())


#: How rows of tokens may be given; see ``Tokens.hand``.
FORMS = ["ragged", "ragged mask", "lengths", "mask"]


@dataclass
class Tokens:
    """Rows of positions as lists; ``columns`` are given to a function in any of the forms below."""

    columns: dict[str, list[list[float]]]
    mask: list[list[bool]]
    bootstrap: list[float]
    truncated: list[bool]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.mask], dtype=np.int64)

    @property
    def flat_mask(self) -> np.ndarray:
        return np.array([x for row in self.mask for x in row], dtype=bool)

    @property
    def ragged_mask(self) -> rm.Ragged:
        return rm.Ragged.from_lengths(self.flat_mask, self.lengths)

    def __getitem__(self, name: str) -> list[list[float]]:
        return self.columns[name]

    def ragged(self, name: str, dtype: Any = np.float64) -> rm.Ragged:
        return rm.Ragged.from_lengths(np.array([x for row in self[name] for x in row], dtype=dtype), self.lengths)

    def padded(self, name: str, dtype: Any = np.float64, *, fill: float = 0.0, wider: int = 1) -> np.ndarray:
        return self.ragged(name, dtype).to_padded(int(self.lengths.max(initial=0)) + wider, fill=fill)

    def padded_mask(self, *, wider: int = 1, fill: bool = False) -> np.ndarray:
        width = int(self.lengths.max(initial=0)) + wider
        return self.ragged_mask.to_padded(width, fill=fill)

    def hand(
        self, form: str, *names: str, dtype: Any = np.float64, fill: float = np.nan
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments and keywords of a call; ``fill`` is what lies in the padding."""
        if form == "ragged":
            return [self.ragged(name, dtype) for name in names], {"mask": self.flat_mask}
        if form == "ragged mask":
            return [self.ragged(name, dtype) for name in names], {
                "mask": self.ragged_mask.with_values(self.flat_mask * 2)
            }
        # A reward at a gap is an error, and padding is a gap where there is only a mask.
        fills = [0.0 if name == "rewards" and form == "mask" else fill for name in names]
        arrays = [self.padded(name, dtype, fill=f) for name, f in zip(names, fills, strict=True)]
        if form == "lengths":
            # What the mask says in the padding does not matter.
            return arrays, {"lengths": self.lengths, "mask": self.padded_mask(fill=True)}
        assert form == "mask"
        return arrays, {"mask": self.padded_mask()}

    def read(self, form: str, out: Any) -> np.ndarray:
        """The numbers of a result, row after row; there must be 0 in the padding."""
        if form.startswith("ragged"):
            assert isinstance(out, rm.Ragged)
            assert out.offsets.tolist() == self.ragged_mask.offsets.tolist()
            return np.asarray(out.values)
        out = np.asarray(out)
        assert not out[np.arange(out.shape[1]) >= self.lengths[:, None]].any()
        return rm.Ragged.from_padded(out, lengths=self.lengths).values

    def rounded(self, dtype: Any) -> Tokens:
        """With the numbers that the dtype has for these, as float64."""
        columns = {n: [[float(dtype(x)) for x in row] for row in rows] for n, rows in self.columns.items()}
        return Tokens(columns, self.mask, self.bootstrap, self.truncated)

    def picked(self, order: Any) -> Tokens:
        """The same rows in another order."""

        def pick(rows: list[Any]) -> list[Any]:
            return [rows[i] for i in order]

        columns = {name: pick(rows) for name, rows in self.columns.items()}
        return Tokens(columns, pick(self.mask), pick(self.bootstrap), pick(self.truncated))


def make(rows: list[Any], *, rewards_on_gaps: bool) -> Tokens:
    columns: dict[str, list[list[float]]] = {"rewards": [], "values": [], "log_ratios": [], "turns": []}
    mask = []
    for positions, _, _ in rows:
        trained = [kept > 0 for _, _, _, kept, _ in positions]
        keep = trained if not rewards_on_gaps else [True] * len(trained)
        columns["rewards"].append([p[0] if k else 0.0 for p, k in zip(positions, keep, strict=True)])
        columns["values"].append([p[1] for p in positions])
        columns["log_ratios"].append([p[2] for p in positions])
        columns["turns"].append(np.cumsum([p[4] for p in positions], dtype=int).tolist())
        mask.append(trained)
    return Tokens(columns, mask, [row[1] for row in rows], [row[2] for row in rows])


def pytest_generate_tests(metafunc):
    if "form" in metafunc.fixturenames:
        metafunc.parametrize("form", FORMS)


@pytest.fixture(scope="session")
def tokens():
    """A strategy for Tokens: ``data.draw(tokens())``; rows may be empty or fully masked."""

    def strategy(*, rewards_on_gaps: bool = False, max_rows: int = 5) -> st.SearchStrategy[Tokens]:
        return st.lists(ROW, max_size=max_rows).map(lambda rows: make(rows, rewards_on_gaps=rewards_on_gaps))

    return strategy


@pytest.fixture(scope="session")
def flat():
    """The numbers of a list of rows as one array."""
    return lambda rows, dtype=np.float64: np.array([x for row in rows for x in row], dtype=dtype)


@pytest.fixture
def threads():
    """``threads(n)`` sets the number of threads; it is put back afterwards."""
    before = rm.num_threads()
    yield rm.set_num_threads
    rm.set_num_threads(before)


@pytest.fixture(scope="session")
def big():
    """Many rows of uneven length, with gaps: enough that several threads take part."""

    def batch(seed: int = 1, rows: int = 400, longest: int = 600, dtype: Any = np.float64) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, longest, rows)
        total = int(lengths.sum())
        mask = rng.random(total) < 0.8

        def column(scale: float = 1.0) -> rm.Ragged:
            return rm.Ragged.from_lengths((scale * rng.normal(size=total)).astype(dtype), lengths)

        rewards = column()
        rewards.values[~mask] = 0
        return {"rewards": rewards, "values": column(), "log_ratios": column(0.3), "mask": mask, "lengths": lengths}

    return batch
