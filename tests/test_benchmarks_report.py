"""Tables, pictures, the page and README's generated parts, all from a made-up result.

Nothing is measured here. matplotlib is optional: what a picture holds is tested without it, and
the drawing only where it can be imported.
"""

import html.parser
import importlib.util
import itertools
import re
import sys
from pathlib import Path

import pytest

from benchmarks.arithmetic import answer
from benchmarks.arithmetic.results import ResultError, View, key, load_result, write_result
from benchmarks.arithmetic.statistics import NOT_SHOWN
from benchmarks.experiments import EXPERIMENTS, module
from benchmarks.showing import chapters, page, pictures, readme, tables
from benchmarks.showing.pictures import Line, Panel, Picture
from benchmarks.showing.tables import Table
from harness.launcher import REPOSITORY, VERSIONS
from tests import made_up_results

REFERENCE = REPOSITORY / "benchmarks" / "results" / "reference.json"
RENEW = (
    "python3 -m benchmarks report benchmarks/results/reference.json"
    " --out benchmarks/results --readme README.md"
)
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib, the one optional package, is not installed: no pictures can be drawn",
)
CHAT_LOAD = {"mode": "paced", "clients": 50, "rate": 5000}
NASTY = '<script>alert(1)</script> & "co" | $x$'


@pytest.fixture(scope="module")
def full() -> dict:
    return made_up_results.make_result()


@pytest.fixture
def view(full) -> View:
    return View(full)


@pytest.fixture
def small() -> dict:
    """A result of the smoke size: quick to draw, and to be changed."""
    return made_up_results.make_result("smoke")


def save(result: dict, folder: Path, name: str = "result.json") -> Path:
    write_result(result, folder / name)
    return folder / name


def line(lines: list[Line], name: str) -> Line:
    return next(line for line in lines if line.server_id == name)


def everything_in(view: View) -> list[Picture]:
    return [made for name in view.experiments() for made in pictures.pictures_of(view, name)]


def cost_by_rate(view: View) -> list[Line]:
    return pictures.lines_by(view, "ping", "rate", "server_cpu_us", mode="paced", clients=50)


def pivot_of(view: View, points: list[dict] | None = None) -> Table:
    points = points or view.points("ping", mode="paced", clients=50)
    return tables.pivot(
        view, "ping", "server_cpu_us", points, "rate", lambda point: f"{point['rate']}"
    )


def cell(table: Table, row: str, column: str) -> str:
    return next(r for r in table.rows if r[0] == row)[table.headers.index(column)]


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
    read = Page(text)
    for tag, attributes in read.elements:
        assert tag not in ("script", "link", "img", "iframe", "object"), tag
        for name in ("src", "srcset", "data", "href", "action"):
            assert attributes.get(name, "#").startswith("#"), (tag, name, attributes[name])
    assert "://" not in text
    assert "@import" not in text
    assert "xlink" not in text
    assert {"default-src 'none'; style-src 'unsafe-inline'"} == {
        meta["content"] for meta in read.all("meta") if "http-equiv" in meta
    }
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for _, attributes in read.elements if "href" in attributes]
    links += re.findall(r"url\((#[^)]*)\)", text)
    assert {link[1:] for link in links} <= set(ids), "each inner link leads somewhere"
    return read


# Tables


def test_a_pivot_marks_the_best_and_says_how_many_times_it_the_others_are(view):
    table = pivot_of(view)
    assert table.headers == ["rate", *VERSIONS, "C threads", "C select", "C epoll", "tutorial"]
    row = next(index for index, row in enumerate(table.rows) if row[0] == "5000")
    assert [column for at, column in table.marks if at == row] == [1], "the floors do not compete"
    assert "\n" not in cell(table, "5000", "v1_threads")
    assert re.fullmatch(r"35\.\d\n1\.\d × \(1\.\d to 1\.\d\)", cell(table, "5000", "v2_select"))
    assert "\n" not in cell(table, "5000", "C epoll")


