"""The table of a limit, in the 80 columns of a terminal."""

import textwrap
from collections.abc import Iterable

from harness.command_line import printable
from tests.limits.claims import Limit, Row

WIDTH = 80
HEADINGS = ("version", "predicted", "did", "ok")
COLUMNS = (11, 31, 32, 3)


def introduction(limit: Limit) -> str:
    """Its name, its title, and a paragraph on how it is set."""
    title = f"{limit.name}: {limit.title}"
    return f"{title}\n{'=' * len(title)}\n{textwrap.fill(limit.how(), WIDTH)}\n"


def table(rows: Iterable[Row]) -> str:
    """All rows of one limit. Versions with the same prediction and the same result share one."""
    servers: dict[tuple[str, str, str], list[str]] = {}
    for row in sorted(rows, key=lambda row: row.place):
        servers.setdefault((row.predicted, row.did, row.verdict), []).append(short(row.server))
    lines = [_line(HEADINGS), _line(tuple("-" * width for width in COLUMNS))]
    lines += (_wrapped((" ".join(names), *cells)) for cells, names in servers.items())
    return "\n".join(lines)


def short(server: str) -> str:
    """`v1` for `v1_threads`."""
    return server.partition("_")[0]


def _wrapped(cells: tuple[str, ...]) -> str:
    """A row, in as many lines as it takes."""
    columns = [
        textwrap.wrap(printable(cell), width) or [""]
        for cell, width in zip(cells, COLUMNS, strict=True)
    ]
    height = max(map(len, columns))
    filled = [column + [""] * (height - len(column)) for column in columns]
    return "\n".join(_line(line) for line in zip(*filled, strict=True))


def _line(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, COLUMNS, strict=True))
    return " ".join(padded).rstrip()
