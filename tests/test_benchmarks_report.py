"""The page, the pictures, README's results section and the comparison, from made-up results.

Nothing is measured here. matplotlib is optional: what a picture holds is tested without it, and
the drawing only where it can be imported.
"""

import copy
import html.parser
import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import compare, drawing, pictures, report, summary
from benchmarks.servers.launcher import PROFILES, REPOSITORY, VERSIONS

REFERENCE = REPOSITORY / "benchmarks" / "results" / "reference.json"
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib, the one optional package, is not installed: no pictures can be drawn",
)
SPREAD = (0.99, 1.0, 1.01)  # three trials of everything


def server(name: str, version: str | None = None, label: str | None = None) -> dict:
    return {
        "id": name,
        "version": version,
        "profile": PROFILES.get(version, "chat"),
        "python": "/usr/bin/python3",
        "python_build": "CPython 3.11.7",
        "gil": "on",
        "label": label or name,
        "command": ["python3", "server.py"],
    }


def trials(experiment: str, point: dict, name: str, status: str = "ok", **metrics) -> list[dict]:
    return [
        {
            "experiment": experiment,
            "point": point,
            "server": name,
            "trial": index,
            "status": status,
            "reason": None if status == "ok" else f"a made-up reason to be {status}",
            "started": "2025-01-31T12:00:00Z",
            "metrics": {metric: value * factor for metric, value in metrics.items()},
        }
        for index, factor in enumerate(SPREAD)
    ]


def ping_open(rate: int) -> dict:
    return {"mode": "open", "clients": 50, "rate": rate}


def made_up_result() -> dict:
    """A small result in which select's line rises, asyncio needs more CPU, and one trial failed."""
    rows = []
    for number, name in enumerate(VERSIONS):
        by_select = name in ("v2_select", "v3_broadcast")
        shares = {"server_cpu_share": 0.9, "client_cpu_share": 0.5}
        for clients in (1, 100):
            point = {"mode": "closed", "clients": clients}
            us = 10.0 + number
            rows += trials("ping", point, name, server_cpu_us=us, replies_per_s=1e6 / us, **shares)
        for rate in (5000, 20_000):
            status = "client-limited" if rate == 20_000 and by_select else "ok"
            p99 = (0.3 + number) * (1 if rate == 5000 or number == 0 else 100)
            latency = {"p50_ms": 0.1, "p90_ms": 0.2, "p99_ms": p99, "max_ms": 2 * p99}
            rows += trials("ping", ping_open(rate), name, status, **latency, **shares)
        for idle in (0, 100, 900, *(() if by_select else (3000,))):
            us = 10.0 + (0.03 * idle if by_select else 0.0)
            memory = {"rss_kib": 20.0 if number == 0 else 1.0 + number} if idle else {}
            if idle:
                memory["kernel_stack_kib"] = 16.0 if number == 0 else 0.0
            point = {"idle": idle, "active": 10}
            rows += trials("idle", point, name, server_cpu_us=us, **memory, **shares)
        rows += trials("churn", {"concurrent": 10}, name, server_cpu_ms=0.2, sessions_per_s=4000.0)
        stalled = trials(
            "stall", {"others": 10, "rate": 2000}, name, worst_delay_ms=3.0 if number < 2 else 999.0
        )
        for trial in stalled:
            trial["metrics"]["rss_growth_mib"] = 0.5
            trial["series"] = {
                "t_s": [-0.1, 0.0, 0.1],
                "deliveries_per_s": [20_000, 0, 20_000],
                "worst_delay_ms": [1.0, None, trial["metrics"]["worst_delay_ms"]],
                "rss_mib": [12.0, 12.0, 12.5],
            }
        rows += stalled
        for burn in (0, 50):
            slow = 60.0 if burn and by_select else 1.0
            latency = {"p50_ms": slow, "p90_ms": slow, "p99_ms": slow, "max_ms": 2 * slow}
            point = {"work_ms": burn, "others": 10, "rate": 400}
            rows += trials("work", point, name, **latency)
        if PROFILES[name] == "chat":
            for mode, count in (("flood", "readers"), ("talk", "clients")):
                for size in (10, 100):
                    point = {"mode": mode, count: size}
                    rate = {"deliveries_per_s": 300_000.0, "server_cpu_us": 3.0}
                    rows += trials("fanout", point, name, **rate)
    (lossy,) = (
        row
        for row in rows
        if row["server"] == "v4_asyncio" and row["point"] == {"mode": "talk", "clients": 100}
        if row["trial"] == 1
    )
    lossy |= {"status": "failed", "reason": "3 deliveries were lost", "metrics": {}}
    full = {"experiment": "idle", "point": {"idle": 3000, "active": 10}, "held": 1000}
    return {
        "schema": summary.SCHEMA,
        "started": "2025-01-31T12:00:00Z",
        "finished": "2025-01-31T12:20:00Z",
        "command": ["python3", "-m", "benchmarks"],
        "commit": "0123abc",
        "dirty": False,
        "kind": "run",
        "size": "full",
        "quick": False,
        "interrupted": False,
        "machine": {
            "system": "Linux",
            "kernel": "6.1",
            "cpu": "Made-up CPU",
            "cores": 2,
            "load_before": [0.1, 0.1, 0.1],
            "load_after": [1.0, 0.5, 0.2],
        },
        "parameters": {
            "trials": len(SPREAD),
            "experiments": {
                name: summary.module(name).SIZES["full"] for name in summary.EXPERIMENTS
            },
        },
        "noise_floor": {
            "server": "v4_asyncio",
            "started": "2025-01-31T11:00:00Z",
            "quick": False,
            "trials": 5,
            "floors": [
                {
                    "experiment": "ping",
                    "point": {"mode": "closed", "clients": 1},
                    "metric": "server_cpu_us",
                    "floor": 0.05,
                }
            ],
        },
        "servers": [server(name, name) for name in VERSIONS],
        "conformance": [{"server": name, "passed": True, "reason": None} for name in VERSIONS],
        "trials": rows,
        "refusals": [
            full | {"server": name, "reason": "the server said `! server full` to client 1001"}
            for name in ("v2_select", "v3_broadcast")
        ],
    }