@pytest.mark.parametrize(
    ("server", "rate", "shown", "mark"),
    [
        ("v3_broadcast", "40000", "server-limited", "‡"),
        ("v4_asyncio", "40000", "client-limited", "†"),
        ("C threads", "10000", "disturbed", "~"),
    ],
)
def test_what_does_not_rank_is_shown_with_a_mark_and_a_note(view, server, rate, shown, mark):
    table = pivot_of(view)
    assert cell(table, rate, server).endswith(f" {mark}")
    column = table.headers.index(server)
    assert not any(table.rows[row][0] == rate and at == column for row, at in table.marks), (
        f"{shown} is never best"
    )
    assert [note for note in table.notes if note.startswith(mark)]


def test_one_disturbed_trial_leaves_the_others_to_be_ranked(view):
    assert "~" not in cell(pivot_of(view), "2000", "C select")
    drawn = line(cost_by_rate(view), "c_select")
    assert len([x for x, _ in drawn.dots if x == 2000]) == made_up_results.ROUNDS - 1
    assert 2000 not in drawn.hollow


def test_failed_refused_and_missing_cells_are_words(full):
    view = View(full)
    table = tables.pivot(view, "fanout", "server_cpu_us", view.points("fanout"), "", key)
    (talk,) = (row for row in table.rows if "talk" in row[0])
    assert talk[table.headers.index("v4_asyncio")] == "failed ✗"
    idle = tables.pivot(view, "idle", "server_cpu_us", view.points("idle"), "", key)
    assert "server full" in {row[idle.headers.index("v2_select")] for row in idle.rows}
    nothing = tables.pivot(view, "ping", "dropped_after_s", view.points("ping"), "", key)
    assert all(text in ("", "-") for row in nothing.rows for text in row[1:])


def all_tables(view: View) -> list[Table]:
    made = [answer.answer(view)]
    for name in view.experiments():
        made += tables.tables_of(view, name)
    return made


def test_tables_at_a_terminal_fit_in_100_columns_and_lose_nothing(full):
    renamed = full | {
        "servers": [entry | {"label": f"{entry['label']}@3.13.0t"} for entry in full["servers"]]
    }
    for table in itertools.chain(all_tables(View(full)), all_tables(View(renamed))):
        text = tables.terminal(table)
        assert max(map(len, text.splitlines())) <= 100, text
        shown = text.split()
        for word in {word for row in table.rows for text in row for word in text.split()}:
            assert word in shown, (table.title, word)


def test_a_terminal_breaks_what_no_column_can_hold():
    table = Table(
        "t" * 130, ["a", "b" * 90, "c" * 90], [["x" * 150, "1", "2"]], ["n" * 120], {(0, 1)}
    )
    text = tables.terminal(table)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("x") == 150
    assert "1 *" in text


def test_markdown_and_html_tables_hold_whatever_text_there_is():
    table = Table(NASTY, ["", NASTY], [[NASTY, f"1.5\n{NASTY}"]], [NASTY], {(0, 1)})
    text = tables.markdown(table)
    (row,) = (row for row in text.splitlines() if "1.5" in row)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3, "two cells"
    assert "**1.5**<br><sub>" in row
    assert not re.search(r"(?<!\\)<script", text)
    read = Page(f"<div>{tables.in_html(table)}</div>")
    assert read.all("script") == []
    assert read.text.count(NASTY) == 5
    (strong,) = re.findall(r"<strong>(.*?)</strong>", tables.in_html(table))
    assert strong == "1.5"


def test_what_several_tables_note_is_said_once(view):
    made = tables.tables_of(view, "ping")
    notes = [note for table in made for note in table.notes]
    assert any(note.startswith("Marked") for note in notes)
    assert len(notes) == len(set(notes))


def test_troubles_are_a_line_each(view):
    lines = tables.format_troubles(view)
    assert any(text.startswith("failed: v4_asyncio, fanout (") for text in lines)
    assert any("refused: idle" in text and "server full" in text for text in lines)
    assert all("\n" not in text for text in lines)
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_at_the_terminal_has_its_tables_and_its_sentence(view, name):
    text = tables.format_experiment(view, name)
    assert module(name).TITLE in text
    assert "-> " in text
    assert max(map(len, text.splitlines())) <= 100


