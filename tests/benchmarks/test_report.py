"""Tables, pictures, the page and README's generated parts, all from a made-up result.

Nothing is measured here. matplotlib is optional: what a picture holds is tested without it, and
the drawing only where it can be imported.
"""

import itertools
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.questions import CHAT_LOAD
from benchmarks.report import answer, compare, page, pictures, readme, tables, verdict
from benchmarks.result import figure
from benchmarks.result.figure import Bar, Line, Panel, Picture
from benchmarks.result.file import load_result, write_result
from benchmarks.result.table import MARKS, Table, pivot
from benchmarks.result.view import View
from harness.launcher import REPOSITORY, VERSIONS
from tests.benchmarks import made_up_results

try:
    from benchmarks.report import draw
except ModuleNotFoundError:
    # What a picture holds is tested all the same.
    draw = None

REFERENCE = REPOSITORY / "benchmarks" / "results" / "reference.json"
RENEW = (
    "python3 -m benchmarks report benchmarks/results/reference.json"
    " --out benchmarks/results --readme README.md"
)
needs_matplotlib = pytest.mark.skipif(
    draw is None,
    reason="matplotlib, the one optional package, is not installed: no pictures can be drawn",
)
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
    of_experiments = (pictures.picture_of(view, name) for name in view.experiments())
    return [picture for picture in of_experiments if picture]


def cost_by_rate(view: View) -> list[Line]:
    points = view.points("ping", mode="paced", clients=50)
    return figure.lines_by(view, points, "rate", "server_cpu_us")


class Page:
    """What is in a page, whose elements are nested as they should be."""

    def __init__(self, text: str) -> None:
        # HTML closes no <meta>.
        root = ElementTree.fromstring(re.sub(r"<(meta [^>]*)>", r"<\1/>", text))
        self.elements = [(element.tag, element.attrib) for element in root.iter()]
        for style in root.iter("style"):
            style.text = ""
        self.text = " ".join(" ".join(root.itertext()).split())

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
    (point,) = view.points("ping", mode="paced", clients=50, rate=5000)
    table = pivot(view, {"5,000": point}, "server_cpu_us", "", "rate")
    assert table.headers == ["rate", *VERSIONS, "C threads", "C select", "C epoll", "tutorial"]
    (row,) = table.rows
    assert table.marks == {(0, 1)}, "the floors do not compete"
    assert re.fullmatch(r"3[45]\.\d\n1\.\d × \(1\.\d to 1\.\d\)", row[2])
    assert "\n" not in row[1] + row[table.headers.index("C epoll")]


@pytest.mark.parametrize(
    ("name", "wanted", "server", "shown"),
    [
        ("ping", {"rate": 40_000}, "v3_broadcast", r"\d.* ‡"),
        ("ping", {"rate": 40_000}, "v4_asyncio", r"\d.* †"),
        ("ping", {"rate": 10_000}, "C threads", r"\d.* ~"),
        ("fanout", {"mode": "talk"}, "v4_asyncio", "failed ✗"),
        ("rush", {}, "C select", "error !"),
        ("idle", {"idle": 10_000, "active": 1}, "v2_select", "server full"),
    ],
)
def test_what_does_not_rank_is_shown_with_a_mark_and_a_note(view, name, wanted, server, shown):
    (point,) = view.points(name, **wanted)
    table = pivot(view, {"": point}, "server_cpu_us", "", "")
    column = table.headers.index(server)
    assert re.fullmatch(shown, table.rows[0][column])
    assert (0, column) not in table.marks
    notes = [note for note in table.notes if note.startswith(f"{shown[-1]} ")]
    assert len(notes) == (0 if shown == "server full" else 1)


