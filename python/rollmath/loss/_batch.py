"""Objectives that depend on statistics of the whole step: a pass that chooses tokens, then the loss.

A trainer sees a step in micro-batches and ranks. What is chosen "in the batch" would change with them, if each chose
for itself. So :meth:`BatchObjective.prepare` keeps the few columns that the choice needs of each part, and
:meth:`BatchObjective.with_parts` makes it once, from all of them, in an order that the parts do not decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch

from rollmath._arrays import ArrayLike
from rollmath._logprobs import LogProbs
from rollmath.loss._check import require
from rollmath.loss._objectives import Objective
from rollmath.loss._places import Piece, check_offsets, check_shape
from rollmath.loss._step import Given, Step, StepPart, TokenSet
from rollmath.loss._tokens import Tokens
from rollmath.loss._values import Values, take
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BatchObjective(Objective):
    """Base of the objectives that choose tokens in the whole step before they have a loss: frozen dataclasses.

    Attributes:
        selection: the chosen tokens; None until :meth:`with_parts`.
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "batch"
    selection: TokenSet | None

    def prepare(
        self,
        logprobs: LogProbs,
        advantages: ArrayLike,
        rows: Rows,
        *,
        level: Literal["rollout", "row", "turn", "token"] | None = None,
    ) -> StepPart:
        """First pass: what the choice needs of one micro-batch or rank, on the host; to be pickled and gathered.

        Args:
            logprobs: as for :func:`policy_loss`; numbers on another device are copied to the host once.
            advantages: as for :func:`policy_loss`.
            rows: the rows. Rollout id and segment must name a row in the whole step.
            level: as for :func:`policy_loss`.

        Raises:
            ValueError: shapes that do not fit the rows; log-probabilities or advantages of trained tokens that are not
                finite.
            TypeError: arguments of the wrong type.
        """
        who = f"{type(self).__name__}.prepare"
        require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., prox=...)")
        require(who, "rows", rows, Rows, "Rows")
        check_shape(who, "logprobs", rows, logprobs.shape)
        for name, offsets in logprobs.jagged.items():
            check_offsets(who, f"logprobs.{name}", rows, offsets)
        values = Values(who, "advantages", advantages, rows, level)
        everything = Piece(rows, range(rows.n_rows))
        where = everything.at(logprobs.shape)

        def column(x: torch.Tensor) -> torch.Tensor:
            narrow = torch.float64 if logprobs.theta.dtype == torch.float64 else torch.float32
            found = take(x.detach().reshape(-1), where).to(narrow).cpu()
            bad = found[torch.from_numpy(~np.isfinite(found.numpy()))]
            if len(bad):
                msg = f"{who}(): 'logprobs' must be finite where tokens are trained, got {float(bad[0])}"
                raise ValueError(msg)
            return found

        theta = column(logprobs.theta)
        prox = theta if logprobs.prox is None else column(logprobs.prox)
        trained = rows.trained[rows.trained > 0]
        packed = everything.at((int(rows.offsets[-1]),))
        flat = np.arange(packed.start, packed.stop) if isinstance(packed, slice) else packed
        position = flat - np.repeat(rows.offsets[:-1], rows.trained)
        ids, index, segment = rows.rollouts.ids, rows.rollouts.index.tolist(), rows.segment.tolist()
        keys = tuple((ids[index[i]], segment[i]) for i in np.flatnonzero(rows.trained).tolist())
        columns = self._columns(Given(theta.numpy(), prox.numpy(), values.at(everything, theta).numpy()))
        return StepPart(self.bare(), keys, trained, position.astype(np.int32), columns)

    def with_parts(self, parts: Iterable[StepPart]) -> Self:
        """Second pass: this objective with the tokens chosen, once for the whole step.

        Args:
            parts: what :meth:`prepare` made of all micro-batches and ranks, in any order.

        Returns:
            A new objective, the same bits for any split into parts and any order of them.

        Raises:
            ValueError: a part of an objective with other options; a row that comes twice.
            TypeError: a part that is no StepPart.
        """
        who = f"{type(self).__name__}.with_parts"
        require(who, "parts", parts, Iterable, "an iterable of what prepare() returns")
        given, bare = list(parts), self.bare()
        for number, part in enumerate(given):
            require(who, f"parts[{number}]", part, StepPart, "what prepare() returns")
            if part.objective != bare:
                msg = f"{who}(): 'parts[{number}]' must be prepared by {bare}, got one by {part.objective}"
                raise ValueError(msg)
        nothing = np.zeros(0, np.float32)
        step = Step(who, given, self._columns(Given(nothing, nothing, nothing)))
        return self._selecting(step.chosen(self._choose(step)))

    def chosen(self, who: str) -> TokenSet:
        """The selection.

        Raises:
            ValueError: there is none yet.
        """
        if self.selection is None:
            raise ValueError(unprepared(who, self))
        return self.selection

    def selected(self, tokens: Tokens) -> torch.Tensor:
        """The mark of each token.

        Raises:
            ValueError: tokens that were never marked.
        """
        if tokens.selected is None:
            raise ValueError(unprepared(type(self).__name__, self))
        return tokens.selected

    def bare(self) -> Self:
        """The objective without a selection."""
        return self._selecting(None)

    def _selecting(self, selection: TokenSet | None) -> Self:
        return cast("Self", replace(cast("Any", self), selection=selection))

    def _columns(self, given: Given) -> dict[str, NDArray[Any]]:
        """The columns that :meth:`_choose` reads, of some tokens."""
        raise NotImplementedError

    def _choose(self, step: Step) -> NDArray[np.int64]:
        """The tokens of the step that are chosen."""
        raise NotImplementedError


def unprepared(who: str, objective: Objective) -> str:
    """The message for an objective that has not seen the whole step."""
    name = type(objective).__name__
    return (
        f"{who}(): 'objective' must know the whole step; pass objective.with_parts(parts), where parts has "
        f"objective.prepare(logprobs, advantages, rows) of every micro-batch and rank; got {name} without"
    )