# What the pictures hold


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_picture_has_lines_or_bars_units_and_a_text(view, name):
    for made in pictures.pictures_of(view, name):
        assert re.fullmatch(r"[a-z-]+", made.name)
        assert len(pictures.text_of(made)) > 50
        assert "\n" not in pictures.text_of(made)
        for panel in made.panels:
            assert panel.x_label
            assert panel.y_label or panel.bars
            assert all(line.points for line in panel.lines)


def test_names_of_pictures_are_unique_and_most_experiments_have_one(view):
    names = [made.name for made in everything_in(view)]
    assert len(names) == len(set(names))
    assert sum(bool(pictures.pictures_of(view, name)) for name in EXPERIMENTS) >= 8


def test_every_trial_is_a_dot_and_the_median_a_line(view):
    drawn = line(cost_by_rate(view), "v2_select")
    rates = module("ping").SIZES["full"]["rates"]
    assert [x for x, *_ in drawn.points] == sorted(rates)
    assert len(drawn.dots) == len(rates) * made_up_results.ROUNDS
    for x, middle, low, high in drawn.points:
        values = sorted(y for at, y in drawn.dots if at == x)
        assert (low, middle, high) == (values[0], values[len(values) // 2], values[-1])


def test_what_does_not_rank_is_hollow(view):
    lines = cost_by_rate(view)
    assert line(lines, "v4_asyncio").hollow == {40_000}
    assert line(lines, "v3_broadcast").hollow == {40_000}, "CPU time at a rate that was not kept"
    assert line(lines, "v1_threads").hollow == set()
    latency = pictures.lines_by(view, "ping", "rate", "p99_ms", mode="paced", clients=50)
    assert line(latency, "v3_broadcast").hollow == set(), "its latency is what it is"


def test_failed_cells_are_not_drawn(view):
    talk = next(p for p in view.points("fanout") if p["mode"] == "talk")
    ids = {line.server_id for line in pictures.percentile_lines(view, "fanout", talk)}
    assert "v4_asyncio" not in ids
    assert "v3_broadcast" in ids


def test_bars_have_their_parts_and_each_trials_sum(view):
    point = next(p for p in view.points("idle") if p["idle"] >= 300)
    parts = {"rss_kib": "own", "stack_kib": "stacks", "nothing_such": "?"}
    bars = pictures.bars_of(view, "idle", point, parts)
    bar = next(bar for bar in bars if bar.server_id == "v1_threads")
    assert [name for name, _ in bar.parts] == ["own", "stacks"]
    assert len(bar.dots) == made_up_results.ROUNDS
    assert all(30 < value < 42 for value in bar.dots)


def test_growth_starts_at_nothing(view):
    (point,) = view.points("stall")
    for drawn in pictures.series_lines(view, "stall", point, "rss_mib", growth=True):
        assert drawn.points[0][1] == 0
    memory = pictures.series_lines(view, "stall", point, "rss_mib")
    assert min(drawn.points[0][1] for drawn in memory) > 1
    delays = pictures.series_lines(view, "stall", point, "worst_delay_ms")
    assert all(y is not None for drawn in delays for _, y in drawn.dots)


def test_a_version_looks_the_same_everywhere_and_no_two_servers_alike(full):
    alone = pictures.looks([entry for entry in full["servers"] if entry["id"] == "v4_asyncio"])
    everybody = [
        *full["servers"],
        *(made_up_results.server(f"{name}@3.13.0t", "ours", version=name) for name in VERSIONS),
        *(made_up_results.server(f"student {number}") for number in range(8)),
        made_up_results.server("c_epoll of somebody"),
    ]
    looks = pictures.looks(everybody)
    assert looks["v4_asyncio"] == alone["v4_asyncio"]
    assert len(set(looks.values())) == len(everybody)
    floors = [looks[f"c_{model}"][0] for model in ("threads", "select", "epoll")]
    for colour in floors:
        parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert max(parts) - min(parts) < 25, "floors are grey"


# Drawing


@pytest.fixture(scope="module")
def drawn(full, tmp_path_factory) -> dict[str, Path]:
    """All pictures of the full result, by file name."""
    view = View(full)
    folder = tmp_path_factory.mktemp("pictures")
    return {path.name: path for path in pictures.draw_pictures(view, everything_in(view), folder)}


@needs_matplotlib
def test_each_picture_is_drawn_wide_and_for_phones(view, drawn):
    for made in everything_in(view):
        for name in (f"{made.name}.svg", f"{made.name}-narrow.svg", f"{made.name}.png"):
            assert drawn.pop(name).stat().st_size > 1000
    assert drawn == {}


@needs_matplotlib
def test_a_svg_file_is_text_with_a_role_and_a_label(view, full, tmp_path):
    from xml.etree import ElementTree

    labels = [entry["label"] for entry in view.servers("churn")]
    (made, *_) = [p for p in everything_in(view) if p.panels[0].lines]
    svg, *_ = pictures.draw_pictures(view, [made], tmp_path)
    root = ElementTree.parse(svg).getroot()
    assert root.get("role") == "img"
    assert root.get("aria-label") == pictures.text_of(made)
    words = {element.text for element in root.iter() if element.tag.endswith("}text")}
    assert {*labels} - {"tutorial"} <= words
    assert any("Made-up CPU" in word for word in words if word)
    assert not re.search(r'href="(?!#)', svg.read_text(encoding="utf-8"))


@needs_matplotlib
def test_a_server_may_be_called_anything(small, tmp_path):
    from xml.etree import ElementTree

    for entry in small["servers"]:
        entry["label"] = f'{entry["label"]} $x$ <&"> \x07 \u4e2d and a much longer name than fits'
    view = View(small)
    wanted = [everything_in(view)[0], *pictures.pictures_of(view, "rush")]
    for path in pictures.draw_pictures(view, wanted, tmp_path):
        if path.suffix == ".svg":
            words = [element.text or "" for element in ElementTree.parse(path).iter()]
            assert any("v1_threads $x$" in text for text in words), path.name


@needs_matplotlib
def test_where_ticks_are_close_some_have_no_label_but_the_first_and_the_last_do(view):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    xs = [0, 100, 300, 900, 5000, 10_000]
    crowded = Line("v1_threads", "v1", [(x, 1.0, 1.0, 1.0) for x in xs], [(x, 1.0) for x in xs])
    panel = Panel("x", "y", lines=[crowded])
    styles = pictures.looks(view.result["servers"])
    made = Picture("crowded", "Crowded", [panel])
    figure = pictures._figure(made, [panel], 1, pictures.NARROW, styles, "A machine")
    FigureCanvasAgg(figure)
    pictures._thin_out_ticks(figure)
    (axes,) = figure.axes
    assert_ticks(axes, panel, "crowded")
    shown = [label.get_text() for label in axes.get_xticklabels() if label.get_visible()]
    assert {"0", "10k"} <= set(shown) < {"0", "100", "300", "900", "5k", "10k"}


@needs_matplotlib
def test_the_same_result_gives_the_same_bytes(small, tmp_path):
    wanted = everything_in(View(small))[:1]
    for folder in (tmp_path / "first", tmp_path / "again"):
        folder.mkdir()
        pictures.draw_pictures(View(small), wanted, folder)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@needs_matplotlib
@pytest.mark.parametrize("width", [pictures.WIDE, pictures.NARROW])
def test_every_x_has_its_tick_and_nothing_overlaps(view, width):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    styles = pictures.looks(view.result["servers"])
    for made in everything_in(view):
        columns = made.columns if width == pictures.WIDE else 1
        figure = pictures._figure(made, made.panels, columns, width, styles, "A machine")
        FigureCanvasAgg(figure)
        pictures._thin_out_ticks(figure)
        renderer = figure.canvas.get_renderer()
        boxes = [figure.legends[0].get_window_extent(renderer)]
        boxes += [axes.get_tightbbox(renderer) for axes in figure.axes if axes.axison]
        for one, other in itertools.combinations([box.padded(-1) for box in boxes], 2):
            assert not one.overlaps(other), f"{made.name}: two things at one place"
        for box in boxes:
            assert box.x0 > -1 and box.x1 < figure.bbox.x1 + 1, f"{made.name}: cut off"
            assert box.y0 > -1 and box.y1 < figure.bbox.y1 + 1, f"{made.name}: cut off"
        for axes, panel in zip(figure.axes, made.panels, strict=False):
            assert_ticks(axes, panel, made.name)


def assert_ticks(axes, panel: Panel, name: str) -> None:
    xs = {x for line in panel.lines for x, *_ in line.points}
    at = axes.get_xticks()
    if panel.x_ticks is None and len(xs) <= pictures.DENSE:
        for x in xs:
            place = pytest.approx(pictures._place(panel, x))
            assert any(tick == place for tick in at), f"{name}: no tick at {x}"
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        shown = [label for label in labels if label.get_visible() and label.get_text()]
        boxes = [label.get_window_extent() for label in shown]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), f"{name}: two labels of an axis overlap"
        assert len(shown) >= 2, f"{name}: an axis without numbers"


@needs_matplotlib
def test_a_picture_with_next_to_nothing_in_it_is_drawn(view, tmp_path):
    one = Line("v1_threads", "v1", [(0, 0.0, 0.0, 0.0)], [(0, 0.0)])
    bar = pictures.Bar("v1_threads", "v1", [("", 0.0)], [0.0], hollow=True)
    panels = [Panel("x", "y", lines=[one], x_scale="log", y_scale="log"), Panel("x", bars=[bar])]
    made = Picture("odd", "Odd", [*panels, Panel("nothing", "at all")], columns=2)
    assert len(pictures.draw_pictures(view, [made], tmp_path)) == 3


# The page


def test_page_without_matplotlib_says_so_and_has_everything_else(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what a missing package looks like
    out = tmp_path / "new" / "folder"
    assert page.write_report(save(small, tmp_path), out) == [out / "report.html"]
    read = assert_self_contained((out / "report.html").read_text(encoding="utf-8"))
    problem = pictures.pictures_available()
    assert problem is not None
    assert "\n" not in problem
    assert "matplotlib" in problem
    assert problem in read.text
    assert read.all("svg") == []
    assert "Made-up CPU" in read.text
    assert "0123abc" in read.text
    assert "smoke size" in read.text


def test_page_begins_with_the_answer_and_has_each_experiment_once(view):
    text = page.page_of(view, "result.json", {})
    read = assert_self_contained(text)
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == 1
    sections = [attributes["id"] for attributes in read.all("section")]
    assert sections == ["answer", *EXPERIMENTS, "losses", "method", "troubles", "machine"]
    assert text.index("<table>") < text.index("<h2>"), "the answer comes first"
    for sentence in answer.sentences(view):
        assert sentence in read.text
    for name in EXPERIMENTS:
        assert module(name).TITLE in read.text
        assert tables.sentence_of(view, name).replace("`", "") in read.text.replace("`", "")
    assert {cell.get("scope") for cell in read.all("th")} == {"col", "row"}
    assert "stayed disturbed" in read.text
    for sign, meaning in tables.MARKS.values():
        assert sign in read.text
        assert meaning in read.text


def test_tables_of_the_page_scroll_or_become_cards_and_those_of_experiments_are_folded(view):
    text = page.page_of(view, "result.json", {})
    read = Page(text)
    boxes = [box.get("class") for box in read.all("div")]
    assert boxes.count("cards") == 1, "the answer"
    assert boxes.count("cards") + boxes.count("scroll") == len(read.all("table"))
    assert all("data-label" in cell for cell in read.all("td"))
    assert len(read.all("details")) == len(EXPERIMENTS) + 2
    answered, rest = text.split('<section id="ping">')
    assert answered.count("<details") == 0
    assert rest.index("<details") < rest.index("<table")


def test_page_escapes_whatever_a_result_may_hold(small):
    small["servers"].append(made_up_results.server("mine") | {"label": NASTY})
    point = small["trials"][0]["point"]
    small["trials"] += [
        trial | {"server": "mine", "status": "failed", "reason": NASTY, "metrics": {}}
        for trial in made_up_results.cell_of(small, "ping", point, "v1_threads")
    ]
    small["missing"] = [NASTY]
    small["machine"]["cpu"] = NASTY
    read = assert_self_contained(page.page_of(View(small), "<result>.json", {}))
    assert read.text.count(NASTY) >= 4
    assert "<result>.json" in read.text
    section = readme._results(View(small), Path("nowhere.json"), readme.IN_README)
    assert not any(re.search(r"(?<!\\)<script", block) for block in section)


@pytest.mark.parametrize("kind", ["run", "aa"])
def test_interrupted_and_empty_runs_say_so(small, kind):
    small |= {"interrupted": True, "finished": None, "commit": None, "trials": [], "refusals": []}
    read = assert_self_contained(page.page_of(View(small | {"kind": kind}), "result.json", {}))
    assert "did not end" in read.text
    assert ("itself" in read.text) == (kind == "aa")


def test_a_server_that_failed_the_conformance_check_is_named(small):
    small["trials"] = [trial for trial in small["trials"] if trial["server"] != "v4_asyncio"]
    check = next(c for c in small["conformance"] if c["server"] == "v4_asyncio")
    check |= {"passed": False, "reason": "it lost a line"}
    small["missing"] = ["no floors in C: cc cannot be run"]
    read = assert_self_contained(page.page_of(View(small), "result.json", {}))
    assert "v4_asyncio failed the conformance check and was not measured: it lost" in read.text
    assert "no floors in C: cc cannot be run" in read.text


def test_a_single_experiment_of_a_single_server_makes_a_page(small):
    small["trials"] = (
        made_up_results.cell_of(small, "churn", small["trials"][-1]["point"], "v1_threads")
        or [trial for trial in small["trials"] if trial["experiment"] == "churn"][:1]
    )
    small["refusals"] = []
    read = assert_self_contained(page.page_of(View(small), "result.json", {}))
    assert module("churn").TITLE in read.text


def test_the_method_is_checked_by_the_run_beside_the_result(small, tmp_path):
    path = save(small, tmp_path)
    assert page.against(path) is None
    small["servers"] = small["servers"][:2]
    ids = [entry["id"] for entry in small["servers"]]
    for name in ("trials", "conformance", "refusals"):
        small[name] = [row for row in small[name] if row["server"] in ids]
    save(small | {"kind": "aa"}, tmp_path, "aa.json")
    twins = page.against(path)
    assert twins is not None
    assert twins.title in page.page_of(View(small), "result.json", {}, twins=twins)


def test_a_folder_that_cannot_be_written_is_one_line(small, tmp_path):
    path = save(small, tmp_path)
    with pytest.raises(page.ReportError) as error:
        page.write_report(path, path / "below-a-file")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@needs_matplotlib
def test_page_holds_its_pictures_twice_and_they_are_files_too(small, tmp_path):
    for name in EXPERIMENTS[3:]:
        small["trials"] = [trial for trial in small["trials"] if trial["experiment"] != name]
    made = everything_in(View(small))
    first, *files = page.write_report(save(small, tmp_path), tmp_path / "out")
    text = first.read_text(encoding="utf-8")
    read = assert_self_contained(text)
    assert len(files) == 3 * len(made)
    assert len(read.all("svg")) == 2 * len(made), "one for phones, one for others"
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in read.all("svg"))
    for colour in page.PAGE_COLOURS:
        assert f": {colour}" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


# README


def test_readme_has_the_answer_and_each_experiment_with_picture_and_sentence(full, tmp_path):
    view = View(full)
    parts = readme.generated(save(full, tmp_path))
    assert parts["answer"].count("\n| ") > 8
    for sentence in answer.sentences(view):
        assert f"- {tables.markdown_text(sentence)}" in parts["answer"]
    results = parts["results"]
    assert "Made-up CPU" in results
    for name in EXPERIMENTS:
        assert f"### {module(name).TITLE}" in results
        assert tables.markdown_text(tables.sentence_of(view, name)) in results
    shown = re.findall(r'<img src="(\S+?)" alt="(.+?)">', results)
    assert [path for path, _ in shown] == [
        f"benchmarks/results/{made.name}.svg" for made in everything_in(view)
    ]
    assert all(len(alt) > 50 for _, alt in shown)
    assert results.count("<details>") == results.count("</details>") == len(EXPERIMENTS)
    assert "### Where the newer model loses" in results
    for part, text in parts.items():
        begin, end = readme.markers(part)
        assert text.startswith(begin)
        assert text.endswith(end)


def a_readme(old: str = "old") -> str:
    parts = [f"{begin}\n{old}\n{end}" for begin, end in map(readme.markers, readme.PARTS)]
    return f"before\n\n{parts[0]}\n\nbetween\n\n{parts[1]}\n\nafter\n"


def test_rewriting_readme_touches_the_generated_parts_alone(small, tmp_path):
    path, target = save(small, tmp_path), tmp_path / "README.md"
    target.write_text(a_readme(), encoding="utf-8")
    assert readme.rewrite_readme(target, path) == [target]
    text = target.read_text(encoding="utf-8")
    made = readme.generated(path)
    assert text == f"before\n\n{made['answer']}\n\nbetween\n\n{made['results']}\n\nafter\n"
    assert readme.rewrite_readme(target, path) == []
    assert target.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("part", readme.PARTS)
@pytest.mark.parametrize("damage", ["none", "no end", "twice", "wrong order"])
def test_readme_without_its_markers_is_one_line_and_stays(small, tmp_path, part, damage):
    begin, end = readme.markers(part)
    text = {
        "none": a_readme().replace(begin, "").replace(end, ""),
        "no end": a_readme().replace(end, ""),
        "twice": f"{a_readme()}{begin}",
        "wrong order": a_readme().replace(begin, "@").replace(end, begin).replace("@", end),
    }[damage]
    target = tmp_path / "README.md"
    target.write_text(text, encoding="utf-8")
    with pytest.raises(page.ReportError) as error:
        readme.rewrite_readme(target, save(small, tmp_path))
    assert "\n" not in str(error.value)
    assert target.read_text(encoding="utf-8") == text


# The chapters


def a_chapter(folder: Path, what: str = "v2_select against v1_threads") -> Path:
    """A chapter with one part for numbers, in a folder like those of the versions."""
    (folder / "v2_select").mkdir(exist_ok=True)
    path = folder / "v2_select" / "README.md"
    path.write_text(
        f"before\n\n<!-- numbers: {what} -->\nold\n<!-- /numbers -->\n\nafter\n", encoding="utf-8"
    )
    return path


def test_a_step_has_both_numbers_and_a_ratio_or_says_why_not(view):
    table = answer.step(view, "v4_asyncio", "v3_broadcast")
    assert table.headers == ["", "v3_broadcast", "v4_asyncio", "v4_asyncio / v3_broadcast"]
    by_label = {row[0]: row for row in table.rows}
    chat_load = next(row for label, row in by_label.items() if "chat load (50 clients" in label)
    ratio = view.ratio("ping", CHAT_LOAD, "server_cpu_us", "v4_asyncio", "v3_broadcast")
    assert chat_load[1:] == [
        *(
            tables.cell_text(view.cell("ping", CHAT_LOAD, name), "server_cpu_us")
            for name in ("v3_broadcast", "v4_asyncio")
        ),
        ratio.text,
    ]
    assert any("100 readers" in label for label in by_label), "a line to a room"
    assert by_label[answer.MOST_CLIENTS][1:3] == ["1,000", "at least 10,001"]
    for index, (_, _, _, compared) in enumerate(table.rows):
        marked = {column for row, column in table.marks if row == index}
        assert len(marked) == ("×" in compared), "the better one, where a difference is shown"
        assert "×" in compared or compared in ("", NOT_SHOWN, "not compared"), compared


def test_a_step_marks_the_better_one(view):
    table = answer.step(view, "v2_select", "v1_threads")
    for label, column in (("Memory per idle", 2), ("among the idle", 1)):
        index = next(index for index, row in enumerate(table.rows) if label in row[0])
        assert (index, column) in table.marks, table.rows[index]


def test_a_step_shows_what_only_one_of_the_two_was_asked(view):
    table = answer.step(view, "v3_broadcast", "v2_select")
    room = next(row for row in table.rows if "a room" in row[0])
    assert (room[1], room[3]) == ("", "not compared"), "v2 has no room"


def test_one_version_alone_has_no_ratios(view):
    table = answer.step(view, "v1_threads", None)
    assert table.headers == ["", "v1_threads"]
    assert table.marks == set()
    assert all(len(row) == 2 and row[1] for row in table.rows)
    assert not any("a room" in row[0] for row in table.rows), "v1 has none"


def test_the_chapters_beside_readme_are_renewed_with_it(small, tmp_path):
    path, target = save(small, tmp_path), tmp_path / "README.md"
    target.write_text(a_readme(), encoding="utf-8")
    chapter = a_chapter(tmp_path)
    assert readme.rewrite_readme(target, path) == [target, chapter]
    text = chapter.read_text(encoding="utf-8")
    assert text.startswith("before\n\n<!-- numbers: v2_select against v1_threads -->\n\n|")
    assert text.endswith("\n\n<!-- /numbers -->\n\nafter\n")
    assert tables.markdown(answer.step(View(small), "v2_select", "v1_threads")) in text
    assert readme.rewrite_readme(target, path) == [], "made from the same numbers, it stays"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("v2_select against v9_magic", "has no v9_magic"),
        ("v2_select", "not understood"),
        ("v2_select alone -->\n<!-- numbers: v1_threads alone", "needs one <!-- /numbers -->"),
        ("v2_select alone -->\n<!-- /numbers -->\n<!-- /numbers", "needs one <!-- /numbers -->"),
    ],
)
def test_a_chapter_whose_numbers_cannot_be_made_is_one_line_and_all_stays(
    small, tmp_path, what, said
):
    target, chapter = tmp_path / "README.md", a_chapter(tmp_path, what)
    target.write_text(a_readme(), encoding="utf-8")
    before = chapter.read_text(encoding="utf-8")
    with pytest.raises(page.ReportError) as error:
        readme.rewrite_readme(target, save(small, tmp_path))
    assert "\n" not in str(error.value)
    assert said in str(error.value)
    assert str(chapter) in str(error.value)
    assert (target.read_text(encoding="utf-8"), chapter.read_text(encoding="utf-8")) == (
        a_readme(),
        before,
    )