def test_what_is_shown_at_a_terminal_fits_in_100_columns_and_loses_nothing(full):
    renamed = full | {
        "servers": [entry | {"label": f"{entry['label']}@3.13.0t"} for entry in full["servers"]]
    }
    for view in (View(full), View(renamed)):
        answers = answer.answer(view)
        shown = [(tables.terminal(answers), [answers])]
        for name in EXPERIMENTS:
            shown.append((tables.format_experiment(view, name), tables.tables_of(view, name)))
        for text, its_tables in shown:
            assert max(map(len, text.splitlines())) <= 100, text
            cells = [cell for table in its_tables for row in table.rows for cell in row]
            assert set(" ".join(cells).split()) <= set(text.split())


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


def test_troubles_are_a_line_each(view):
    lines = tables.format_troubles(view)
    assert any(text.startswith("failed: v4_asyncio, fanout (") for text in lines)
    assert any("refused: idle" in text and "server full" in text for text in lines)
    assert all("\n" not in text for text in lines)
    assert len(lines) == len(set(lines))


# What the pictures hold


def test_every_trial_is_a_dot_and_the_median_a_line(view):
    drawn = line(cost_by_rate(view), "v2_select")
    rates = EXPERIMENTS["ping"].sizes["full"]["rates"]
    assert [x for x, *_ in drawn.points] == sorted(rates)
    assert len(drawn.dots) == len(rates) * made_up_results.ROUNDS
    for x, middle, low, high in drawn.points:
        values = sorted(y for at, y in drawn.dots if at == x)
        assert (low, middle, high) == (values[0], values[len(values) // 2], values[-1])


def test_what_does_not_rank_is_hollow_and_what_failed_is_not_drawn(view):
    lines = cost_by_rate(view)
    assert line(lines, "v4_asyncio").hollow == {40_000}
    assert line(lines, "v3_broadcast").hollow == {40_000}, "CPU time at a rate that was not kept"
    assert line(lines, "v1_threads").hollow == set()
    points = view.points("ping", mode="paced", clients=50)
    latency = figure.lines_by(view, points, "rate", "p99_ms")
    assert line(latency, "v3_broadcast").hollow == set(), "its latency is what it is"
    (talk,) = view.points("fanout", mode="talk")
    ids = {line.server_id for line in figure.percentile_lines(view, talk)}
    assert ids == {"v3_broadcast", "tutorial"}, "v4_asyncio has failed"


def test_bars_have_their_parts_and_each_trials_sum(view):
    point = next(p for p in view.points("idle") if p["idle"] >= 300)
    parts = {"rss_kib": "own", "stack_kib": "stacks", "nothing_such": "?"}
    bars = figure.bars_of(point, parts)
    bar = next(bar for bar in bars if bar.server_id == "v1_threads")
    assert [name for name, _ in bar.parts] == ["own", "stacks"]
    assert len(bar.dots) == made_up_results.ROUNDS
    assert all(30 < value < 42 for value in bar.dots)


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


# Drawing


@needs_matplotlib
def test_a_drawn_file_is_text_with_a_label_whatever_a_server_is_called(small, tmp_path):
    for entry in small["servers"]:
        entry["label"] = f'{entry["label"]} $x$ <&"> \x07 \u4e2d and a much longer name than fits'
    view = View(small)
    wanted = [pictures.picture_of(view, name) for name in ("ping", "rush")]
    paths = draw.draw_pictures(view, wanted, tmp_path)
    assert [path.name for path in paths] == [
        f"{name}{suffix}.svg" for name in ("ping", "rush") for suffix in ("", "-narrow")
    ]
    for path in paths:
        root = ElementTree.parse(path).getroot()
        assert root.get("role") == "img"
        assert root.get("aria-label") in [picture.title for picture in wanted]
        words = [element.text or "" for element in root.iter()]
        assert any("v1_threads $x$" in text for text in words), path.name
        assert any("Made-up CPU" in text for text in words), path.name
        assert not re.search(r'href="(?!#)', path.read_text(encoding="utf-8"))


@needs_matplotlib
def test_the_same_result_gives_the_same_bytes(small, tmp_path):
    wanted = everything_in(View(small))[:1]
    for folder in (tmp_path / "first", tmp_path / "again"):
        folder.mkdir()
        draw.draw_pictures(View(small), wanted, folder)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@needs_matplotlib
@pytest.mark.parametrize("width", ["WIDE", "NARROW"])
def test_every_x_has_its_tick_and_nothing_overlaps(view, width):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    xs = [0, 100, 5000, 9900, 10_000]
    crowded = Line("v1_threads", "v1", [(x, 1.0, 1.0, 1.0) for x in xs], [(x, 1.0) for x in xs])
    styles = pictures.looks(view.result["servers"])
    for picture in [*everything_in(view), Picture("odd", "Odd", [Panel("x", "y", [crowded])])]:
        columns = picture.columns if width == "WIDE" else 1
        inches = getattr(draw, width)
        sheet = draw._figure(picture, picture.panels, columns, inches, styles, "A machine")
        FigureCanvasAgg(sheet)
        draw._thin_out_ticks(sheet)
        renderer = sheet.canvas.get_renderer()
        boxes = [sheet.legends[0].get_window_extent(renderer)]
        boxes += [axes.get_tightbbox(renderer) for axes in sheet.axes if axes.axison]
        for one, other in itertools.combinations([box.padded(-1) for box in boxes], 2):
            assert not one.overlaps(other), f"{picture.name}: two things at one place"
        for box in boxes:
            assert box.x0 > -1 and box.x1 < sheet.bbox.x1 + 1, f"{picture.name}: cut off"
            assert box.y0 > -1 and box.y1 < sheet.bbox.y1 + 1, f"{picture.name}: cut off"
        for axes, panel in zip(sheet.axes, picture.panels, strict=False):
            assert_ticks(axes, panel, picture.name)


def assert_ticks(axes, panel: Panel, name: str) -> None:
    """Each x has a tick, the first and the last one a label, and no label touches another one."""
    xs = sorted({x for line in panel.lines for x, *_ in line.points})
    if 0 < len(xs) <= draw.DENSE:
        assert axes.get_xticks() == pytest.approx([draw._place(panel, x) for x in xs]), name
        first, *_, last = axes.get_xticklabels()
        ends = [panel.tick(x) for x in (xs[0], xs[-1])]
        assert [first.get_text(), last.get_text()] == ends, name
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        shown = [label for label in labels if label.get_visible() and label.get_text()]
        boxes = [label.get_window_extent() for label in shown]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), f"{name}: two labels of an axis overlap"
        assert len(shown) >= 2, f"{name}: an axis without numbers"


@needs_matplotlib
def test_a_picture_with_next_to_nothing_in_it_is_drawn(view, tmp_path):
    one = Line("v1_threads", "v1", [(0, 0.0, 0.0, 0.0)], [(0, 0.0)])
    bar = Bar("v1_threads", "v1", [("", 0.0)], [0.0], hollow=True)
    panels = [Panel("x", "y", lines=[one], x_scale="log", y_scale="log"), Panel("x", bars=[bar])]
    picture = Picture("odd", "Odd", [*panels, Panel("nothing", "at all")], columns=2)
    assert len(draw.draw_pictures(view, [picture], tmp_path)) == 2


# The page


def test_page_without_matplotlib_says_so_and_has_everything_else(small, tmp_path, monkeypatch):
    # This is what a missing package looks like.
    monkeypatch.setitem(sys.modules, "matplotlib", None)
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
    for sentence, finding in verdict.findings(view):
        assert f"{finding} {sentence.text}" in read.text
    for name in EXPERIMENTS:
        assert EXPERIMENTS[name].title in read.text
        assert EXPERIMENTS[name].question in read.text
    assert "stayed disturbed" in read.text
    for mark in MARKS.values():
        assert mark.sign in read.text
        assert mark.meaning in read.text


def test_tables_of_the_page_scroll_or_become_cards_and_those_of_experiments_are_folded(view):
    text = page.page_of(view, "result.json", {})
    read = Page(text)
    boxes = [box.get("class") for box in read.all("div")]
    assert boxes.count("cards") == 1, "the answer"
    assert boxes.count("cards") + boxes.count("scroll") == len(read.all("table"))
    assert all("data-label" in cell for cell in read.all("td"))
    assert {cell.get("scope") for cell in read.all("th")} == {"col", "row"}
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
    section = readme._results(View(small), None, readme.IN_README)
    assert not any(re.search(r"(?<!\\)<script", block) for block in section)


@pytest.mark.parametrize("kind", ["run", "aa"])
def test_page_of_a_run_that_measured_nothing_says_why(small, kind):
    small |= {"kind": kind, "interrupted": True, "finished": None, "commit": None}
    small |= {"trials": [], "refusals": [], "missing": ["no floors in C: cc cannot be run"]}
    small["conformance"][3] |= {"passed": False, "reason": "it lost a line"}
    read = assert_self_contained(page.page_of(View(small), "result.json", {}))
    assert "did not end" in read.text
    assert "no floors in C: cc cannot be run" in read.text
    assert "v4_asyncio failed the conformance check and was not measured: it lost" in read.text
    assert ("itself" in read.text) == (kind == "aa")


def test_the_method_is_checked_by_the_run_beside_the_result(small, tmp_path):
    path = save(small, tmp_path)
    assert compare.twins_beside(path) is None
    small["servers"] = small["servers"][:2]
    ids = [entry["id"] for entry in small["servers"]]
    for name in ("trials", "conformance", "refusals"):
        small[name] = [row for row in small[name] if row["server"] in ids]
    save(small | {"kind": "aa"}, tmp_path, "aa.json")
    twins = compare.twins_beside(path)
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
    drawn = list(EXPERIMENTS)[:3]
    small["trials"] = [trial for trial in small["trials"] if trial["experiment"] in drawn]
    count = len(everything_in(View(small)))
    first, *files = page.write_report(save(small, tmp_path), tmp_path / "out")
    text = first.read_text(encoding="utf-8")
    read = assert_self_contained(text)
    assert len(files) == 2 * count
    assert len(read.all("svg")) == 2 * count, "one for phones, one for others"
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in read.all("svg"))
    for colour in page.PAGE_COLOURS:
        assert f": {colour}" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