@pytest.fixture
def result() -> dict:
    return made_up_result()


def save(result: dict, path: Path) -> Path:
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


@pytest.fixture
def result_path(result, tmp_path) -> Path:
    return save(result, tmp_path / "result.json")


def picture(result: dict, name: str) -> drawing.Picture:
    return next(picture for picture in pictures.pictures_of(result) if picture.name == name)


def line(panel: drawing.Panel, name: str) -> drawing.Line:
    return next(line for line in panel.lines if line.server == name)


class Page(html.parser.HTMLParser):
    """Checks nesting and gathers what the tests ask about."""

    VOID = frozenset(("meta", "br", "link", "img", "input", "hr"))

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what was opened last"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def assert_self_contained(text: str) -> Page:
    """The page is well-formed, names nothing outside itself, and its ids are unique."""
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "object"), tag
        for name in ("src", "srcset", "data", "href", "action"):
            assert attributes.get(name, "#").startswith("#"), (tag, name, attributes[name])
    assert "://" not in text
    assert "@import" not in text
    assert "xlink" not in text
    assert {"default-src 'none'; style-src 'unsafe-inline'"} == {
        meta["content"] for meta in page.all("meta") if "http-equiv" in meta
    }
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    known = set(ids)
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    links += re.findall(r"url\((#[^)]*)\)", text)
    assert {link[1:] for link in links} <= known, "each inner link leads somewhere"
    return page


# The page


