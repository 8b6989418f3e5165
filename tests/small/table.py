"""README.md's table: rule × small.py of each version, how to see it, and what mends it."""

import ast
import io
import tokenize
from pathlib import Path

from harness.launcher import REPOSITORY, VERSIONS
from tests.small.lessons import MENDED_BY, TITLES, mends
from tests.small.scripts import SCRIPTS
from tests.small.suite import SmallError, Verdicts, broken_by
from tests.suite.rules import LAUNCH

README = Path(__file__).with_name("README.md")
BEGIN = "<!-- table: python3 -m tests.small judge --write -->"
END = "<!-- end of table -->"


def renewed(text: str, verdicts: dict[str, Verdicts]) -> str:
    """README's text with the table of these verdicts."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([f"{before}{BEGIN}\n", *table(verdicts), "", f"{END}{after}"])


def table(verdicts: dict[str, Verdicts]) -> list[str]:
    """Markdown: the counts, and a row for each rule. Raises SmallError."""
    short = [version[:2] for version in VERSIONS]
    lines = [
        f"| | {' | '.join(short)} |",
        f"| --- |{' ---: |' * len(VERSIONS)}",
        f"| rules that small.py keeps | {' | '.join(kept(verdicts[v]) for v in VERSIONS)} |",
        f"| lines of code in small.py | {' | '.join(_lines(v, 'small.py') for v in VERSIONS)} |",
        f"| lines of code in server.py | {' | '.join(_lines(v, 'server.py') for v in VERSIONS)} |",
        "",
        f"| rule | | {' | '.join(short)} | see it | what keeps it in server.py |",
        f"| --- | --- |{' --- |' * len(VERSIONS)} --- | --- |",
    ]
    for rule in TITLES:
        cells = [_cell(verdicts[version], rule) for version in VERSIONS]
        broken = broken_by(verdicts, rule)
        if broken and not (rule in MENDED_BY and rule in SCRIPTS):
            raise SmallError(f"{rule} is broken in {', '.join(broken)}: say how to see it and more")
        command = f"`python3 -m tests.small show {rule}`" if broken else ""
        row = [rule, TITLES[rule], *cells, command, _mends(rule, broken)]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def kept(verdicts: Verdicts) -> str:
    """Such as "13 of 28", the launch contract not counted."""
    judged = [evidence for rule, evidence in verdicts.items() if rule != LAUNCH]
    return f"{judged.count(None)} of {len(judged)}"


def _cell(verdicts: Verdicts, rule: str) -> str:
    if rule not in verdicts:
        return ""
    return "**breaks**" if verdicts[rule] else "keeps"


def _mends(rule: str, broken: list[str]) -> str:
    """The methods, once where they are the same for all versions that break the rule."""
    by_names: dict[tuple[str, ...], list[str]] = {}
    for version in broken:
        by_names.setdefault(mends(rule, version), []).append(version[:2])
    parts = []
    for names, versions in by_names.items():
        calls = ", ".join(f"`{name}()`" for name in names)
        parts.append(calls if len(by_names) == 1 else f"{', '.join(versions)}: {calls}")
    return "; ".join(parts)


def _lines(version: str, name: str) -> str:
    return str(lines_of_code((REPOSITORY / version / name).read_text(encoding="utf-8")))


def lines_of_code(source: str) -> int:
    """How many lines hold code: no comment alone, no docstring, nothing empty."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.update(range(first.lineno, first.end_lineno + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.string.strip() and token.type != tokenize.COMMENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)
