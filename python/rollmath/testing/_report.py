"""What the checks found."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

#: What a check can end with. Only "fails" fails.
VERDICTS = ("pass", "note", "fails", "allowed", "not applicable")
_WIDTH = 120


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        id: the check.
        verdict: ``"pass"``; ``"note"``: no defect, but worth knowing; ``"fails"``; ``"allowed"``: fails, as the caller
            declared; ``"not applicable"``.
        seen: what happened, in numbers.
        what: what must hold.
        why: what goes wrong where it does not.
    """

    id: str
    verdict: str
    seen: str
    what: str
    why: str

    def explain(self) -> str:
        """Several lines: what must hold, what happened instead, and why it matters."""
        parts = [
            f"{self.id}: {self.verdict}",
            "",
            *_paragraph("must hold   ", self.what),
            *_paragraph("happened    ", self.seen),
            *_paragraph("why         ", self.why),
        ]
        return "\n".join(parts)


@dataclass(frozen=True)
class Report:
    """What all checks found; ``print`` it.

    Attributes:
        name: the function's.
        results: one :class:`Result` a check.
    """

    name: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that fail and were not declared in ``allow=``."""
        return tuple(r for r in self.results if r.verdict == "fails")

    def __getitem__(self, check: str) -> Result:
        """The result of a check, by id."""
        for result in self.results:
            if result.id == check:
                return result
        msg = f"{check!r} is not among the checks that ran: {', '.join(r.id for r in self.results)}"
        raise KeyError(msg)

    def assert_ok(self) -> None:
        """Raises AssertionError, with the table and every failure explained, if there are failures."""
        if self.failures:
            raise AssertionError("\n\n".join([str(self), *(r.explain() for r in self.failures)]))

    def __str__(self) -> str:
        counts = [(v, sum(r.verdict == v for r in self.results)) for v in VERDICTS]
        said = ", ".join(f"{n} {'fail' if v == 'fails' and n > 1 else v}" for v, n in counts if n)
        shown = [r for r in self.results if r.verdict != "not applicable"]
        wide = max((len(r.id) for r in shown), default=0)
        lines = [f"Checks of {self.name}: {said}", ""]
        for r in shown:
            lines += _paragraph(f"{r.verdict:<9}{r.id:<{wide}}  ", r.seen)
            if r.verdict == "fails":
                lines += _paragraph(" " * (wide + 11) + "why: ", r.why)
        for reason in dict.fromkeys(r.seen for r in self.results if r.verdict == "not applicable"):
            ids = [r.id for r in self.results if r.verdict == "not applicable" and r.seen == reason]
            lines += _paragraph("not applicable  ", f"{', '.join(ids)}: {reason}")
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def _paragraph(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    ) or [head]