def test_chapters_are_what_the_reference_run_says():
    view = View(load_result(REFERENCE))
    found = chapters.chapters_beside(REPOSITORY / "README.md")
    assert [path.parent.name for path in found] == list(VERSIONS)
    for path in found:
        text = path.read_text(encoding="utf-8")
        made = chapters.with_numbers(text, view, path)
        assert text == made, f"the numbers of {path} are out of date; run: {RENEW}"


def test_readme_is_what_the_reference_run_says():
    assert REFERENCE.is_file(), f"the reference run is missing: {REFERENCE}"
    path = REPOSITORY / "README.md"
    for document, made in readme.renewed(path, REFERENCE).items():
        assert document.read_text(encoding="utf-8") == made, f"{document} is old; run: {RENEW}"
    made = readme.generated(REFERENCE)["results"]
    for named in re.findall(r'["(](benchmarks/\S+?)[")]', made):
        assert (REPOSITORY / named).is_file(), f"{named} is missing; run: {RENEW}"


def test_the_results_may_have_a_document_of_their_own(small, tmp_path):
    """Beside README, as soon as README does not hold them."""
    path, target = save(small, tmp_path), tmp_path / "README.md"
    (answers, results) = (
        f"{begin}\nold\n{end}\n" for begin, end in map(readme.markers, readme.PARTS)
    )
    target.write_text(answers, encoding="utf-8")
    alone = tmp_path / "benchmarks" / "RESULTS.md"
    alone.parent.mkdir()
    alone.write_text(results, encoding="utf-8")
    assert readme.rewrite_readme(target, path) == [target, alone]
    text = alone.read_text(encoding="utf-8")
    assert "(results/reference.json)" in text
    assert "(benchmarks/" not in text
    assert "(README.md)" in text


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"schema": "something/99"}'])
def test_a_file_that_is_no_result_is_one_line(content, tmp_path):
    foreign = tmp_path / "foreign.json"
    if content is not None:
        foreign.write_text(content, encoding="utf-8")
    target = tmp_path / "README.md"
    target.write_text(a_readme(), encoding="utf-8")
    for attempt in (
        lambda: page.write_report(foreign, tmp_path / "out"),
        lambda: readme.rewrite_readme(target, foreign),
    ):
        with pytest.raises(ResultError) as error:
            attempt()
        assert "\n" not in str(error.value)
        assert str(foreign) in str(error.value)
