"""An audit as a rich renderable. Imported by ``Audit.table`` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rollmath._audit_text import facts, remarks, title, why

if TYPE_CHECKING:
    from rollmath._audit_result import Audit


def renderable(audit: Audit) -> Group:
    """Title, summary, table of reasons, findings."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for label, sentences in facts(audit):
        for i, text in enumerate(sentences):
            grid.add_row("" if i else label, escape(text))
    parts: list[Text | Table] = [Text(title(audit), style="bold"), grid]
    if rows := why(audit):
        head, *body = rows
        table = Table(header_style="bold")
        for i, name in enumerate(head):
            table.add_column(name, justify="left" if i in {0, len(head) - 1} else "right")
        for row in body:
            table.add_row(*map(escape, row))
        parts.append(table)
    if audit.findings:
        parts += [Text("look at", style="bold"), *(Text(f"- {text}", style="yellow") for text in remarks(audit))]
    return Group(*parts)
