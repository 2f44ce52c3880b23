"""PrefixBatch: the tokens of a forest as one sequence for a model, and the way back to rollouts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, counted, describe, floats, frozen, host, integers, is_tensor
from rollmath._checks import real, whole
from rollmath.forest import Forest, as_forest
from rollmath.prefix._masks import Masks
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pack(forest: Forest) -> PrefixBatch:
    """A batch of all trees of a forest, in which each token appears once.

    Args:
        forest: one that knows where its tokens are: of ``Forest.from_sequences``, ``Forest.from_messages`` (they are in
            ``forest.report.tokens.values``), or ``Forest.from_parents`` with ``spans`` and ``offsets``; pruned or not.
            A payload of ``from_sequences`` (expert routing, say) keeps tokens apart that must not be computed together.

    Raises:
        ValueError: a forest that does not know where its tokens are.
        TypeError: no forest.

    >>> from rollmath import Forest
    >>> tokens = np.array([9, 1, 2, 3, 4, 9, 1, 2, 5, 9, 7])
    >>> forest = Forest.from_sequences(tokens, [0, 5, 9, 11], groups=["a"] * 3, prompt_lengths=[1, 1, 1])
    >>> batch = pack(forest)
    >>> batch
    PrefixBatch(7 tokens of 11, 3 rollouts, 1 tree)
    >>> batch.take_column(tokens).tolist(), batch.positions.tolist()
    ([9, 1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 4, 3, 1])
    >>> batch.end.tolist(), batch.previous.tolist()
    ([7, 6, 6, 5, 5, 6, 7], [-1, 0, 1, 2, 3, 2, 0])
    """
    made = as_forest("pack", forest)
    _core.forest_pack("pack", made._preorder, np.zeros(0, np.int64))
    return PrefixBatch._make(made, np.arange(made.n_trees))


class Split(NamedTuple):
    """Result of :meth:`PrefixBatch.split`: the parts, and the numbers of those that are over the budget."""

    parts: tuple[PrefixBatch, ...]
    oversized: NDArray[np.int64]


class PrefixBatch(Masks):
    """The tokens of some trees as one sequence: depth first, one tree after another, prompts included.

    Made by :func:`pack`; immutable. Its tokens are *packed*; the caller's own, one rollout after another, are *flat*.
    The tokens that descend from a token, itself included, are an interval of the packed order, so attention is
    ``kv <= q < end[kv]``, and the token before ``t`` on its path is ``previous[t]``, whose output predicts ``t``.

    *Targets* are the packed tokens that are predicted: all but the prompts and what has nothing before it. What the
    model gives for them goes back to rollouts by :meth:`gather`, before the loss, so that any loss is exact.

    Attributes:
        forest: the forest, whole.
        trees: which of its trees these are, int64 ``[n_trees]``.
    """

    def __init__(self) -> None:
        msg = "PrefixBatch(): make one with rollmath.prefix.pack"
        raise TypeError(msg)

    @classmethod
    def _make(cls, forest: Forest, trees: NDArray[np.int64]) -> PrefixBatch:
        batch = cls.__new__(cls)
        batch._fill(forest=forest, trees=frozen(trees), _tensors={})
        return batch

    def _part(self, picked: NDArray[Any] | slice) -> PrefixBatch:
        made = PrefixBatch._make(self.forest, self.trees[picked])
        # Known here; to count them again would take a pass over the whole forest for each part.
        made._fill(_sizes=tuple(frozen(x[picked]) for x in self._sizes))
        return made

    def take(self, trees: ArrayLike) -> PrefixBatch:
        """A batch of some of these trees, in the order given.

        Args:
            trees: ints below ``n_trees``, none twice, or bools ``[n_trees]``.

        Raises:
            ValueError: a tree that is not there or comes twice.
            TypeError: neither integers nor bools.
        """
        who = "PrefixBatch.take"
        picked, _ = host(who, "trees", trees)
        if picked.dtype == bool:
            if picked.shape != (self.n_trees,):
                msg = f"{who}(): 'trees' as bools must have shape ({self.n_trees},) (= n_trees), got {picked.shape}"
                raise ValueError(msg)
            return self._part(picked)
        picked, _ = integers(who, "trees", picked)
        if len(picked) and (picked.min() < 0 or picked.max() >= self.n_trees):
            msg = f"{who}(): 'trees' must be in [0, {self.n_trees}) (= n_trees), got {picked.min()} to {picked.max()}"
            raise ValueError(msg)
        if len(np.unique(picked)) < len(picked):
            msg = f"{who}(): 'trees' must not repeat; every token of a batch is there once"
            raise ValueError(msg)
        return self._part(picked)

    def split(self, max_tokens: int, *, unit: Literal["tree", "group"] = "tree") -> Split:
        """Micro-batches of whole trees, in order, each as many as fit ``max_tokens`` packed tokens.

        A tree with more tokens is a part of its own; ``oversized`` has the numbers of such parts. With one
        ``Normalizer`` of the whole step, the losses of the parts add up to that of the batch.

        Args:
            max_tokens: the budget.
            unit: ``"group"`` keeps the trees of a group in one part, groups in order of first appearance. Needed where
                a rollout has rows in several trees (``Forest.from_messages``: a turn that does not extend the one
                before it begins a tree) and the loss looks at whole rollouts.

        Raises:
            ValueError: ``max_tokens`` under 1, an unknown ``unit``.
            TypeError: no integer.

        >>> from rollmath import Forest
        >>> batch = pack(Forest.from_sequences([1, 2, 3, 4, 5, 6], [0, 4, 5, 6], groups=["a", "b", "c"]))
        >>> batch.split(2)
        Split(parts=(PrefixBatch(4 tokens of 4, 1 rollout, 1 tree), PrefixBatch(2 tokens of 2, 2 rollouts, 2 trees)), \
oversized=array([0]))
        """
        who = "PrefixBatch.split"
        budget = whole(who, "max_tokens", max_tokens, 1)
        choice(who, "unit", unit, ("tree", "group"))
        order = np.arange(self.n_trees)
        bounds = np.arange(self.n_trees + 1)
        if unit == "group":
            _, first, of = np.unique(self.forest.groups.index[self.trees], return_index=True, return_inverse=True)
            order = np.argsort(first[of], kind="stable")
            bounds = np.append(np.flatnonzero(np.diff(first[of][order], prepend=-1)), self.n_trees)
        # Packed tokens before each unit.
        before = np.append(0, np.cumsum(self._sizes[1][order]))[bounds]
        parts: list[PrefixBatch] = []
        oversized: list[int] = []
        start = 0
        while start < len(bounds) - 1:
            fits = int(np.searchsorted(before, before[start] + budget, side="right")) - 1
            stop = max(fits, start + 1)
            if fits <= start:
                oversized.append(len(parts))
            parts.append(self._part(order[bounds[start] : bounds[stop]]))
            start = stop
        return Split(tuple(parts), np.array(oversized, np.int64))

    def take_column(self, flat: ArrayLike) -> Array:
        """The packed tokens' own of any column of the flat tokens: ``flat[index]``.

        Of several copies of a token it is that of the first rollout that has it; :meth:`merge` checks that they agree.

        Args:
            flat: one item a flat token, ``[flat tokens, ...]``: token ids, routing. A NumPy array, a list, or a tensor
                on any device, through which gradients flow.

        Raises:
            ValueError: not one item a flat token.
            TypeError: no array.
        """
        return self._select(self._flat("PrefixBatch.take_column", flat), "index")

    def labels(self, flat: ArrayLike) -> Array:
        """The targets' own of any column of the flat tokens: ``flat[index[targets]]``, ``[n_targets, ...]``.

        Of token ids, the labels. Arguments and errors are those of :meth:`take_column`.
        """
        return self._select(self._flat("PrefixBatch.labels", flat), "_target_index")

    def _flat(self, who: str, flat: ArrayLike) -> Array:
        x = flat if is_tensor(flat) else host(who, "flat", flat)[0]
        offsets = self.forest._preorder.offsets
        assert offsets is not None  # pack() asked for them
        total = int(offsets[-1])
        if x.ndim < 1 or len(x) != total:
            got = tuple(x.shape)
            msg = f"{who}(): 'flat' must have shape ({total}, ...) (= flat tokens), got {got}"
            raise ValueError(msg)
        return x

    def shift(self, outputs: Array) -> Array:
        """The output of the model that predicts each target: ``outputs[previous[targets]]``, ``[n_targets, ...]``.

        The children of a token all take that token's. Differentiable; see :meth:`gather` for the way back.

        Args:
            outputs: hidden states or logits, ``[n_tokens, ...]``.

        Raises:
            ValueError: not one row a packed token.
        """
        if not hasattr(outputs, "shape") or len(outputs.shape) < 1:
            msg = f"PrefixBatch.shift(): 'outputs' must be an array [n_tokens, ...], got {describe(outputs)}"
            raise TypeError(msg)
        if len(outputs) != self.n_tokens:
            got = tuple(outputs.shape)
            msg = f"PrefixBatch.shift(): 'outputs' must have shape ({self.n_tokens}, ...) (= n_tokens), got {got}"
            raise ValueError(msg)
        return self._select(outputs, "sources")

    def expand(self, x: ArrayLike) -> Array:
        """The value of its node for each packed token: ``[n_nodes]`` of the forest to ``[n_tokens]``.

        With :func:`rollmath.ops.leaf_to_node_weights` these are the weights of shared tokens in a loss of your own.
        """
        values, kind = host("PrefixBatch.expand", "x", x)
        if values.shape != (self.forest.n_nodes,):
            msg = f"PrefixBatch.expand(): 'x' must have shape ({self.forest.n_nodes},) (= forest.n_nodes), got "
            raise ValueError(msg + str(values.shape))
        return kind.wrap(np.repeat(values[self._packed[4]], np.diff(self._packed[5])))

    def gather(self, x: Array, *, include_root: bool = False, fill: float = math.nan) -> Ragged:
        """From packed tokens or targets to rollouts: each rollout gets its own copy of what it shares.

        Row ``i`` is rollout ``rollouts[i]``, its tokens after the prompt. With ``rows`` of one row a sequence of the
        forest, the result has the offsets of ``rows.take(batch.rollouts)``.

        Args:
            x: 1-D, one number a target (log-probabilities) or one a packed token; NumPy, or torch on any device.
            include_root: with the prompt tokens, too; for one number a packed token.
            fill: what a token gets that nothing predicts, where ``x`` has one number a target: the first of a rollout
                without a prompt. NaN, which makes a loss NaN that trains it.

        Returns:
            A :class:`~rollmath.Ragged` of the dtype and kind of ``x``. Gradients flow: that of a packed token is the
            sum over its copies, added in the order of the rollouts (float16 and bfloat16 in float32), the same bits in
            each run. It costs a pass over the flat tokens; on another device than the CPU, three launches for each copy
            of the token that has most.

        Raises:
            ValueError: neither of the two lengths.
            TypeError: no 1-D array.
        """
        who = "PrefixBatch.gather"
        if not is_tensor(x):
            x = host(who, "x", x)[0]
        if x.ndim != 1:
            msg = f"{who}(): 'x' must be 1-D, got {describe(x)}"
            raise TypeError(msg)
        if len(x) == self.n_tokens:
            name = "_full" if include_root else "_own"
            return Ragged._make(self._select(x, name), self._rows(include_root=include_root)[2])
        if include_root or len(x) != self.n_targets:
            also = "" if include_root else f" or {self.n_targets} (= n_targets)"
            msg = f"{who}(): 'x' must have length {self.n_tokens} (= n_tokens){also}, got {len(x)}"
            raise ValueError(msg)
        if self._unpredicted:
            missing = isinstance(fill, (float, np.floating)) and math.isnan(fill)
            x = _with_last(x, fill if missing else real(who, "fill", fill))
        return Ragged._make(self._select(x, "_target_rows"), self.offsets)

    def merge(self, x: Ragged | Array, *, how: Literal["same", "sum"] = "same", tolerance: float = 0.0) -> Array:
        """From rollouts to targets, the way back of :meth:`gather`.

        Args:
            x: one number a position of the rollouts, as :meth:`gather` returns it; a constant. NumPy, or torch: numbers
                on another device are copied to the host once, and the result back.
            how: ``"same"``: the number that all copies of a token have. ``"sum"``: their sum.
            tolerance: with ``"same"``, how far copies may be from the first one; NaN equals NaN. Engines that computed
                the copies in other batches disagree by rounding.

        Returns:
            ``[n_targets]``, in the kind of ``x``; a sum in float64 inside.

        Raises:
            ValueError: copies that differ: how many tokens, by how much at most, and where first. Wrong offsets or
                length, a tensor that requires grad.
        """
        who = "PrefixBatch.merge"
        choice(who, "how", how, ("same", "sum"))
        if isinstance(x, Ragged) and not np.array_equal(x.offsets, self.offsets):
            msg = f"{who}(): 'x' must have the offsets of the batch; see PrefixBatch.offsets"
            raise ValueError(msg)
        total = int(self.offsets[-1])
        values, kind = floats(who, "x", x.values if isinstance(x, Ragged) else x, length=total, why="offsets[-1]")
        index, n = self._target_rows, self.n_targets
        if how == "sum":
            summed = np.bincount(index, weights=values, minlength=n + 1)[:n]
            return kind.wrap(summed.astype(values.dtype))
        limit = real(who, "tolerance", tolerance, 0.0)
        # Writing from the last on leaves the first.
        first = np.full(n + 1, np.nan, values.dtype)
        first[index[::-1]] = values[::-1]
        with np.errstate(invalid="ignore"):
            gap = np.abs(values - first[index])
        gap[(values == first[index]) | (np.isnan(values) & np.isnan(first[index])) | (index == n)] = 0.0
        if not (gap <= limit).all():
            self._raise_copies(who, values, first, np.flatnonzero(~(gap <= limit)), float(gap.max()))
        return kind.wrap(first[:n])

    def _raise_copies(
        self, who: str, x: NDArray[Any], first: NDArray[Any], wrong: NDArray[np.int64], largest: float
    ) -> None:
        at, index = int(wrong[0]), self._target_rows
        row = int(np.searchsorted(self.offsets, at, side="right")) - 1
        tokens = len(np.unique(index[wrong]))
        msg = (
            f"{who}(): 'x' must be the same for all copies of a token, but {tokens} of {self.n_targets} differ, by "
            f"{largest:.3g} at most; first position {at - int(self.offsets[row])} of rollout {self.rollouts[row]}: "
            f"{x[at]} and {first[index[at]]}; give a tolerance, or a loss over rollouts with PrefixBatch.gather"
        )
        raise ValueError(msg)

    def _select(self, x: Array, name: str) -> Array:
        if not is_tensor(x):
            return x[getattr(self, name)]
        from rollmath.prefix._select import Rounds, rounds_of, select  # noqa: PLC0415

        def rounds() -> Rounds:
            key, kept = (f"rounds of {name}", str(x.device)), self._tensors
            if key not in kept:
                kept[key] = rounds_of(getattr(self, name), x.device)
            made: Rounds = kept[key]
            return made

        return select(x, self._tensor(name, x.device), rounds)

    def __repr__(self) -> str:
        tokens = f"{counted(self.n_tokens, 'token')} of {int(self._sizes[0].sum())}"
        return f"PrefixBatch({tokens}, {counted(self.n_rollouts, 'rollout')}, {counted(self.n_trees, 'tree')})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PrefixBatch._make, (self.forest, np.array(self.trees))


def _with_last(x: Array, value: float) -> Array:
    """``x`` with one more number."""
    if is_tensor(x):
        import torch  # noqa: PLC0415

        return torch.cat([x, x.new_full((1,), value)])
    return np.append(x, np.asarray(value).astype(x.dtype) if x.dtype.kind == "f" else value)
