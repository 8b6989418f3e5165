"""The page: one HTML file with everything in it, made from one result file.

It asks for nothing from any network, and its content policy forbids it to. Nothing here measures
or judges: numbers and tables come from the experiments and from the answer.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.report import pictures
from benchmarks.report.answer import LOSSES_TITLE, TITLE, answer, losses
from benchmarks.report.compare import against_itself, twins_beside
from benchmarks.report.source import LEAD, ReportError, disturbed, flags, machine_line, open_view
from benchmarks.report.tables import format_troubles, html_text, in_html, tables_of
from benchmarks.report.verdict import VERDICT_TITLE, findings
from benchmarks.result.table import MARKS, Table
from benchmarks.result.view import View

# The neutral colours of the pictures, by what the page calls them: it has them for light and dark.
PAGE_COLOURS = {
    pictures.INK: "--ink",
    pictures.MUTED: "--muted",
    pictures.GRID: "--grid",
    pictures.PAPER: "--paper",
}
TEMPLATE, STYLE = (Path(__file__).with_name(name) for name in ("page.html", "page.css"))


def write_report(result_path: Path, out_dir: Path) -> list[Path]:
    """Write the pictures and report.html into `out_dir`; returns the files, the page first.

    Without matplotlib the page is written all the same and says so. Raises ResultError for a file
    that is no result, ReportError when `out_dir` is not writable.
    """
    view = open_view(result_path)
    page = out_dir / "report.html"
    missing = pictures.pictures_available()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        drawn = [] if missing else _draw(view, out_dir)
        inline = {
            path.stem: inline_svg(path.read_text(encoding="utf-8"), path.stem) for path in drawn
        }
        text = page_of(view, result_path.name, inline, missing, twins_beside(result_path))
        page.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write the report into {out_dir}: {error.strerror}") from None
    return [page, *drawn]


def _draw(view: View, out_dir: Path) -> list[Path]:
    # This module can be imported only where matplotlib is installed.
    from benchmarks.report.draw import draw_pictures

    drawn = (pictures.picture_of(view, name) for name in view.experiments())
    return draw_pictures(view, [picture for picture in drawn if picture], out_dir)


def inline_svg(svg: str, name: str) -> str:
    """A drawn file as part of an HTML page: ids unique in the page, colours that follow it."""
    opening, body = svg[svg.index("<svg") :].split(">", 1)
    # A page needs no namespaces, and its style sheet gives the size.
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", opening)
    # A style sheet inside would hold for the whole page.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', lambda m: f"{m[0]}{name}-", body)
    for colour, variable in PAGE_COLOURS.items():
        body = body.replace(f": {colour}", f": var({variable})")
    return f"{opening}>{body}"


def page_of(
    view: View,
    file_name: str,
    drawn: Mapping[str, str],
    missing: str | None = None,
    twins: Table | None = None,
) -> str:
    """The whole page, with `drawn` inline SVG by file name, or why that is `missing`."""
    result = view.result
    if result["kind"] == "aa":
        twins = against_itself(view)
    table = replace(answer(view), title="The answer")
    links = [(name, EXPERIMENTS[name].title) for name in view.experiments()]
    links += [("losses", LOSSES_TITLE), ("method", "How it was measured")]
    ended = result["finished"] or "not finished"
    changed = ", with uncommitted changes" if result["dirty"] else ""
    return TEMPLATE.read_text(encoding="utf-8").format(
        title=TITLE,
        style=STYLE.read_text(encoding="utf-8"),
        lead=LEAD,
        warnings=_each("p", flags(result, missing), ' class="warning"'),
        answer=in_html(table, "cards") if table.rows else "",
        verdict=_verdict(view),
        where=html_text(machine_line(result)),
        contents="".join(
            f'<li><a href="#{name}">{html_text(title)}</a></li>' for name, title in links
        ),
        experiments="\n".join(_experiment(view, name, drawn) for name in view.experiments()),
        losses_title=LOSSES_TITLE,
        losses=in_html(losses(view)),
        disturbed=html_text(disturbed(result)),
        marks=_each(
            "li", (f"{mark.sign} {status}: {mark.meaning}" for status, mark in MARKS.items())
        ),
        twins=in_html(twins) if twins else "",
        origin=html_text(f"{result['started']} to {ended}, commit {result['commit']}{changed}"),
        command=html_text(shlex.join(result["command"])),
        file_name=html_text(file_name),
        troubles=_each("li", format_troubles(view) or ["none"]),
        machine="".join(in_html(table) for table in _tables(result) if table.rows),
    )


def _each(tag: str, texts: Iterable[str], attributes: str = "") -> str:
    return "".join(f"<{tag}{attributes}>{html_text(text)}</{tag}>" for text in texts)


def _verdict(view: View) -> str:
    """The sentences of the verdict that this run has measured, and what it says of each."""
    items = "".join(
        f'<li><span class="finding {finding.name.lower()}">{finding}</span>'
        f" {html_text(sentence.text)}</li>"
        for sentence, finding in findings(view)
    )
    return f"<p>{VERDICT_TITLE}</p><ul>{items}</ul>" if items else ""


def _experiment(view: View, name: str, drawn: Mapping[str, str]) -> str:
    figure = ""
    picture = pictures.picture_of(view, name)
    if picture and picture.name in drawn:
        figure = (
            f'<figure><div class="wide">{drawn[picture.name]}</div>'
            f'<div class="narrow">{drawn[picture.name + pictures.FOR_PHONES]}</div></figure>'
        )
    tables = "".join(in_html(table) for table in tables_of(view, name))
    return f"""<section id="{name}"><h2>{html_text(EXPERIMENTS[name].title)}</h2>
<p class="quiet">{html_text(EXPERIMENTS[name].question)}</p>
{figure}
<details><summary>All numbers</summary>{tables}</details>
</section>"""


def _tables(result: dict) -> list[Table]:
    machine = [[name.replace("_", " "), _value(value)] for name, value in result["machine"].items()]
    servers = [
        [
            server["label"],
            server["profile"],
            server["python_build"] or "not Python, or not known",
            server["gil"] or "",
            _value(server["command"]),
        ]
        for server in result["servers"]
    ]
    parameters = [
        [name, key, _value(value)]
        for name, values in result["parameters"]["experiments"].items()
        for key, value in values.items()
    ]
    return [
        Table("Machine", ["what", "value"], machine),
        Table("Servers", ["server", "profile", "interpreter", "GIL", "command"], servers),
        Table("Parameters", ["experiment", "parameter", "value"], parameters),
    ]


def _value(value: object) -> str:
    """A value from the file as people read it."""
    if isinstance(value, list):
        is_command = all(isinstance(item, str) for item in value)
        return shlex.join(value) if is_command else ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