def test_page_without_matplotlib_says_so_and_has_everything_else(
    result_path, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what a missing package looks like
    out = tmp_path / "new" / "folder"
    assert report.write_report(result_path, out) == [out / "report.html"]
    page = assert_self_contained((out / "report.html").read_text(encoding="utf-8"))
    problem = pictures.pictures_available()
    assert problem is not None
    assert "\n" not in problem
    assert "matplotlib" in problem
    assert problem in page.text
    assert page.all("svg") == []
    for name in summary.EXPERIMENTS:
        assert summary.title(name) in page.text
    assert "Made-up CPU" in page.text
    assert "0123abc" in page.text
    assert "lost or wrong" in page.text, "the method says what failed means"


def test_tables_have_captions_and_header_cells(result):
    page = assert_self_contained(report.page_of(result, "result.json", {}))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("table")) == len(page.all("caption")) > 10
    scopes = [cell.get("scope") for cell in page.all("th")]
    assert set(scopes) == {"col", "row"}
    assert len(page.all("h1")) == 1


def test_page_escapes_the_names_of_others_servers(result):
    nasty = "<script>alert(1)</script> & `co`"
    result["servers"].append(server("mine", None, nasty))
    result["trials"] += trials("churn", {"concurrent": 10}, "mine", server_cpu_ms=0.3)
    page = assert_self_contained(report.page_of(result, "<result>.json", {}))
    assert "<script>alert(1)</script> &" in page.text
    assert "<result>.json" in page.text


def test_interrupted_quick_and_empty_runs_say_so(result):
    result |= {
        "interrupted": True,
        "size": "quick",
        "quick": True,
        "finished": None,
        "commit": None,
    }
    result |= {"trials": [], "refusals": [], "noise_floor": None}
    page = assert_self_contained(report.page_of(result, "result.json", {}))
    assert "interrupted" in page.text
    assert "quick size" in page.text
    assert pictures.pictures_of(result) == []


def test_a_disturbed_run_says_so_everywhere(result):
    result["trials"][0]["metrics"]["client_wait_share"] = 0.5
    assert "Busy machine" in report.page_of(result, "result.json", {})
    assert "Busy machine" in report.readme_section(result)
    assert all("disturbed" in made.notes[-1] for made in pictures.pictures_of(result))


def test_a_folder_that_cannot_be_written_is_one_line(result_path):
    with pytest.raises(report.ReportError) as error:
        report.write_report(result_path, result_path / "below-a-file")
    assert "\n" not in str(error.value)
    assert str(result_path) in str(error.value)


@needs_matplotlib
def test_page_holds_all_six_pictures_inline_and_they_are_files_too(result_path, tmp_path):
    written = report.write_report(result_path, tmp_path / "out")
    names = {"rate-latency", "fan-out", "idle-cost", "memory", "stall", "work"}
    files = {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    assert {path.name for path in written} == files | {"report.html"}
    assert all(path.stat().st_size > 1000 for path in written)
    page = assert_self_contained(written[0].read_text(encoding="utf-8"))
    drawn = page.all("svg")
    assert len(drawn) == len(names)
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 50 for svg in drawn)
    assert "server full" in page.text


