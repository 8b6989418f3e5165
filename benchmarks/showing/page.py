"""The page and README's results section, both made from one result file.

The page is one HTML file with everything in it: pictures as inline SVG, tables, machine, method.
It asks for nothing from any network, and its content policy forbids it to. Nothing here measures
or judges: numbers, tables and conclusions come from `summary`, pictures from `pictures`.
"""

import html
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from benchmarks import drawing, pictures, summary

README_BEGIN = "<!-- results: generated from benchmarks/results/reference.json -->"
README_END = "<!-- end of results -->"
README_FOLDER = "benchmarks/results"  # where README finds the pictures
README_PICTURES = {
    "ping": "rate-latency",
    "fanout": "fan-out",
    "idle": "idle-cost",
    "work": "work",
}
PAGE_PICTURES = {
    "ping": ("rate-latency",),
    "fanout": ("fan-out",),
    "idle": ("idle-cost", "memory"),
    "stall": ("stall",),
    "work": ("work",),
}
# What a newer model may lose at: experiment, which of its points, metric.
STAKES = (
    ("ping", {"mode": "closed"}, "server_cpu_us"),
    ("ping", {"mode": "open"}, "p99_ms"),
    ("fanout", {"mode": "flood"}, "deliveries_per_s"),
    ("fanout", {"mode": "talk"}, "deliveries_per_s"),
    ("fanout", {"mode": "paced"}, "p95_ms"),
    ("idle", {}, "server_cpu_us"),
    ("idle", {}, "rss_kib"),
    ("churn", {}, "server_cpu_ms"),
    ("stall", {}, "worst_delay_ms"),
    ("work", {}, "p99_ms"),
)
STEPS = (("v1_threads", "v2_select"), ("v2_select", "v3_broadcast"), ("v3_broadcast", "v4_asyncio"))

