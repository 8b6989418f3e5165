"""The page: one HTML file with everything in it, made from one result file.

It asks for nothing from any network, and its content policy forbids it to. Nothing here measures
or judges: numbers, tables and sentences come from the experiments and from `arithmetic`.
"""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

from benchmarks.arithmetic.answer import TITLE, answer, losses, sentences
from benchmarks.arithmetic.compare import against_itself
from benchmarks.arithmetic.results import ResultError, View, describe, load_result
from benchmarks.experiments import module
from benchmarks.showing import pictures
from benchmarks.showing.tables import (
    MARKS,
    Table,
    format_troubles,
    html_text,
    in_html,
    sentence_of,
    tables_of,
)

LEAD = (
    "Four chat servers, one protocol: what each model costs, at the load that people have and"
    " beyond it. Less is better in every row but the number of clients."
)
METHOD = (
    "Paced load comes first: requests are due at random moments of a fixed rate (Poisson, from a"
    " recorded seed), and latency counts from then, whether or not the server keeps up. Saturation"
    " is named as such.",
    "Every answer carries a number and is checked, content and order. One that is lost, doubled,"
    " wrong or early fails the trial.",
    "A trial is a fresh server process and a fresh load generator process, each on its own core."
    " The servers take turns within every round, with the same seed for all.",
    "A difference is a ratio with its 95 % interval, from the logarithms of the ratios within each"
    " round. Where the interval holds 1, no difference is shown.",
    "The floors are the same three models in about a hundred plain lines of C each: what the model"
    " costs without Python. The tutorial server is what most tutorials write: it awaits each"
    " peer's drain.",
    "CPU time is the kernel's own account of all the server's threads. Its clock moves in steps of"
    " some 4 ms, so no window is shorter than 0.4 s.",
)
NOT_MEASURED = (
    "Networks: everything is on the loopback interface. No loss, no delay, no TLS.",
    "More than one core for the server, but in the experiment that says so.",
    "CPU time that the kernel spends for the server in interrupts, and all of the other side's.",
    "Names and logging: the idle ones have no name; the servers log as they do by default.",
)
# The neutral colours of the pictures, by what the page calls them: it has them for light and dark.
PAGE_COLOURS = {
    pictures.INK: "--ink",
    pictures.MUTED: "--muted",
    pictures.GRID: "--grid",
    pictures.PAPER: "--paper",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --grid: #d8dee4;
  --band: #f1f3f5; --paper: #ffffff; --link: #0550ae; --best: #dff5e3; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --muted: #9aa4ae; --grid: #363d45;
  --band: #22272d; --paper: #14171b; --link: #79b8ff; --best: #173a22; --warn: #3d3011; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 58rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
code { font: .9em ui-monospace, monospace; }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; padding: 0; list-style: none; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0 0 0 1.25rem; }
li { margin: .3rem 0; }
.quiet, .title, small { color: var(--muted); }
.quiet { font-size: .9rem; }
.said { padding: .5rem .9rem; background: var(--band); border-left: 4px solid var(--muted); }
.warning { padding: .5rem .9rem; background: var(--warn); border-radius: 4px; }
figure { margin: 1.2rem 0; }
svg { display: block; width: 100%; height: auto; }
.narrow { display: none; }
summary { cursor: pointer; padding: .4rem 0; color: var(--link); }
.scroll { overflow-x: auto; }
.scroll, .cards { margin: .3rem 0 .5rem; }
.scroll tbody th { position: sticky; left: 0; background: var(--paper); }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
.title { font-size: .9rem; font-weight: 600; margin: 1.2rem 0 0; }
th, td { padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 600; } tbody th { font-weight: 400; min-width: 4.5rem; }
thead th { vertical-align: bottom; }
td:has(strong) { background: var(--best); box-shadow: -.3rem 0 0 var(--best); }
small { display: block; font-size: .78rem; white-space: nowrap; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.cards table { width: 100%; } .cards td, .cards th { padding: .4rem .5rem .4rem 0; }
@media (max-width: 45rem) {
  .wide { display: none; } .narrow { display: block; }
  .cards thead { display: none; }
  .cards table, .cards tbody, .cards tr { display: block; }
  .cards tr { padding: .6rem 0; border-bottom: 1px solid var(--grid); }
  .cards th { display: block; border: 0; padding: 0 0 .2rem; font-weight: 600; }
  .cards td, .cards td.number { display: grid; gap: .4rem; border: 0; padding: .15rem .4rem;
    grid-template-columns: 7.4rem minmax(3.2rem, 1fr) minmax(0, 9.5rem);
    text-align: right; white-space: normal; }
  .cards td:has(strong) { box-shadow: none; }
  .cards td::before { content: attr(data-label); text-align: left; color: var(--muted); }
  .cards td:empty { display: none; }
  .cards small { white-space: normal; }
}
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


class ReportError(Exception):
    """A page or README cannot be written: one line with what and where."""


def write_report(result_path: Path, out_dir: Path) -> list[Path]:
    """Write the pictures and report.html into `out_dir`; returns the files, the page first.

    Without matplotlib the page is written all the same and says so. Raises `results.ResultError`
    for a file that is no result, ReportError when `out_dir` is not writable.
    """
    view = View(load_result(result_path))
    out_dir, page = Path(out_dir), Path(out_dir) / "report.html"
    missing = pictures.pictures_available()
    wanted = [p for name in view.experiments() for p in pictures.pictures_of(view, name)]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        drawn = [] if missing else pictures.draw_pictures(view, wanted, out_dir)
        inline = {
            path.stem: inline_svg(path.read_text(encoding="utf-8"), path.stem)
            for path in drawn
            if path.suffix == ".svg"
        }
        text = page_of(view, Path(result_path).name, inline, missing, against(result_path))
        page.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write the report into {out_dir}: {error.strerror}") from None
    return [page, *drawn]


def against(result_path: Path) -> Table | None:
    """What the A/A result beside a result file says of the method, if there is one."""
    try:
        twins = View(load_result(Path(result_path).with_name("aa.json")))
    except ResultError:
        return None
    return against_itself(twins) if twins.result["kind"] == "aa" else None


def inline_svg(svg: str, name: str) -> str:
    """A drawn file as part of an HTML page: ids unique in the page, colours that follow it."""
    opening, body = svg[svg.index("<svg") :].split(">", 1)
    # A page needs no namespaces, and its style sheet gives the size.
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", opening)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # it would hold for the page
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', lambda m: f"{m[0]}{name}-", body)
    for colour, variable in PAGE_COLOURS.items():
        body = body.replace(f": {colour}", f": var({variable})")
    return f"{opening}>{body}"


def page_of(
    view: View,
    file_name: str,
    drawn: dict[str, str],
    missing: str | None = None,
    twins: Table | None = None,
) -> str:
    """The whole page. `drawn`: inline SVG by file name; `missing`: why there is none.

    `twins`: what an A/A run says of the method.
    """
    if view.result["kind"] == "aa":
        twins = against_itself(view)
    warnings = "".join(f'<p class="warning">{html_text(line)}</p>' for line in flags(view, missing))
    parts = [f"<header><h1>{TITLE}</h1>\n<p>{LEAD}</p>\n{warnings}</header>"]
    parts.append(_answer(view))
    parts += [_experiment(view, name, drawn) for name in view.experiments()]
    parts += [_losses(view), _method(view, file_name, twins), _troubles(view), _machine(view)]
    return PAGE.format(title=TITLE, style=STYLE, body="\n".join(parts))


def flags(view: View, missing: str | None = None) -> list[str]:
    """What somebody should know before reading any number: a line each."""
    result = view.result
    lines = []
    if result["kind"] == "aa":
        lines.append("One version against itself: what differs here is chance.")
    if result["interrupted"] or result["finished"] is None:
        lines.append("This run did not end: what is here was measured, the rest is missing.")
    if result["size"] != "full":
        lines.append(f"A run of the {result['size']} size: fewer, shorter trials than a full one.")
    lines += [
        f"{check['server']} failed the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    return [*lines, *result["missing"], *([missing] if missing else [])]


def disturbed(result: dict) -> str:
    """How many trials other programs disturbed, in a sentence."""
    bad = sum(trial["status"] == "disturbed" for trial in result["trials"])
    total = len(result["trials"])
    return (
        f"{bad:,} of {total:,} trials ({bad / max(total, 1):.1%}) stayed disturbed: something else"
        f" had the server's or the generator's core for over"
        f" {result['parameters']['wait_limit']:.0%} of the time. They do not rank."
    )


def _answer(view: View) -> str:
    links = [(name, module(name).TITLE) for name in view.experiments()]
    links += [("losses", "Where the newer model loses"), ("method", "How it was measured")]
    listed = "".join(f'<li><a href="#{name}">{html_text(title)}</a></li>' for name, title in links)
    told = "".join(f"<li>{html_text(sentence)}</li>" for sentence in sentences(view))
    table = replace(answer(view), title="The answer")
    shown = in_html(table, "cards") if table.rows else ""
    return f"""<section id="answer">{shown}
<ul>{told}</ul>
<p class="quiet">{html_text(pictures.machine_line(view.result))}</p>
<nav aria-label="Contents"><ul>{listed}</ul></nav></section>"""


def _experiment(view: View, name: str, drawn: dict[str, str]) -> str:
    figures = "".join(
        f'<figure><div class="wide">{drawn[picture.name]}</div>'
        f'<div class="narrow">{drawn[picture.name + pictures.FOR_PHONES]}</div></figure>'
        for picture in pictures.pictures_of(view, name)
        if picture.name in drawn
    )
    tables = "".join(in_html(table) for table in tables_of(view, name))
    return f"""<section id="{name}"><h2>{html_text(module(name).TITLE)}</h2>
<p class="quiet">{html_text(module(name).QUESTION)}</p>
{figures}
<p class="said">{html_text(sentence_of(view, name))}</p>
<details><summary>All numbers</summary>{tables}</details>
</section>"""


def _losses(view: View) -> str:
    listed = "".join(
        f"<dt>{html_text(older)} → {html_text(newer)}</dt>"
        + "".join(f"<dd>{html_text(loss)}</dd>" for loss in told or ["nowhere in these numbers"])
        for older, newer, told in losses(view)
    )
    heading = '<section id="losses"><h2>Where the newer model loses</h2>'
    return f"{heading}<dl>{listed}</dl></section>"


def _method(view: View, file_name: str, twins: Table | None) -> str:
    result = view.result
    items = [*METHOD, f"{disturbed(result)} There were {result['parameters']['rounds']} rounds."]
    method = "".join(f"<li>{html_text(item)}</li>" for item in items)
    marks = "".join(
        f"<li>{html_text(f'{sign} {status}: {meaning}')}</li>"
        for status, (sign, meaning) in MARKS.items()
    )
    absent = "".join(f"<li>{html_text(item)}</li>" for item in NOT_MEASURED)
    changed = ", with uncommitted changes" if result["dirty"] else ""
    ended = result["finished"] or "not finished"
    return f"""<section id="method"><h2>How it was measured</h2><ul>{method}</ul>
<h3>Marks in the tables</h3><ul>{marks}</ul>
<h3>What is not measured</h3><ul>{absent}</ul>
{in_html(twins) if twins else ""}
<p class="quiet">{html_text(f"{result['started']} to {ended}, commit {result['commit']}{changed}")};
<code>{html_text(shlex.join(result["command"]))}</code>;
every trial is in <code>{html_text(file_name)}</code></p></section>"""


def _troubles(view: View) -> str:
    lines = "".join(f"<li>{html_text(line)}</li>" for line in format_troubles(view))
    return f"""<section id="troubles"><details>
<summary>Trials that do not rank, points that were refused</summary>
<ul class="quiet">{lines or "<li>none</li>"}</ul></details></section>"""


def _machine(view: View) -> str:
    result = view.result
    rows = [[name.replace("_", " "), _value(value)] for name, value in result["machine"].items()]
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
    headers = ["server", "profile", "interpreter", "GIL", "command"]
    tables = [
        Table("Machine", ["what", "value"], rows),
        Table("Servers", headers, servers),
        Table("Parameters", ["experiment", "parameter", "value"], parameters),
    ]
    shown = "".join(in_html(table) for table in tables if table.rows)
    return f"""<section id="machine"><details><summary>Machine, servers, parameters</summary>
{shown}</details></section>"""


def _value(value: object) -> str:
    """A value from the file as people read it."""
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return shlex.join(value)
        return ", ".join(describe(i) if isinstance(i, dict) else str(i) for i in value)
    return value if isinstance(value, str) else json.dumps(value)
