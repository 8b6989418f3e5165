"""Tables, for a terminal, for Markdown and for HTML; and the line of progress."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Plain text in rows. `marks` are the (row, column) of the cells to emphasise."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    marks: set[tuple[int, int]] = field(default_factory=set)