TITLE = "Four concurrency models, measured"
NUMBER = re.compile(r"[-+]?\d")  # how a cell of a column of numbers begins
# The neutral colours of the pictures, by what the page calls them: it has them for light and dark.
PAGE_COLOURS = {
    drawing.INK: "--ink",
    drawing.MUTED: "--muted",
    drawing.GRID: "--grid",
    drawing.BAND: "--band",
    drawing.PAPER: "--paper",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --grid: #d8dee4;
  --band: #f1f3f5; --paper: #ffffff; --link: #0550ae; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --muted: #9aa4ae; --grid: #363d45;
  --band: #22272d; --paper: #14171b; --link: #79b8ff; --warn: #3d3011; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 56rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
code { font: .9em ui-monospace, monospace; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
dt { font-weight: 600; } dd { margin: 0 0 0 1.25rem; } dt { margin-top: .6rem; }
.quiet, caption { color: var(--muted); }
.quiet { font-size: .9rem; }
.conclusion { padding: .5rem .9rem; background: var(--band); border-left: 4px solid var(--muted); }
.warning { padding: .5rem .9rem; background: var(--warn); border-radius: 4px; }
figure { margin: 1.5rem 0; }
svg { display: block; width: 100%; max-width: 50rem; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.scroll { overflow-x: auto; margin: 1rem 0 .5rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 600; } tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
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

    Without matplotlib the page is written all the same and says so. Raises
    `summary.ResultError` for a file that is no result, ReportError when `out_dir` is not writable.
    """
    result = summary.load_result(result_path)
    out_dir, page = Path(out_dir), Path(out_dir) / "report.html"
    missing = pictures.pictures_available()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        drawn = [] if missing else pictures.draw_pictures(result, out_dir)
        inline = {
            path.stem: inline_svg(path.read_text(encoding="utf-8"), path.stem)
            for path in drawn
            if path.suffix == ".svg"
        }
        text = page_of(result, Path(result_path).name, inline, missing)
        page.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write the report into {out_dir}: {error.strerror}") from None
    return [page, *drawn]


def rewrite_readme(readme_path: Path, result_path: Path) -> bool:
    """Put the section of this result between README's two markers; says whether it changed.

    Raises `summary.ResultError` or ReportError, each one line.
    """
    section = readme_section(summary.load_result(result_path))
    try:
        text = Path(readme_path).read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot read {readme_path}: {error.strerror}") from None
    old = section_in(text, readme_path)
    if old == section:
        return False
    try:
        Path(readme_path).write_text(text.replace(old, section), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write {readme_path}: {error.strerror}") from None
    return True


def section_in(text: str, where: object = "README.md") -> str:
    """README's results section with its two markers. ReportError when they are not there once."""
    for marker in (README_BEGIN, README_END):
        if text.count(marker) != 1:
            raise ReportError(f"{where} must hold this line exactly once: {marker}")
    begin, end = text.index(README_BEGIN), text.index(README_END) + len(README_END)
    if end < begin:
        raise ReportError(f"{where} has its two results markers in the wrong order")
    return text[begin:end]


def readme_section(result: dict) -> str:
    """README's results section in Markdown, from marker to marker."""
    drawn = {picture.name: picture for picture in pictures.pictures_of(result)}
    lines = [
        README_BEGIN,
        "",
        f"Measured on {_markdown(pictures.machine_line(result))}, {_day(result)}. "
        + _markdown(noise_line(result))
        + f" Every trial is in [the result file]({README_FOLDER}/reference.json);"
        " [benchmarks/README.md](benchmarks/README.md) says how each number is made.",
    ]
    if busy := summary.disturbed(result):
        lines += ["", f"{busy[0].upper()}{busy[1:]}."]
    for experiment in _measured(result):
        lines += ["", f"### {summary.title(experiment)}", ""]
        lines.append(_markdown(summary.conclusion(result, experiment)))
        picture = drawn.get(README_PICTURES.get(experiment, ""))
        if picture:
            alt = _markdown(picture.alt)
            lines += ["", f"![{alt}]({README_FOLDER}/{picture.name}.svg)"]
    lines += ["", "### Where the newer model loses", ""]
    for older, newer, losses in newer_loses(result):
        lines.append(f"- `{older}` → `{newer}`:{'' if losses else ' nowhere in these numbers'}")
        lines += [f"  - {_markdown(loss)}" for loss in losses]
    lines += ["", README_END]
    return "\n".join(lines)


def newer_loses(result: dict) -> Iterator[tuple[str, str, list[str]]]:
    """(older, newer, losses) for each step of the study that this result measured.

    A loss is a difference shown at a point that both hold; of each kind the largest is told, with
    its place. A smaller number of clients held is a loss too.
    """
    measured = {trial["server"] for trial in result["trials"]}
    of_version: dict[str, dict] = {}
    for server in result["servers"]:
        if server["id"] in measured:
            of_version.setdefault(server["version"], server)
    for older, newer in STEPS:
        if older not in of_version or newer not in of_version:
            continue
        first, second = of_version[older]["id"], of_version[newer]["id"]
        losses = [
            loss
            for experiment, wanted, metric in STAKES
            if (loss := _worst_loss(result, experiment, wanted, metric, first, second))
        ]
        held = {
            refusal["server"]: refusal["held"]
            for refusal in result["refusals"]
            if refusal["held"] is not None
        }
        if second in held and held[second] < held.get(first, float("inf")):
            losses.append(f"it holds {held[second]:,} clients, then says `! server full`")
        yield older, newer, losses


def _worst_loss(
    result: dict, experiment: str, wanted: dict, name: str, first: str, second: str
) -> str | None:
    metric = summary.METRICS[name]
    worst: tuple[float, str] | None = None
    cells = summary.cells(result, experiment)
    olds = [cell for cell in cells if cell.server == first and _ranked(cell, name)]
    news = [cell for cell in cells if cell.server == second and _ranked(cell, name)]
    for before, after in itertools.product(olds, news):
        point = before.point
        if point != after.point or any(point.get(key) != wanted[key] for key in wanted):
            continue
        old, new = before.values[name], after.values[name]
        floor = summary.floor(result, experiment, point, name)
        difference = summary.difference(old, new, floor)
        factor = 1 + difference.ratio
        if metric.better == "higher":
            factor = 1 / factor if factor else float("inf")
        if not difference.shown or factor <= 1 or (worst and worst[0] >= factor):
            continue
        sizes = (summary.number(summary.summarize(values).median) for values in (old, new))
        worst = (
            factor,
            f"{metric.label[0].lower()}{metric.label[1:]} {' → '.join(sizes)} {metric.unit}"
            f" ({experiment}: {pictures.describe(point)})",
        )
    return worst[1] if worst else None


def _ranked(cell, name: str) -> bool:
    """Whether this number of a cell may be compared with others."""
    if name not in cell.values:
        return False
    return cell.status == "ok" or (
        cell.status == "client-limited" and not summary.METRICS[name].by_client
    )


def noise_line(result: dict) -> str:
    """The noise floor in one or two sentences."""
    noise = result["noise_floor"]
    if noise is None:
        return (
            "No noise floor was measured (`python3 -m benchmarks aa` does): a difference counts"
            " where the trials' ranges do not overlap."
        )
    largest: dict[str, float] = {}
    for entry in noise["floors"]:
        name = entry["metric"]
        if name in {metric for _, _, metric in STAKES} | {"replies_per_s"}:
            largest[name] = max(largest.get(name, 0.0), entry["floor"])
    told = ", ".join(f"{summary.METRICS[name].label} {size:.0%}" for name, size in largest.items())
    return (
        f"Noise floor, {noise['server']} against itself, at its largest: {told}. A smaller"
        " difference is no difference."
    )


def _measured(result: dict) -> list[str]:
    return [name for name in summary.EXPERIMENTS if summary.points(result, name)]


def _day(result: dict) -> str:
    return result["started"][:10]


def _markdown(text: str) -> str:
    """Text as it is, on one line, where Markdown or HTML would read signs of its own."""
    line = " ".join(text.split())
    outside = re.split(r"(`[^`]*`)", line)  # what is in backticks is literal already
    return "".join(
        part if index % 2 else re.sub(r"([\\*\[\]<>|$]|(?<!\w)_|_(?!\w))", r"\\\1", part)
        for index, part in enumerate(outside)
    )


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


def page_of(result: dict, file_name: str, drawn: dict[str, str], missing: str | None = None) -> str:
    """The whole page. `drawn`: inline SVG by picture name; `missing`: why there is none."""
    parts = [_head(result, file_name)]
    if missing:
        parts.append(f'<p class="warning">{_text(missing)}</p>')
    parts.append(_at_a_glance(result))
    parts += [_experiment(result, name, drawn) for name in _measured(result)]
    parts += [_method(result), _checks(result), _machine(result)]
    return PAGE.format(title=TITLE, style=STYLE, body="\n".join(parts))


def _head(result: dict, file_name: str) -> str:
    flags = []
    if result["interrupted"]:
        flags.append("This run was interrupted: what is here was measured, the rest is missing.")
    if result["size"] != "full":
        flags.append(
            f"A run of the {result['size']} size: fewer and shorter trials than the full one has."
        )
    if result["kind"] == "aa":
        flags.append("One version against itself: what differs here is noise.")
    if busy := summary.disturbed(result):
        flags.append(f"{busy[0].upper()}{busy[1:]}.")
    flags += [
        f"{check['server']} failed the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    commit = result["commit"] or "unknown"
    changed = ", with uncommitted changes" if result["dirty"] else ""
    finished = result["finished"] or "not finished"
    links = "".join(
        f'<li><a href="#{name}">{_text(summary.title(name))}</a></li>' for name in _measured(result)
    )
    warnings = "".join(f'<p class="warning">{_text(flag)}</p>' for flag in flags)
    return f"""<header>
<h1>{TITLE}</h1>
<p>{_text(pictures.machine_line(result))}</p>
<p class="quiet">{_text(result["started"])} to {_text(finished)}, commit {_text(commit)}{changed};
<code>{_text(shlex.join(result["command"]))}</code>;
every trial is in <code>{_text(file_name)}</code></p>
{warnings}
<nav aria-label="Contents"><ul>{links}<li><a href="#method">Method</a></li>
<li><a href="#machine">Machine</a></li></ul></nav>
</header>"""


def _at_a_glance(result: dict) -> str:
    rows = [[summary.title(name), summary.conclusion(result, name)] for name in _measured(result)]
    losses = "".join(
        f"<dt>{_text(older)} → {_text(newer)}</dt>"
        + "".join(f"<dd>{_prose(loss)}</dd>" for loss in told or ["nowhere in these numbers"])
        for older, newer, told in newer_loses(result)
    )
    lost = f"<h3>Where the newer model loses</h3><dl>{losses}</dl>" if losses else ""
    return f"""<section id="glance"><h2>At a glance</h2>
{_table("What these numbers show", ["experiment", "conclusion"], rows)}
{lost}
<p>{_prose(noise_line(result))}</p>
</section>"""


def _experiment(result: dict, name: str, drawn: dict[str, str]) -> str:
    figures = "".join(
        f"<figure>{drawn[picture]}</figure>"
        for picture in PAGE_PICTURES.get(name, ())
        if picture in drawn
    )
    tables = "".join(
        _table(table.title, table.headers, table.rows, table.notes)
        for table in summary.tables(result, name)
    )
    return f"""<section id="{name}"><h2>{_text(summary.title(name))}</h2>
<p class="quiet">{_prose(summary.question(name))}</p>
<p class="conclusion">{_prose(summary.conclusion(result, name))}</p>
{figures}
{tables}
</section>"""


def _method(result: dict) -> str:
    trials = result["parameters"].get("trials", "several")
    items = [
        f"Every number is the median of {trials} trials, each with a fresh server process; lowest"
        " and highest stand beside it. The versions take turns, warm-up is thrown away.",
        "The load generator is a process of its own. Where there are two cores, it has one and the"
        " server the other.",
        "CPU time is the kernel's own account of all the server's threads, never wall time.",
        "Latency at an offered rate counts from the moment a request was due, not from when it"
        " could be sent, and its percentiles come from the raw samples.",
        "client-limited: the generator used over 80 % of its core, or fell over 1 % short of the"
        " offered rate. Such a rate or latency is no result; server CPU per message still is.",
        "failed: an answer or a delivery was lost or wrong. error: the server ended, hung, or could"
        " not be measured. Neither is ranked.",
    ]
    listed = "".join(f"<li>{_text(item)}</li>" for item in items)
    rows = [
        [name, key, _value(value)]
        for name, values in result["parameters"].get("experiments", {}).items()
        for key, value in values.items()
    ]
    table = _table("Parameters", ["experiment", "parameter", "value"], rows) if rows else ""
    return f'<section id="method"><h2>Method</h2><ul>{listed}</ul>{table}</section>'


def _checks(result: dict) -> str:
    labels = {server["id"]: server["label"] for server in result["servers"]}
    passed = [
        [
            labels.get(check["server"], check["server"]),
            "passed" if check["passed"] else "failed: not ranked",
            check["reason"] or "",
        ]
        for check in result["conformance"]
    ]
    refused = [
        [
            labels.get(refusal["server"], refusal["server"]),
            f"{refusal['experiment']}: {pictures.describe(refusal['point'])}",
            refusal["reason"],
        ]
        for refusal in result["refusals"]
    ]
    tables = _table(
        "Before anything was measured: handshake, delivery, framing",
        ["server", "conformance", "reason"],
        passed,
    )
    if refused:
        tables += _table("Points not measured", ["server", "point", "reason"], refused)
    return f'<section id="checks"><h2>Checks and refusals</h2>{tables}</section>'


def _machine(result: dict) -> str:
    rows = [[name.replace("_", " "), _value(value)] for name, value in result["machine"].items()]
    servers = [
        [
            server["label"],
            server["profile"],
            f"{server['python_build'] or 'not Python, or not known'}",
            str(server["gil"] or ""),
            _value(server["command"]),
        ]
        for server in result["servers"]
    ]
    headers = ["server", "profile", "interpreter", "GIL", "command"]
    return f"""<section id="machine"><h2>Machine and servers</h2>
{_table("Machine", ["what", "value"], rows)}
{_table("Servers", headers, servers)}
</section>"""


def _table(
    title: str, headers: list[str], rows: list[list[str]], notes: list[str] | None = None
) -> str:
    """A table with a caption and header cells. Columns of numbers stand at the right."""
    sides = []
    for index in range(len(headers)):
        numbers = sum(bool(NUMBER.match(row[index])) for row in rows)
        sides.append(' class="number"' if numbers * 2 > len(rows) else "")
    top = "".join(
        f'<th scope="col"{side}>{_text(header)}</th>'
        for header, side in zip(headers, sides, strict=True)
    )
    body = []
    for row in rows:
        first, *others = ((_prose(cell), side) for cell, side in zip(row, sides, strict=True))
        body.append(
            f'<tr><th scope="row"{first[1]}>{first[0]}</th>'
            + "".join(f"<td{side}>{cell}</td>" for cell, side in others)
            + "</tr>"
        )
    below = "".join(f'<p class="quiet">{_prose(note)}</p>' for note in notes or ())
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(title)}">'
        f"<table><caption>{_text(title)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{below}"
    )


def _value(value: object) -> str:
    """A value from the file as people read it."""
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return shlex.join(value)
        return ", ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def _text(text: object) -> str:
    return html.escape(str(text))


def _prose(text: str) -> str:
    """Escaped text in which `backticks` become code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _text(text))