@needs_matplotlib
def test_the_same_result_gives_the_same_bytes(result, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    for name in ("idle-cost", "memory"):
        for folder in (first, again):
            folder.mkdir(exist_ok=True)
            drawing.draw(picture(result, name), folder)
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@needs_matplotlib
def test_a_svg_file_is_well_formed_whatever_a_server_is_called(result, tmp_path):
    from xml.etree import ElementTree

    for entry in result["servers"]:
        entry["label"] = f'{entry["label"]} $x$ <&"> \x07 and a much longer name than fits'
    for made in pictures.pictures_of(result)[2:4]:
        svg, _ = drawing.draw(made, tmp_path)
        root = ElementTree.parse(svg).getroot()
        assert root.get("aria-label") == made.alt
        assert "$x$" in svg.read_text(encoding="utf-8")


# What the pictures hold


def test_every_trial_is_a_dot_and_the_median_a_line(result):
    (panel,) = picture(result, "idle-cost").panels
    drawn = line(panel, "v2_select")
    assert len(drawn.dots) == 3 * len(SPREAD)
    assert [(x, round(y, 3)) for x, y, _ in drawn.medians] == [(0, 10.0), (100, 13.0), (900, 37.0)]
    assert panel.y_label.endswith("µs")


def test_client_limited_trials_are_hollow_and_explained(result):
    made = picture(result, "rate-latency")
    drawn = line(made.panels[0], "v2_select")
    assert {(dot.x, dot.limited) for dot in drawn.dots} == {(5000, False), (20_000, True)}
    assert [trusted for _, _, trusted in drawn.medians] == [True, False]
    assert any("client-limited" in note for note in made.notes)
    unaffected = line(made.panels[0], "v4_asyncio")
    assert not any(dot.limited for dot in unaffected.dots)


def test_cpu_time_per_message_still_counts_where_the_client_was_limited(result):
    for trial in result["trials"]:
        if trial["experiment"] == "idle":
            trial["status"] = "client-limited"
    made = picture(result, "idle-cost")
    for drawn in made.panels[0].lines:
        assert all(dot.limited for dot in drawn.dots)
        assert all(trusted for _, _, trusted in drawn.medians)
    assert any("still compares" in note for note in made.notes)


def test_failed_points_are_not_drawn_but_named(result):
    made = picture(result, "fan-out")
    _, talk = made.panels
    assert {dot.x for dot in line(talk, "v3_broadcast").dots} == {10, 100}
    assert {dot.x for dot in line(talk, "v4_asyncio").dots} == {10}
    (note,) = (note for note in made.notes if note.startswith("Not drawn"))
    assert "v4_asyncio" in note
    assert "3 deliveries were lost" in note


def test_a_server_that_failed_the_conformance_check_is_named(result):
    name = "v4_asyncio"
    result["trials"] = [trial for trial in result["trials"] if trial["server"] != name]
    result["conformance"][-1] |= {"passed": False, "reason": "it lost a line"}
    result["size"] = "quick"
    made = picture(result, "idle-cost")
    assert any(note.startswith("Not drawn: v4_asyncio (failed") for note in made.notes)
    assert name not in [newer for _, newer, _ in report.newer_loses(result)], "no claim either way"
    assert "quick size" in made.notes[-1]
    page = assert_self_contained(report.page_of(result, "result.json", {}))
    assert "v4_asyncio failed the conformance check and was not measured: it lost" in page.text


def test_fd_setsize_is_where_the_select_servers_said_they_were_full(result):
    made = picture(result, "idle-cost")
    (panel,) = made.panels
    assert panel.wall == 990, "1000 clients, 10 of which are not idle"
    for word in ("FD_SETSIZE", "v2_select", "v3_broadcast", "server full", "1,001"):
        assert word in panel.wall_text
        assert word in made.alt
    assert panel.bends
    result["refusals"] = [
        refusal | {"server": "v1_threads", "held": 8000} for refusal in result["refusals"][:1]
    ]
    (panel,) = picture(result, "idle-cost").panels
    assert "not tried in this run" in panel.wall_text, "nothing is claimed that was not seen"
    assert any("8,000" in note for note in picture(result, "idle-cost").notes)


def test_a_version_looks_the_same_everywhere_and_no_two_servers_alike(result):
    alone = pictures.looks([server("v4_asyncio", "v4_asyncio")])
    everybody = result["servers"] + [
        *(server(f"{name}@3.13.0t", name) for name in VERSIONS),
        *(server(f"student {number}") for number in range(8)),
    ]
    looks = pictures.looks(everybody)
    assert looks["v4_asyncio"] == alone["v4_asyncio"]
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(everybody)
    four = [looks[name] for name in VERSIONS]
    for trait in ("colour", "marker", "dash"):
        assert len({getattr(look, trait) for look in four}) == len(four), trait


def test_memory_is_stacked_at_the_most_connections_that_all_have_held(result):
    made = picture(result, "memory")
    (panel,) = made.panels
    assert "900" in made.title
    assert [drawn.server for drawn in panel.lines] == list(VERSIONS)
    assert [round(value, 1) for _, value in panel.parts[0]] == [20.0, 16.0]
    assert [round(dot.x, 2) for dot in panel.lines[0].dots] == [35.64, 36.0, 36.36]
    assert "KiB" in panel.x_label


def test_stall_leaves_out_what_has_no_value(result):
    made = picture(result, "stall")
    delays, memory = made.panels[:4], made.panels[4:]
    assert [panel.lines[0].server for panel in delays] == list(VERSIONS)
    assert {dot.x for dot in delays[2].lines[0].dots} == {-0.1, 0.1}
    assert {dot.x for dot in memory[2].lines[0].dots} == {-0.1, 0.0, 0.1}
    assert "999" in made.alt


def test_work_shows_all_percentiles_with_and_without_work(result):
    without, beside = picture(result, "work").panels
    assert without.x_names == beside.x_names == ("p50", "p90", "p99", "max")
    assert (without.level, beside.level) == (None, 50)
    assert line(beside, "v2_select").medians[-1][1] == pytest.approx(120)


def test_each_picture_names_its_machine_and_has_a_text(result):
    drawn = pictures.pictures_of(result)
    assert len(drawn) == 6
    for made in drawn:
        assert "Made-up CPU" in made.notes[-1]
        assert made.alt.startswith(made.title)
        assert "v1_threads" in made.alt or made.name == "fan-out"


@pytest.mark.parametrize(
    "wanted", [[10.0, 10.0, 10.0, 10.0], [0.0, 1.0, 99.0, 100.0], [40.0, 45.0, 50.0, 90.0]]
)
def test_labels_keep_their_order_and_their_room(wanted):
    placed = drawing.spread(wanted, [10.0] * 4, 0.0, 100.0)
    gaps = [upper - lower for lower, upper in itertools.pairwise(placed)]
    assert all(gap >= 10 - 1e-9 for gap in gaps)
    assert min(placed) >= 5
    assert max(placed) <= 95


# README


def test_readme_section_has_machine_pictures_and_a_conclusion_for_each_experiment(result):
    section = report.readme_section(result)
    assert section.startswith(report.README_BEGIN)
    assert section.endswith(report.README_END)
    assert "Made-up CPU" in section
    shown = re.findall(r"!\[(.+?)\]\((\S+?)\)", section)
    assert 3 <= len(shown) <= 4
    assert all(path.startswith("benchmarks/results/") for _, path in shown)
    assert all(len(alt) > 50 for alt, _ in shown)
    for name in summary.EXPERIMENTS:
        assert f"### {summary.title(name)}" in section
    assert "### Where the newer model loses" in section


def test_losses_are_told_only_where_a_difference_is_shown(result):
    losses = {newer: told for _, newer, told in report.newer_loses(result)}
    assert any("37" in loss and "900 idle" in loss for loss in losses["v2_select"])
    assert any("1,000 clients" in loss for loss in losses["v2_select"])
    assert any("longest delay" in loss for loss in losses["v3_broadcast"])
    assert not any("session" in loss for told in losses.values() for loss in told), "equal"
    assert not any("20,000/s" in loss for loss in losses["v2_select"]), "client-limited"
    result["noise_floor"]["floors"] = [
        {"experiment": name, "point": {}, "metric": metric, "floor": 1e9}
        for name, _, metric in report.STAKES
    ]
    result["refusals"] = []
    assert [told for _, _, told in report.newer_loses(result)] == [[], [], []]


def test_rewriting_readme_touches_the_section_alone(result, result_path, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        f"before\n\n{report.README_BEGIN}\nold\n{report.README_END}\n\nafter\n", encoding="utf-8"
    )
    assert report.rewrite_readme(readme, result_path) is True
    text = readme.read_text(encoding="utf-8")
    assert text == f"before\n\n{report.readme_section(result)}\n\nafter\n"
    assert report.rewrite_readme(readme, result_path) is False
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        f"{report.README_BEGIN}\nno end",
        f"{report.README_END}\n{report.README_BEGIN}",
        f"{report.README_BEGIN}\n{report.README_BEGIN}\n{report.README_END}",
    ],
)
def test_readme_without_its_two_markers_is_one_line_and_stays(text, result_path, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(report.ReportError) as error:
        report.rewrite_readme(readme, result_path)
    assert "\n" not in str(error.value)
    assert readme.read_text(encoding="utf-8") == text


def test_readme_is_what_the_reference_run_says():
    how = (
        "python3 -m benchmarks report benchmarks/results/reference.json"
        " --out benchmarks/results --readme README.md"
    )
    assert REFERENCE.is_file(), f"the reference run is missing: {REFERENCE}"
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    generated = report.readme_section(summary.load_result(REFERENCE))
    assert report.section_in(readme) == generated, f"README's results are out of date; run: {how}"
    for path in re.findall(r"\]\((benchmarks/\S+?)\)", generated):
        assert (REPOSITORY / path).is_file(), f"README names {path}, which is missing; run: {how}"


# Comparison


def compared(before: dict, after: dict, tmp_path: Path) -> str:
    return compare.compare_files(
        save(before, tmp_path / "before.json"), save(after, tmp_path / "after.json")
    )


def row_of(text: str, *words: str) -> str:
    (row,) = (row for row in text.splitlines() if all(word in row for word in words))
    return row


def test_a_file_compared_with_itself_shows_no_difference(result, tmp_path):
    text = compared(result, result, tmp_path)
    assert "no difference shown" in text
    assert not re.search(r"Different|%$|times as much", text, re.MULTILINE)
    assert "\n0 of " in text


def test_a_change_is_shown_only_above_the_noise_floor(result, tmp_path):
    after = copy.deepcopy(result)
    for trial in after["trials"]:
        if trial["point"] == {"mode": "closed", "clients": 1}:
            grown = {"v1_threads": 1.5, "v2_select": 1.04}.get(trial["server"], 1.0)
            trial["metrics"]["server_cpu_us"] *= grown
    text = compared(result, after, tmp_path)
    where = ("closed, 1 client ", "Server CPU")
    assert row_of(text, "v1_threads", *where).endswith("+50%")
    assert "5.0%" in row_of(text, "v1_threads", *where)
    assert row_of(text, "v2_select", *where).endswith("no difference shown")
    assert "\n1 of " in text


def test_what_makes_two_files_unlike_is_said_in_one_line_each(result, tmp_path):
    after = copy.deepcopy(result)
    after["machine"] |= {"cpu": "Another CPU", "load_after": [9.0, 9.0, 9.0]}
    after["parameters"]["experiments"]["ping"]["seconds"] = 77
    for entry in after["servers"]:
        entry["python_build"] = "CPython 3.13.0"
    after["trials"] = [trial for trial in after["trials"] if trial["experiment"] != "work"]
    text = compared(result, after, tmp_path)
    assert "Another CPU" in row_of(text, "Different machines: ")
    assert "load" not in row_of(text, "Different machines: ")
    assert "ping seconds" in row_of(text, "Different parameters: ")
    assert "3.13.0" in row_of(text, "Different interpreters: ")
    assert "work of v1_threads (2)" in row_of(text, "only before")


def test_points_without_a_result_are_not_compared(result, tmp_path):
    text = compared(result, result, tmp_path)
    limited = row_of(text, "20,000/s", "v2_select", "p99")
    assert limited.endswith("client-limited: no result")
    assert "failed before, failed after" in row_of(text, "talk, 100 clients", "v4_asyncio")


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "{}", '{"schema": "concurrency-study-benchmark/99"}']
)
def test_a_file_that_is_no_result_is_one_line(content, result_path, tmp_path):
    foreign = tmp_path / "foreign.json"
    if content is not None:
        foreign.write_text(content, encoding="utf-8")
    for attempt in (
        lambda: compare.compare_files(result_path, foreign),
        lambda: report.write_report(foreign, tmp_path / "out"),
    ):
        with pytest.raises(summary.ResultError) as error:
            attempt()
        assert "\n" not in str(error.value)
        assert str(foreign) in str(error.value)
