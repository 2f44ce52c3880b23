"""Rows: the token sequences that really train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, Immutable, choice, describe, floats, frozen, host
from rollmath._columns import (
    collapsed,
    column_of,
    copied,
    flat_positions,
    lengths_of,
    marks_of,
    nested,
    payloads_of,
    picked_rows,
    prompts_of,
    segments_of,
)
from rollmath._turns import join
from rollmath._turns_report import PrefixBreak, TurnsReport
from rollmath.groups import Groups, as_groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PrefixBreak", "Rows", "TurnsReport"]


class Rows(Immutable):
    """One row is one token sequence through the model; one rollout may be several rows.

    A row has a prompt, which is never trained, and ``lengths[i]`` *positions* after it: the response, tool output and
    further responses. A mask tells the trained positions from the gaps. All columns are packed over the positions of
    all rows, row after row; :attr:`offsets` cuts them.

    Everything is on the host, as NumPy arrays that cannot be written through. Like those of a Ragged, the values of
    packed columns, prompts and payloads are what was given, not copied: what the caller writes into the array or CPU
    tensor later, the rows see. (Copied are padded and bfloat16 columns, lists, ids, lengths, segments and the mask.) A
    column, prompts or a payload on another device is an error; call ``.cpu()``.

    A *column* may come as a :class:`~rollmath.Ragged` with the offsets of the rows, packed ``[positions]``, padded
    ``[B, T]`` (row ``i`` is its columns ``0 .. lengths[i] - 1``), or as a list with one list a row.

    Args:
        rollout: one id a row, whatever :class:`~rollmath.Groups` takes, or a Groups over the rows.
        lengths: positions of each row, int ``[n_rows]``; None takes them from ``tokens`` or ``mask`` if that is a
            Ragged or a list of lists.
        segment: number of each row within its rollout, int ``[n_rows]``; default: 0, 1, ... in the order of the rows.
        mask: column of bools or ints; nonzero is trained, 0 is a gap. Default: all trained.
        tokens: column of token ids.
        prompts: token ids before the positions: a Ragged of any lengths or a list with one list a row.
        logprobs: column of floats, the log-probabilities reported by the sampler; NaN where there is none.
        version: column of ints, the version of the policy that sampled each token; -1 where there is none.
        payload: named opaque values, one a position, never interpreted and carried along: a Ragged, an array
            ``[positions, ...]`` of any further axes (expert routing), or a list with one object a position (sets of
            allowed tokens).

    Attributes:
        rollouts: Groups over the rows. What has one number a rollout is in the order of ``rollouts.ids``.
        report: what :meth:`from_turns` found; else None.

    Raises:
        ValueError: lengths, offsets or shapes that do not fit; a tensor that requires grad; a column, prompts or
            a payload on another device than the CPU.
        TypeError: wrong dtype or rank.

    >>> rows = Rows(["a", "a", "b"], [3, 1, 2], mask=[1, 0, 1, 1, 1, 1])
    >>> rows
    Rows(3 rows of 2 rollouts, 5 of 6 positions trained)
    >>> rows.segment.tolist(), rows.trained.tolist(), rows.expand([0.5, -0.5]).to_lists()
    ([0, 1, 0], [2, 1, 2], [[0.5, 0.5, 0.5], [0.5], [-0.5, -0.5]])
    """

    rollouts: Groups
    segment: NDArray[np.int64]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    tokens: Ragged | None
    prompts: Ragged | None
    logprobs: Ragged | None
    version: Ragged | None
    payload: Mapping[str, Any]
    report: TurnsReport | None

    def __init__(
        self,
        rollout: Groups | ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        segment: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        prompts: ArrayLike | None = None,
        logprobs: ArrayLike | None = None,
        version: ArrayLike | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        rollouts = as_groups("Rows", rollout, name="rollout")
        tokens, mask = nested("tokens", tokens), nested("mask", mask)
        sizes = lengths_of(lengths, {"tokens": tokens, "mask": mask}, len(rollouts))
        offsets = frozen(_core.offsets_from_lengths("Rows", sizes))
        self._fill(
            rollouts=rollouts,
            segment=segments_of(rollouts, segment),
            lengths=frozen(np.diff(offsets)),
            offsets=offsets,
            mask=marks_of(mask, offsets),
            tokens=column_of("tokens", tokens, offsets, "integers"),
            prompts=prompts_of(nested("prompts", prompts), len(rollouts)),
            logprobs=column_of("logprobs", nested("logprobs", logprobs), offsets, "floats"),
            version=column_of("version", nested("version", version), offsets, "integers"),
            payload=MappingProxyType(payloads_of(payload, offsets)),
            report=None,
        )

    @classmethod
    def from_turns(cls, rollouts: Sequence[Any] | Mapping[Any, Any], *, ids: ArrayLike | None = None) -> Rows:
        """Rows from the turns of each rollout, tokens in and tokens out, with an exact prefix check.

        A turn is a mapping: ``"prompt"``, all token ids that the model saw; ``"response"``, the token ids that it
        sampled; optional ``"logprobs"`` (one float a response token), ``"version"`` (one int, or one a response token)
        and ``"payload"`` (``{name: one value a response token}``, a list or an array ``[n, ...]``).

        The first turn begins a row. If the prompt of the next turn starts with the prompt and the response of the turn
        before it, token by token, then the row goes on: what is new in the prompt is a gap (mask 0), and the response
        is trained (mask 1). If not, **a new row begins** (segment + 1) with that prompt, and ``rows.report`` says
        where the first difference is. No token is decoded, re-tokenized or repaired.

        Gaps get logprob NaN, version -1, and in a payload: None in lists, NaN in float arrays, -1 in arrays of signed
        ints, else 0. Every turn must have the same optional keys as the others.

        Args:
            rollouts: a list with the list of turns of each rollout, or a mapping from rollout id to its turns.
            ids: one distinct id a rollout; default its position, or its key in the mapping.

        Edge cases:
            An empty response adds its observation as a gap and nothing trained; a row may have 0 positions. An empty
            prompt is an error, because the first token of a response has nothing to depend on. A turn that repeats the
            prompt of the turn before it (another attempt) is a new row. The rows of a rollout stay together.

        Raises:
            ValueError: a rollout without turns, ids that repeat, unknown or missing keys, wrong lengths, a tensor on
                another device than the CPU.
            TypeError: what is no mapping or holds no integers.

        >>> rows = Rows.from_turns([[
        ...     {"prompt": [1, 2], "response": [3, 4]},
        ...     {"prompt": [1, 2, 3, 4, 9], "response": [5]},
        ...     {"prompt": [1, 2, 3, 4, 9, 7], "response": [6]},
        ... ]])
        >>> rows.tokens.to_lists(), rows.mask.tolist(), rows.prompts.to_lists()
        ([[3, 4, 9, 5], [6]], [1, 1, 0, 1, 1], [[1, 2], [1, 2, 3, 4, 9, 7]])
        >>> print(rows.report)
        1 rollout of 3 turns made 2 rows: 1 turn does not extend the one before it
          rollout 0, turn 2: position 5 should be 5 (token 0 of the last response), got 7; new row 1 (segment 1)
        """
        columns, report = join("Rows.from_turns", rollouts, ids)
        return _restore(columns, report)

    @cached_property
    def mask(self) -> NDArray[np.uint8] | None:
        """Trained positions, bytes 0 and 1 over all positions; None if all are trained."""
        # Only rows of `keep` come here: the others have it from the start.
        kept: NDArray[np.bool_] = self.__dict__["_kept"]
        marks: NDArray[np.uint8] | None = self.__dict__["_marks"]
        full = np.ones(int(self.offsets[-1]), np.uint8) if marks is None else marks.copy()
        # A slice a run of rows, mostly those of a group: many times faster than a mask of all positions.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], ~kept, [False]]).astype(np.int8)))
        cuts = self.offsets[edges].tolist()
        for start, end in zip(cuts[::2], cuts[1::2], strict=True):
            full[start:end] = 0
        return frozen(full)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rollouts)

    @property
    def n_rollouts(self) -> int:
        """Number of rollouts; each has at least one row."""
        return self.rollouts.n_groups

    @cached_property
    def trained(self) -> NDArray[np.int64]:
        """Trained positions of each row, int64 ``[n_rows]``."""
        if self.mask is None:
            return self.lengths
        filled = self.lengths > 0
        counts = np.zeros(self.n_rows, dtype=np.int64)
        if filled.any():
            counts[filled] = np.add.reduceat(self.mask, self.offsets[:-1][filled], dtype=np.int64)
        return frozen(counts)

    @cached_property
    def trained_of_rollout(self) -> NDArray[np.int64]:
        """Trained positions of each rollout, int64 ``[n_rollouts]``, in the order of ``rollouts.ids``."""
        counts = np.bincount(self.rollouts.index, weights=self.trained, minlength=self.n_rollouts)
        return frozen(counts.astype(np.int64))

    def take(self, rows: ArrayLike) -> Rows:
        """The rows at these indices (ints ``[k]``, repeats allowed) or at the True of a bool array ``[n_rows]``.

        All columns and payloads go along; segments are kept, the report is not. Rollouts without rows vanish.
        """
        picked = picked_rows(rows, self.n_rows)
        sizes = self.lengths[picked]
        positions = flat_positions(self.offsets, picked)
        prompts = self.prompts
        if prompts is not None:
            values = prompts.values[flat_positions(prompts.offsets, picked)]
            prompts = Ragged.from_lengths(values, prompts.lengths[picked])

        def column(x: Ragged | None) -> NDArray[Any] | None:
            return None if x is None else x.values[positions]

        return Rows(
            self.rollouts.take(picked),
            sizes,
            segment=self.segment[picked],
            mask=self._mask_at(picked, positions),
            tokens=column(self.tokens),
            prompts=prompts,
            logprobs=column(self.logprobs),
            version=column(self.version),
            payload={
                name: [x[i] for i in positions.tolist()] if isinstance(x, tuple) else x[positions]
                for name, x in self.payload.items()
            },
        )

    def keep(self, rows: ArrayLike | Ragged) -> Rows:
        """The same rows, of which only those that are True train: shapes, columns and offsets stay as they are.

        Where a trainer holds rows in padded tensors, this drops some without moving any; :meth:`take` leaves them out.

        Args:
            rows: bool ``[n_rows]``; a row that is False has no trained position. Or a :class:`~rollmath.Ragged` of
                bools with the offsets of the rows, one a position.

        Raises:
            ValueError: wrong length or offsets.
            TypeError: not bools.

        >>> Rows(["a", "b"], [2, 1]).keep([True, False]).trained.tolist()
        [2, 0]
        >>> Rows(["a", "b"], [2, 1]).keep(Ragged([True, False, True], [0, 2, 3])).trained.tolist()
        [1, 1]
        """
        who = "Rows.keep"
        kept, _ = host(who, "rows", rows.values if isinstance(rows, Ragged) else rows)
        if (kept.dtype != bool and kept.size) or kept.ndim != 1:
            msg = f"{who}(): 'rows' must be bools [n_rows], or a Ragged of bools, got {describe(rows)}"
            raise TypeError(msg)
        if isinstance(rows, Ragged):
            if not np.array_equal(rows.offsets, self.offsets):
                msg = f"{who}(): 'rows' as a Ragged must have the offsets of these rows, got {rows!r}"
                raise ValueError(msg)
            return self._kept_positions(kept)
        if len(kept) != self.n_rows:
            msg = f"{who}(): 'rows' must have length {self.n_rows} (= n_rows), got {len(kept)}"
            raise ValueError(msg)
        if not len(kept) or not (~kept & (self.trained > 0)).any():
            return self
        # All else is that of these rows, which cannot change, and is not checked again. The mask is made when it is
        # asked for: one of all positions costs more than the rest of a step, and micro-batches make their own.
        fields = dict(self.__dict__)
        fields["_marks"] = fields["_marks"] if "_kept" in fields else self.mask
        fields["_kept"] = frozen(kept & fields.get("_kept", True))
        fields["trained"] = frozen(np.where(kept, self.trained, 0))
        for derived in ("mask", "trained_of_rollout"):
            fields.pop(derived, None)
        made = Rows.__new__(Rows)
        made._fill(**fields)
        return made

    def _kept_positions(self, kept: NDArray[np.bool_]) -> Rows:
        """These rows with the trained positions that are kept."""
        mask = kept if self.mask is None else kept & self.mask.view(bool)
        if int(mask.sum()) == int(self.trained.sum()):
            return self
        gone = ("_kept", "_marks", "trained", "trained_of_rollout")
        fields = {name: x for name, x in self.__dict__.items() if name not in gone}
        made = Rows.__new__(Rows)
        made._fill(**fields | {"mask": frozen(mask.astype(np.uint8))})
        return made

    def _mask_at(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """The mask of some rows, whose positions these are."""
        if "mask" in self.__dict__:
            return None if self.mask is None else self.mask[positions]
        kept = np.repeat(self.__dict__["_kept"][rows], self.lengths[rows])
        marks: NDArray[np.uint8] | None = self.__dict__["_marks"]
        return kept.view(np.uint8) if marks is None else marks[positions] & kept

    def expand(self, x: ArrayLike, *, per: Literal["rollout", "row"] = "rollout") -> Ragged:
        """One value a rollout or a row, repeated over the positions of its rows, gaps too.

        Args:
            x: ``[n_rollouts]`` in the order of ``rollouts.ids``, or ``[n_rows]``. The values of a CUDA tensor are
                copied to the host once and the result back.
            per: what ``x`` has one value of.

        Returns:
            A Ragged with the offsets of the rows, its values of the kind of ``x``. Ints, bools, float32 and float64
            keep their dtype; float16 and bfloat16 give float32.

        Raises:
            ValueError: wrong shape, an unknown ``per``, a tensor that requires grad.
            TypeError: not numbers.
        """
        choice("Rows.expand", "per", per, ("rollout", "row"))
        values, kind = copied("Rows.expand", "x", x)
        expected, name = (self.n_rollouts, "n_rollouts") if per == "rollout" else (self.n_rows, "n_rows")
        if values.shape != (expected,):
            msg = f"Rows.expand(): 'x' must have shape ({expected},) (= {name}, as per={per!r}), got {values.shape}"
            raise ValueError(msg)
        per_row = values[self.rollouts.index] if per == "rollout" else values
        return Ragged(kind.wrap(np.repeat(per_row, self.lengths)), self.offsets)

    def collapse(
        self, x: ArrayLike, *, how: Literal["same", "first", "last", "sum", "mean", "max", "min"] = "same"
    ) -> Array:
        """One value a rollout from one value a row: what :meth:`expand` with ``per="rollout"`` spreads out again.

        Args:
            x: ``[n_rows]``, say the reward that a reader found on every row. The values of a CUDA tensor are copied
                to the host once and the result back.
            how: ``"same"`` the value that all rows of the rollout have (NaN equals NaN); ``"first"`` and ``"last"`` of
                the row with the smallest and the largest ``segment``; ``"sum"``, ``"mean"``, ``"max"`` and ``"min"``
                over the rows, in which NaN spreads.

        Returns:
            ``[n_rollouts]`` in the order of ``rollouts.ids``, of the kind of ``x``. Dtypes are kept as in
            :meth:`expand`, but ``"sum"`` and ``"mean"`` of ints and bools are float64 (float32 for a tensor).

        Raises:
            ValueError: rows of a rollout that differ under ``"same"``; two rows of a rollout with the segment that
                ``"first"`` or ``"last"`` looks for; wrong shape, an unknown ``how``, a tensor that requires grad.
            TypeError: not numbers.

        >>> rows = Rows(["a", "a", "b"], [3, 1, 2])
        >>> rows.collapse([1.0, 1.0, 0.0]).tolist(), rows.collapse([0.0, 1.0, 0.0], how="last").tolist()
        ([1.0, 0.0], [1.0, 0.0])
        """
        who = "Rows.collapse"
        choice(who, "how", how, ("same", "first", "last", "sum", "mean", "max", "min"))
        values, kind = copied(who, "x", x)
        if values.shape != (self.n_rows,):
            msg = f"{who}(): 'x' must have shape ({self.n_rows},) (= n_rows), got {values.shape}"
            raise ValueError(msg)
        if how in {"sum", "mean"}:
            values, kind = floats(who, "x", x)
        return kind.wrap(collapsed(who, self.rollouts, self.segment, values, how))

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        trained, total = int(self.trained.sum()), int(self.offsets[-1])
        return f"Rows({self.n_rows} rows of {self.n_rollouts} rollouts, {trained} of {total} positions trained)"

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("segment", "mask", "tokens", "prompts", "logprobs", "version")
        columns = {name: getattr(self, name) for name in names}
        columns |= {"rollout": self.rollouts, "lengths": self.lengths, "payload": dict(self.payload)}
        return _restore, (columns, self.report)


def _restore(columns: dict[str, Any], report: TurnsReport | None) -> Rows:
    rows = Rows(**columns)
    rows._fill(report=report)
    return rows
