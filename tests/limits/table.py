"""The table of a limit, in the 80 columns of a terminal."""

import textwrap
from collections.abc import Iterable

from tests.limits.claims import STOPS_IN_GOOD_ORDER, Limit, Row

WIDTH = 80
HEADINGS = ("version", "predicted", "did", "ok")
COLUMNS = (11, 31, 32, 3)
# A server may say anything, at any length.
LONGEST_CELL = 200


def introduction(limit: Limit) -> str:
    """Its name, its title, and a paragraph on how it is set."""
    title = f"{limit.name}: {limit.title}"
    return f"{title}\n{'=' * len(title)}\n{textwrap.fill(limit.how(), WIDTH)}\n"


def table(limit: Limit, rows: Iterable[Row]) -> str:
    """All rows of one limit. Versions that were predicted the same, and did the same, share one."""
    servers: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        servers.setdefault((row.predicted, row.did, row.verdict), []).append(short(row.server))
    order = [claim.predicted for claim in (*limit.claims, STOPS_IN_GOOD_ORDER)]
    shared = sorted(
        servers, key=lambda cells: order.index(cells[0]) if cells[0] in order else len(order)
    )
    lines = [_line(HEADINGS), _line(tuple("-" * width for width in COLUMNS))]
    lines += (_wrapped((" ".join(servers[cells]), *cells)) for cells in shared)
    return "\n".join(lines)


def short(server: str) -> str:
    """`v1` for `v1_threads`."""
    return server.partition("_")[0]


def _wrapped(cells: tuple[str, ...]) -> str:
    """A row, in as many lines as it takes."""
    columns = [
        textwrap.wrap(_printable(cell), width) or [""]
        for cell, width in zip(cells, COLUMNS, strict=True)
    ]
    height = max(map(len, columns))
    filled = [column + [""] * (height - len(column)) for column in columns]
    return "\n".join(_line(line) for line in zip(*filled, strict=True))


def _line(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, COLUMNS, strict=True))
    return " ".join(padded).rstrip()


def _printable(text: str) -> str:
    """What may be sent to a terminal: an escape sequence in a server's answer may not."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= LONGEST_CELL else f"{shown[:LONGEST_CELL]}..."