# README and the chapters

BEGIN, END = readme.markers("results")
README = f"""before

{readme.markers("answer")[0]}
old
{readme.markers("answer")[1]}

between

{BEGIN}
old
{END}

after
"""
CHAPTER = """before

<!-- numbers: v2_select against v1_threads -->
old
<!-- /numbers -->

after
"""


@pytest.fixture
def documents(tmp_path) -> list[Path]:
    """A README, and a chapter beside it."""
    paths = [tmp_path / "README.md", tmp_path / "v2_select" / "README.md"]
    for path, text in zip(paths, (README, CHAPTER), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return paths


def test_rewriting_documents_touches_the_generated_parts_alone(small, tmp_path, documents, capsys):
    path = save(small, tmp_path)
    command = ["report", path, "--out", tmp_path / "out", "--readme", documents[0]]
    assert main([*map(str, command)]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == str(tmp_path / "out" / "report.html")
    assert output[-2:] == [f"{document}: renewed" for document in documents]
    texts = [document.read_text(encoding="utf-8") for document in documents]
    parts = readme.generated(View(small), None)
    assert texts[0] == f"before\n\n{parts['answer']}\n\nbetween\n\n{parts['results']}\n\nafter\n"
    assert texts[1].startswith("before\n\n<!-- numbers: v2_select against v1_threads -->\n\n|")
    assert texts[1].endswith("\n\n<!-- /numbers -->\n\nafter\n")
    assert tables.markdown(answer.step(View(small), "v2_select", "v1_threads")) in texts[1]
    assert readme.rewrite_readme(documents[0], path) == [], "made from the same numbers, they stay"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (BEGIN, "", f"must hold this line exactly once: {BEGIN}"),
        (END, "", f"must hold this line exactly once: {END}"),
        (END, f"{END}\n{BEGIN}", f"must hold this line exactly once: {BEGIN}"),
        (f"{BEGIN}\nold\n{END}", f"{END}\nold\n{BEGIN}", "its results in the wrong order"),
        ("against v1_threads", "against v9_magic", "the result has no v9_magic"),
        (" against v1_threads", "", "not understood"),
        ("<!-- /numbers -->\n", "", "needs one <!-- /numbers -->"),
        ("\nold\n<!-- /", "\nold\n<!-- /numbers -->\n<!-- /", "needs one <!-- /numbers -->"),
    ],
)
def test_a_document_without_its_markers_is_one_line_and_all_stay(
    small, tmp_path, documents, old, new, complaint
):
    (damaged,) = [path for path in documents if old in path.read_text(encoding="utf-8")]
    damaged.write_text(damaged.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    before = [path.read_bytes() for path in documents]
    with pytest.raises(page.ReportError) as error:
        readme.rewrite_readme(documents[0], save(small, tmp_path))
    assert "\n" not in str(error.value)
    assert complaint in str(error.value)
    assert str(damaged) in str(error.value)
    assert [path.read_bytes() for path in documents] == before


def test_all_documents_are_what_the_reference_run_says():
    assert REFERENCE.is_file(), f"the reference run is missing: {REFERENCE}"
    renewed = readme.renewed(REPOSITORY / "README.md", REFERENCE)
    beside = (REPOSITORY / "benchmarks" / name for name in ("RESULTS.md", "README.md"))
    documents = [REPOSITORY / "README.md", *beside]
    assert list(renewed) == [*documents, *(REPOSITORY / name / "README.md" for name in VERSIONS)]
    for document, text in renewed.items():
        assert document.read_text(encoding="utf-8") == text, f"{document} is old; run: {RENEW}"
    results = readme.generated(View(load_result(REFERENCE)), None)["results"]
    for named in re.findall(r'["(](benchmarks/\S+?)[")]', results):
        assert (REPOSITORY / named).is_file(), f"{named} is missing; run: {RENEW}"


@pytest.mark.parametrize("sentence", verdict.VERDICT, ids=lambda sentence: sentence.text[:40])
def test_each_sentence_of_the_verdict_holds_in_the_reference(sentence: verdict.Sentence) -> None:
    """This is where a sentence is named that a new reference no longer bears out."""
    assert verdict.untrue(sentence, View(load_result(REFERENCE))) == []


def test_the_verdict_holds_with_a_newer_python() -> None:
    """As RESULTS.md says of this result."""
    view = View(load_result(REFERENCE.with_name("python-3.13.json")))
    findings = {sentence.text: finding for sentence, finding in verdict.findings(view)}
    assert findings == {one.text: verdict.Finding.CONFIRMED for one in verdict.VERDICT}


def test_a_sentence_that_does_not_hold_is_found(full) -> None:
    """In a result in which the two servers of a claim have changed places, and in one far off."""
    view = View(full)
    claim = verdict.Claim(CHAT_LOAD, "v1_threads", "v2_select", (1.1, 2.0))
    assert verdict.untrue(verdict.Sentence("So it is.", (claim,)), view) == []
    turned = verdict.Claim(CHAT_LOAD, "v2_select", "v1_threads")
    (said,) = verdict.untrue(verdict.Sentence("No.", (claim, turned)), view)
    assert said.startswith("contradicted: a message at chat load, v2_select better than v1_threads")
    far_off = verdict.Claim(CHAT_LOAD, "v1_threads", "v2_select", (5.0, 9.0))
    (said,) = verdict.untrue(verdict.Sentence("No.", (far_off,)), view)
    assert said.startswith("true, but by another factor: a message at chat load")
    assert said.endswith("where 5 to 9 times is claimed")
