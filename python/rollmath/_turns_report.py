"""What the prefix check found, to read and to print."""

from __future__ import annotations

from typing import Any, NamedTuple

_SHOWN = 10


class PrefixBreak(NamedTuple):
    """A turn that does not extend the one before it, so that a new row began with it.

    Attributes:
        rollout: id of the rollout.
        turn: number of the turn within it, from 0.
        position: index into the prompt of the turn at which it first differs from what the turn before it had.
        expected: the token that the turn before had there.
        got: the token of the prompt, or None where the prompt has ended (it is a proper prefix).
        response_position: the same place as an index into the response of the turn before; None if in its prompt.
        row: number of the new row.
        segment: its number within the rollout.
    """

    rollout: Any
    turn: int
    position: int
    expected: int
    got: int | None
    response_position: int | None
    row: int
    segment: int

    def __str__(self) -> str:
        at = self.response_position
        where = "in the last prompt" if at is None else f"token {at} of the last response"
        got = "the prompt ended" if self.got is None else f"got {self.got}"
        return (
            f"rollout {self.rollout!r}, turn {self.turn}: position {self.position} should be {self.expected} "
            f"({where}), {got}; new row {self.row} (segment {self.segment})"
        )


class TurnsReport(NamedTuple):
    """What :meth:`Rows.from_turns` made of the turns; ``print`` it."""

    n_rollouts: int
    n_turns: int
    n_rows: int
    breaks: tuple[PrefixBreak, ...]

    def __str__(self) -> str:
        counts = f"{_count(self.n_rollouts, 'rollout')} of {_count(self.n_turns, 'turn')} made "
        head = counts + _count(self.n_rows, "row")
        if not self.breaks:
            return head + ": every turn extends the one before it"
        verb = "does" if len(self.breaks) == 1 else "do"
        head += f": {_count(len(self.breaks), 'turn')} {verb} not extend the one before it"
        lines = [head, *(f"  {one}" for one in self.breaks[:_SHOWN])]
        if len(self.breaks) > _SHOWN:
            lines.append(f"  ... and {len(self.breaks) - _SHOWN} more in report.breaks")
        return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
