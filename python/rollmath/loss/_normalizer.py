"""Normalizer: what a loss is divided by, counted once over everything that makes one optimiser step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath._arrays import ArrayLike, choice, describe
from rollmath._checks import flag, whole
from rollmath.groups import Groups, as_groups
from rollmath.loss._check import require
from rollmath.loss._closed_form import eager
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNTS = ("tokens", "rows", "rollouts", "prompts", "empty_rows", "empty_rollouts", "empty_prompts")


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """Counts over the whole batch of an optimiser step, all its micro-batches and ranks.

    With one Normalizer for all of them, the losses of the micro-batches *add up* to that of the batch, however it is
    split, and so do the gradients. It also knows what the trainer does to gradients afterwards (:meth:`under`), and
    undoes it. A row, rollout or prompt counts if it has a trained token; those without are counted as empty.

    Make it from all rows of the step, :meth:`local`, or from those of each rank or micro-batch and then :meth:`sum` or
    :meth:`gather`. Made that way it knows every rollout of the step, and a loss of rows that are not part of it is an
    error. Given as counts alone, it can only tell that rows have more tokens than the step.

    Attributes:
        tokens: trained tokens.
        rows: rows with at least one trained token.
        rollouts: rollouts with at least one trained token.
        prompts: prompts with at least one trained token; 0 if no prompts were given.
        empty_rows: rows without a trained token.
        empty_rollouts: rollouts without one.
        empty_prompts: prompts without one.
        grad_reduce: ``"mean"`` if the trainer averages gradients over ranks (DDP and FSDP do), ``"sum"`` if it adds.
        ranks: ranks over which gradients are reduced.
        context_parallel: ranks that share the tokens of a row and are not counted in ``ranks``, each of which calls the
            loss for its own tokens, as rows with the same rollout ids; only for terms that look at one token at a time.
            1 where log-probabilities are gathered to whole rows first.
        accumulation: number by which the trainer divides each loss because of gradient accumulation; 1 if it does not.
        rollout_tokens: trained tokens of each rollout by its id; None if made from counts.
        rollout_prompts: the prompt of each rollout by its id; None if no prompts were given.

    Raises:
        ValueError: negative counts, or more rows than tokens, rollouts than rows, prompts than rollouts; unknown
            ``grad_reduce``; sizes below 1.
        TypeError: not an int.

    >>> from rollmath import Rows
    >>> rows = Rows(["a", "a", "b"], [3, 1, 2], mask=[1, 0, 1, 0, 1, 1])
    >>> normalizer = Normalizer.local(rows)
    >>> normalizer
    Normalizer(tokens=4, rows=2, rollouts=2, empty_rows=1)
    >>> normalizer.under(grad_reduce="mean", ranks=8, accumulation=2).scale
    16
    """

    tokens: int
    rows: int
    rollouts: int
    prompts: int = 0
    empty_rows: int = 0
    empty_rollouts: int = 0
    empty_prompts: int = 0
    grad_reduce: Literal["sum", "mean"] = "sum"
    ranks: int = 1
    context_parallel: int = 1
    accumulation: int = 1
    rollout_tokens: Mapping[Any, int] | None = field(default=None, repr=False)
    rollout_prompts: Mapping[Any, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in COUNTS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                msg = f"Normalizer(): {name!r} must be an int, got {value!r}"
                raise TypeError(msg)
            object.__setattr__(self, name, int(value))
        choice("Normalizer", "grad_reduce", self.grad_reduce, ("sum", "mean"))
        for name in ("ranks", "context_parallel", "accumulation"):
            object.__setattr__(self, name, whole("Normalizer", name, getattr(self, name)))
        if not 0 <= self.rollouts <= self.rows <= self.tokens:
            msg = (
                f"Normalizer(): expected 0 <= rollouts <= rows <= tokens, got rollouts={self.rollouts}, "
                f"rows={self.rows}, tokens={self.tokens}"
            )
            raise ValueError(msg)
        if not 0 <= self.prompts <= self.rollouts or min(self.counts) < 0:
            msg = "Normalizer(): expected 0 <= prompts <= rollouts and no negative count, got " + ", ".join(
                f"{name}={getattr(self, name)}" for name in COUNTS
            )
            raise ValueError(msg)

    @classmethod
    @eager
    def local(cls, rows: Rows, *, prompts: Groups | ArrayLike | None = None) -> Normalizer:
        """The counts of these rows alone: of all rows of the step, or of a part, to be added up.

        Where the tokens of a row are split over context-parallel ranks, take it of the whole rows, once.

        Args:
            rows: the rows; what has no trained token counts as empty.
            prompts: one prompt id a rollout, in the order of ``rows.rollouts.ids``, or a Groups over the rollouts; for
                the aggregations over prompts.
        """
        who = "Normalizer.local"
        require(who, "rows", rows, Rows, "Rows")
        per_rollout = rows.trained_of_rollout
        ids = rows.rollouts.ids
        live_rows, live = int((rows.trained > 0).sum()), int((per_rollout > 0).sum())
        counts: dict[str, Any] = {
            "tokens": int(per_rollout.sum()),
            "rows": live_rows,
            "rollouts": live,
            "empty_rows": rows.n_rows - live_rows,
            "empty_rollouts": rows.n_rollouts - live,
        }
        of_prompt = None
        if prompts is not None:
            made = as_groups(who, prompts, length=rows.n_rollouts, name="prompts")
            names = np.empty(made.n_groups, object)
            names[:] = made.ids
            of_prompt = dict(zip(ids, names[made.index].tolist(), strict=True))
            counts["prompts"] = len(np.unique(made.index[per_rollout > 0]))
            counts["empty_prompts"] = made.n_groups - counts["prompts"]
        return cls(
            **counts, rollout_tokens=dict(zip(ids, per_rollout.tolist(), strict=True)), rollout_prompts=of_prompt
        )

    @staticmethod
    def sum(parts: Iterable[Normalizer], *, split_rollouts: bool = False) -> Normalizer:
        """The counts of several parts (micro-batches or ranks) together; of none: all 0.

        A prompt may have rollouts in several parts. Rollout ids must be distinct in the whole step: a number that every
        rank begins at 0 again is not an id of a rollout, and is refused.

        Args:
            parts: Normalizers, all made by :meth:`local` or all from counts.
            split_rollouts: rows of one rollout may be in several parts, so that ids may come twice.

        Raises:
            ValueError: a rollout id in two parts; parts that disagree on what the trainer does, or on having prompts.
            TypeError: a part that is no Normalizer.
        """
        who = "Normalizer.sum"
        require(who, "parts", parts, Iterable, "an iterable of Normalizers")
        flag(who, "split_rollouts", split_rollouts)
        given = list(parts)
        for number, part in enumerate(given):
            require(who, f"parts[{number}]", part, Normalizer, "a Normalizer")
        if not given:
            return Normalizer(tokens=0, rows=0, rollouts=0, rollout_tokens={})
        return _merged(who, given, split_rollouts)

    def __add__(self, other: Normalizer) -> Normalizer:
        return Normalizer.sum([self, other]) if isinstance(other, Normalizer) else NotImplemented

    @staticmethod
    def gather(local: Normalizer, group: Any = None) -> Normalizer:
        """The sum of the Normalizers of all ranks, the same on each, by one ``torch.distributed.all_gather_object``.

        :func:`rollmath.distributed.normalizer` makes it from the rows of each rank instead, so that rows or prompts
        that are wrong on one rank are an error on all; here they are one where :meth:`local` is called, and the other
        ranks wait.

        Args:
            local: that of the rows of this rank, :meth:`local`, all its micro-batches.
            group: the process group of the data-parallel ranks; None is the default group.

        Raises:
            TypeError: ``local`` is no Normalizer on some rank; on all ranks.
            ValueError: what :meth:`sum` raises, on all ranks.
        """
        # Loaded here: most callers have one process, and this import is slow.
        from torch import distributed  # noqa: PLC0415

        # What is wrong here is sent like the rest, for the other ranks would wait for this one.
        sent = local if isinstance(local, Normalizer) else describe(local)
        parts: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(parts, sent, group=group)
        for rank, part in enumerate(parts):
            if not isinstance(part, Normalizer):
                msg = f"Normalizer.gather(): 'local' must be a Normalizer, got {part}, on rank {rank}"
                raise TypeError(msg)
        return Normalizer.sum(parts)

    def under(
        self,
        *,
        grad_reduce: Literal["sum", "mean"] = "sum",
        ranks: int = 1,
        context_parallel: int = 1,
        accumulation: int = 1,
    ) -> Normalizer:
        """The same counts for a trainer that treats gradients so; see the attributes.

        Say all of it in one call: what is not given is at its default again, whatever it was before.

        >>> Normalizer(tokens=4, rows=1, rollouts=1).under(accumulation=2).under(grad_reduce="mean", ranks=8).scale
        8
        """
        return replace(
            self, grad_reduce=grad_reduce, ranks=ranks, context_parallel=context_parallel, accumulation=accumulation
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """All counts, in the order of the attributes."""
        return tuple(getattr(self, name) for name in COUNTS)

    @property
    def scale(self) -> int:
        """What a loss is multiplied by, so that what the trainer does to its gradient gives that of the whole batch."""
        return self.accumulation * (self.ranks * self.context_parallel if self.grad_reduce == "mean" else 1)

    @cached_property
    def batch_id(self) -> str:
        """A digest of the counts and rollouts, whatever their order: ranks that hold the same batch have the same."""
        text = repr(list(self.counts))
        if self.rollout_tokens is not None:
            prompts = self.rollout_prompts or {}
            text += "".join(sorted(f"{key!r}:{n}:{prompts.get(key)!r};" for key, n in self.rollout_tokens.items()))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def prompt_tokens(self) -> dict[Any, int] | None:
        """Trained tokens of each prompt by its id; None if no prompts were given."""
        if self.rollout_tokens is None or self.rollout_prompts is None:
            return None
        total: dict[Any, int] = {}
        for rollout, n in self.rollout_tokens.items():
            prompt = self.rollout_prompts[rollout]
            total[prompt] = total.get(prompt, 0) + n
        return total

    def totals(self, who: str, rows: Rows) -> NDArray[np.int64] | None:
        """Trained tokens in the whole step of each rollout of ``rows``; None if this was made from counts.

        Raises:
            ValueError: rows of another batch, or with more trained tokens than the step.
        """
        trained = int(rows.trained.sum())
        if trained > self.tokens:
            msg = (
                f"{who}(): 'normalizer' must count the whole step: normalizer.tokens is {self.tokens}, "
                f"but these rows alone have {trained} trained tokens"
            )
            raise ValueError(msg)
        if self.rollout_tokens is None:
            return None
        here = rows.trained_of_rollout
        table = self.rollout_tokens
        whole_step = np.array([table.get(key, -1) for key in rows.rollouts.ids], np.int64)
        wrong = np.flatnonzero(whole_step < here)
        if len(wrong):
            key, n = rows.rollouts.ids[wrong[0]], int(whole_step[wrong[0]])
            what = f"its {here[wrong[0]]} trained tokens are more than the {n} there" if n >= 0 else "is not in it"
            msg = (
                f"{who}(): 'normalizer' must be that of the batch of these rows, but rollout {key!r} "
                f"{'is in batch ' + self.batch_id + ' but ' if n >= 0 else ''}{what} (batch {self.batch_id})"
            )
            raise ValueError(msg)
        return whole_step

    def __hash__(self) -> int:
        return hash((self.batch_id, self.scale))

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)}" for name in COUNTS[:3]]
        shown += [f"{name}={value}" for name in COUNTS[3:] if (value := getattr(self, name))]
        if self.grad_reduce != "sum":
            shown.append(f"grad_reduce={self.grad_reduce!r}")
        sizes = ("ranks", "context_parallel", "accumulation")
        shown += [f"{name}={value}" for name in sizes if (value := getattr(self, name)) != 1]
        return f"Normalizer({', '.join(shown)})"


def _merged(who: str, parts: list[Normalizer], split_rollouts: bool) -> Normalizer:
    first = parts[0]
    for name in ("grad_reduce", "ranks", "context_parallel", "accumulation"):
        if len({getattr(part, name) for part in parts}) > 1:
            msg = f"{who}(): 'parts' must agree on {name!r}, got {[getattr(part, name) for part in parts]}"
            raise ValueError(msg)
    counts = {name: sum(getattr(part, name) for part in parts) for name in COUNTS}
    trainer: dict[str, Any] = {
        name: getattr(first, name) for name in ("grad_reduce", "ranks", "context_parallel", "accumulation")
    }
    # A part without any row, of a rank that got none, need not know what the others do.
    told = {number: part for number, part in enumerate(parts) if part.rollout_tokens or any(part.counts)}
    if any(part.rollout_tokens is None for part in told.values()):
        if not all(part.rollout_tokens is None for part in told.values()):
            msg = f"{who}(): 'parts' must all be made by Normalizer.local or all from counts"
            raise ValueError(msg)
        return Normalizer(**counts, **trainer)
    if len({part.rollout_prompts is None for part in told.values()}) > 1:
        msg = f"{who}(): 'parts' must all have prompts or none"
        raise ValueError(msg)
    tokens: dict[Any, int] = {}
    prompts: dict[Any, Any] = {}
    for number, part in told.items():
        for key, n in (part.rollout_tokens or {}).items():
            if key in tokens and not split_rollouts:
                msg = (
                    f"{who}(): 'parts' must have distinct rollout ids, but {key!r} is in parts[{number}] and in one "
                    "before it; pass split_rollouts=True if its rows really are in several parts"
                )
                raise ValueError(msg)
            tokens[key] = tokens.get(key, 0) + n
        for key, prompt in (part.rollout_prompts or {}).items():
            if prompts.setdefault(key, prompt) != prompt:
                msg = f"{who}(): 'parts' disagree on the prompt of rollout {key!r}: {prompts[key]!r} and {prompt!r}"
                raise ValueError(msg)
    counts["rollouts"] = sum(n > 0 for n in tokens.values())
    counts["empty_rollouts"] = len(tokens) - counts["rollouts"]
    merged = Normalizer(
        **counts | {"prompts": 0, "empty_prompts": 0},
        **trainer,
        rollout_tokens=tokens,
        rollout_prompts=prompts if any(part.rollout_prompts is not None for part in parts) else None,
    )
    if merged.prompt_tokens is None:
        return merged
    live = sum(n > 0 for n in merged.prompt_tokens.values())
    return replace(merged, prompts=live, empty_prompts=len(merged.prompt_tokens) - live)
