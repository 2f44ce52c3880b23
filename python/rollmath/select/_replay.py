"""ReplayBuffer: samples that wait for their turn, as SPO keeps the edges of its trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import ArrayLike, integers
from rollmath._checks import whole
from rollmath.groups import Groups, as_groups
from rollmath.ops._random import generator, permutation, ranks
from rollmath.select._prompt_state import LAST, check_column, check_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = ("codes", "positions", "iterations")
#: Of the saved state; another one is refused.
_VERSION = 1


class ReplayDraw(NamedTuple):
    """What :class:`ReplayBuffer` hands out, in the order in which it was added.

    Attributes:
        positions: of each entry, int64.
        iterations: in which each was added, int64.
        aged: number of entries that were dropped for their age.
    """

    positions: NDArray[np.int64]
    iterations: NDArray[np.int64]
    aged: int


class ReplayBuffer:
    """A replay buffer of positions: which samples of earlier iterations are trained on now.

    It keeps three numbers an entry, in arrays: its key (the prompt, say), a position of yours (where the sample is in
    your own storage), and the iteration. Samples themselves stay where they are. :meth:`draw` is SPO's on-policy
    buffer, which hands an entry out once; :meth:`sample` its off-policy one, from which nothing is removed.

    A draw depends on what was added, on what was drawn, and on its seed: the same on every platform and with every
    version of NumPy (raw words of PCG64). Give each draw a seed of its own.

    Args:
        max_age: :meth:`draw` drops entries of ``max_age`` iterations ago and older; None keeps them.
        per_key: entries of one key that a draw hands out at most; None for all.

    Raises:
        ValueError: a limit below 1.
        TypeError: one that is no whole number.

    Source: SPO, arXiv 2505.23564, official code executed beside ours (8 iterations, 32 edges a question). It removes
    edges by comparing dicts: that takes equal edges along, drawn or not, and costs the product of both counts. Here an
    entry is itself.

    >>> replay = ReplayBuffer(max_age=8, per_key=2)
    >>> replay.add(["p", "p", "p", "q"], [10, 11, 12, 13], iteration=0)
    >>> replay.draw(iteration=1, seed=0).positions.tolist(), len(replay)
    ([11, 12, 13], 1)
    >>> replay.draw(iteration=8, seed=1)
    ReplayDraw(positions=array([], dtype=int64), iterations=array([], dtype=int64), aged=1)
    """

    def __init__(self, *, max_age: int | None = 8, per_key: int | None = 32) -> None:
        self._max_age = None if max_age is None else whole("ReplayBuffer", "max_age", max_age)
        self._per_key = None if per_key is None else whole("ReplayBuffer", "per_key", per_key)
        self._keys: dict[Any, int] = {}
        self._parts = [np.zeros((3, 0), np.int64)]

    @property
    def max_age(self) -> int | None:
        """Iterations after which :meth:`draw` drops an entry."""
        return self._max_age

    @property
    def per_key(self) -> int | None:
        """Entries of one key that a draw hands out at most."""
        return self._per_key

    def __len__(self) -> int:
        return sum(part.shape[1] for part in self._parts)

    def __repr__(self) -> str:
        return f"ReplayBuffer({len(self)} entries, max_age={self._max_age}, per_key={self._per_key})"

    def add(self, keys: Groups | ArrayLike, positions: ArrayLike, *, iteration: int) -> None:
        """Adds entries.

        Args:
            keys: one id an entry (strings, ints, UUIDs, tuples; one type for the whole buffer) or a
                :class:`~rollmath.Groups`.
            positions: one integer an entry.
            iteration: in which they were sampled.

        Raises:
            ValueError: wrong length, a negative iteration.
            TypeError: not integers; keys of another type than before. Nothing is added then.
        """
        who = "ReplayBuffer.add"
        groups = as_groups(who, keys, name="keys")
        where, _ = integers(who, "positions", positions, length=len(groups), why="len(keys)")
        now = whole(who, "iteration", iteration, least=0, most=LAST)
        known = next(iter(self._keys), None)
        if groups.ids and known is not None and type(groups.ids[0]) is not type(known):
            names = type(known).__name__, type(groups.ids[0]).__name__
            msg = f"{who}(): 'keys' must be of the type of those before, {names[0]}, got {names[1]}"
            raise TypeError(msg)
        codes = [self._keys.setdefault(key, len(self._keys)) for key in groups.ids]
        part = np.empty((3, len(groups)), np.int64)
        part[0] = np.array(codes, np.int64)[groups.index]
        part[1], part[2] = where, now
        self._parts.append(part)

    def draw(self, *, iteration: int, seed: int) -> ReplayDraw:
        """Drops what is too old, and takes at most ``per_key`` entries of each key out, uniformly.

        Args:
            iteration: the current one; entries of ``iteration - max_age`` and before are dropped.
            seed: whole number of at least 0; another in every draw.

        Raises:
            ValueError: a negative iteration or seed.
            TypeError: no whole number.
        """
        who = "ReplayBuffer.draw"
        now = whole(who, "iteration", iteration, least=0, most=LAST)
        bits = generator(who, seed)
        entries, aged = self._entries(), 0
        if self._max_age is not None:
            fresh = now - entries[2] < self._max_age
            if aged := int(len(fresh) - np.count_nonzero(fresh)):
                entries = entries[:, fresh]
        n = entries.shape[1]
        if self._per_key is None:
            taken = np.ones(n, bool)
        else:
            taken = ranks(permutation(bits, n), entries[0], len(self._keys)) < self._per_key
        _, positions, iterations = entries[:, taken]
        self._parts = [entries[:, ~taken]]
        if len(self._keys) > 2 * len(self) + 1024:
            self._forget()
        return ReplayDraw(positions, iterations, aged)

    def sample(self, n: int, *, seed: int) -> ReplayDraw:
        """``n`` entries of any age and key, uniformly and without replacement (all if there are fewer); all stay.

        Args:
            n: entries to hand out (512 in the official code).
            seed: whole number of at least 0; another in every draw.

        Raises:
            ValueError: a negative number or seed.
            TypeError: no whole number.
        """
        who = "ReplayBuffer.sample"
        size, bits = whole(who, "n", n, least=0), generator(who, seed)
        entries = self._entries()
        chosen = np.sort(permutation(bits, entries.shape[1])[:size])
        return ReplayDraw(entries[1, chosen], entries[2, chosen], 0)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain values and arrays, for a checkpoint; pickling works, too."""
        self._forget()
        columns = {name: column.copy() for name, column in zip(_COLUMNS, self._entries(), strict=True)}
        limits = {"max_age": self._max_age, "per_key": self._per_key}
        return {"version": _VERSION, **limits, "keys": list(self._keys), **columns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned, in place of everything.

        Raises:
            ValueError: a state of another version; something is missing or does not fit together. Nothing is changed
                then.
            TypeError: no mapping.
        """
        who = "ReplayBuffer.load_state_dict"
        # Before it had a version, the state was what version 1 has.
        older = isinstance(state, Mapping) and "version" not in state
        names = {"max_age", "per_key", "keys", *_COLUMNS}
        check_state(who, state, names if older else names | {"version"}, _VERSION)
        loaded = ReplayBuffer(max_age=state["max_age"], per_key=state["per_key"])
        keys = as_groups(who, state["keys"], name="keys")
        if keys.n_groups < len(keys):
            msg = f"{who}(): 'keys' must all be different, got {keys.ids[int(np.argmax(keys.counts > 1))]!r} twice"
            raise ValueError(msg)
        n = len(integers(who, "positions", state["positions"])[0])
        columns = [integers(who, name, state[name], length=n, why="len(positions)")[0] for name in _COLUMNS]
        codes, _, iterations = columns
        check_column(who, "codes", codes, (codes >= 0) & (codes < len(keys)), f"numbers of the {len(keys)} 'keys'")
        check_column(who, "iterations", iterations, iterations >= 0, "at least 0")
        loaded._keys = {key: code for code, key in enumerate(keys.ids)}
        loaded._parts = [np.stack(columns)]
        self.__dict__.update(loaded.__dict__)

    def _entries(self) -> NDArray[np.int64]:
        """Code, position and iteration of each entry, ``[3, n]``."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts, axis=1)]
        return self._parts[0]

    def _forget(self) -> None:
        """Lets go of keys that have no entry."""
        entries, keys = self._entries(), list(self._keys)
        live, codes = np.unique(entries[0], return_inverse=True)
        self._keys = {keys[code]: i for i, code in enumerate(live.tolist())}
        self._parts = [np.stack([codes, *entries[1:]])]
