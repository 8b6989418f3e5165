"""Timelines: hand-made recordings give exactly their blocks, and real ones are whole."""

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.timeline import recorder, svg
from benchmarks.timeline.command import draw
from benchmarks.timeline.figures import LATE_NS, LESSONS, figure_of
from benchmarks.timeline.player import Conversation, Message, Play
from benchmarks.timeline.record import (
    Recorded,
    RecordingError,
    load,
    preparation,
    record_once,
    save,
    since_begin,
)
from benchmarks.timeline.recorder import Call
from benchmarks.timeline.recording import Event, read_recording
from benchmarks.timeline.schedule import Block, Lane, Role, Schedule, schedule_of
from benchmarks.timeline.script import Action, ScriptError, Step, parse_script, read_script
from harness.launcher import PROFILES, REPOSITORY, VERSIONS, free_port
from harness.server_under_test import ServerUnderTest

CONVERSATION, ONE_LINE, BESIDE_WORK = LESSONS
RESULTS = REPOSITORY / "benchmarks" / "results" / "timeline"
REDRAW = "python3 -m benchmarks timeline --draw benchmarks/results/timeline/NAME.json --out ..."
MS = 1_000_000
ALICE, BOB = 5001, 5002

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="a preparation needs POSIX")


# Hand-made recordings


def play(*messages: Message, sends: dict | None = None, deaf: Sequence = (), end: int = 20) -> Play:
    """What two clients knew, in ms: both connected at 0, and sent each byte with its message."""
    sent: dict[str, list[tuple[int, int]]] = {"alice": [], "bob": []}
    for message in messages:
        sent[message.client].append((message.ends, message.at))
    return Play(
        begin=0,
        end=end * MS,
        ports={"alice": ALICE, "bob": BOB},
        connected={"alice": 0, "bob": 0},
        messages=list(messages),
        sends=sends or sent,
        deaf=[(name, start * MS, until * MS) for name, start, until in deaf],
    )


def message(client: str, at: float, begins: int, ends: int, *deliveries: tuple) -> Message:
    there = [(name, round(when * MS), offset) for name, when, offset in deliveries]
    return Message(client, Action.SAYS, "hi", round(at * MS), begins, ends, there)


def call(
    which: Call, thread: int, start: float, end: float | None, port: int = 0, count: int = 0
) -> Event:
    until = None if end is None else round(end * MS)
    return Event(which, thread, port, count, round(start * MS), until)


def blocks(lane: Lane) -> list[tuple]:
    """(start in ms, end, kind, client) of each block."""
    return [(b.start / MS, b.end / MS, str(b.kind), b.client) for b in lane.blocks]


def test_a_thread_sleeps_until_its_bytes_are_there_then_waits_then_runs() -> None:
    """v1: a thread for alice alone. Its last call never returned."""
    events = [
        call(Call.RECV, 1, 0, None),
        call(Call.RECV, 2, 1, 7, ALICE, 3),
        call(Call.SEND, 2, 8, 8.1, ALICE, 10),
        call(Call.RECV, 2, 9, None, ALICE),
    ]
    schedule = schedule_of("v1", events, play(message("alice", 5, 0, 3, ("alice", 8.2, 10))))
    main_thread, for_alice = schedule.lanes
    assert (main_thread.name, for_alice.name) == ("main thread", "for alice")
    assert blocks(main_thread) == [(0, 20, "asleep", "")]
    assert blocks(for_alice) == [
        (1, 5, "asleep", "alice"),
        (5, 7, "ready", "alice"),
        (7, 8, "python", "alice"),
        (8, 8.1, "call", "alice"),
        (8.1, 9, "python", "alice"),
        (9, 20, "asleep", "alice"),
    ]
    (way,) = schedule.ways
    assert way.deliveries == [("alice", round(8.2 * MS))]
    lit = [for_alice.blocks[place] for lane, place in way.blocks if lane == 1]
    assert [str(block.kind) for block in lit] == ["ready", "python", "call"]


def test_a_loop_is_ready_when_the_first_of_its_round_is_and_runs_for_each_in_turn() -> None:
    """v3: one round reads from two clients, and passes alice's line on to bob."""
    events = [
        call(Call.SELECT, 1, 0, 6),
        call(Call.RECV, 1, 6.1, 6.2, ALICE, 3),
        call(Call.SEND, 1, 7, 7.1, BOB, 12),
        call(Call.RECV, 1, 8, 8.1, BOB, 5),
        call(Call.SELECT, 1, 9, None),
    ]
    said = [
        message("alice", 4, 0, 3, ("bob", 7.2, 12)),
        message("bob", 5, 0, 5),
    ]
    schedule = schedule_of("v3", events, play(*said))
    (loop,) = schedule.lanes
    assert (loop.name, loop.role) == ("the loop", Role.LOOP)
    assert blocks(loop) == [
        (0, 4, "asleep", ""),
        (4, 6, "ready", ""),
        (6, 6.1, "python", ""),
        (6.1, 6.2, "call", "alice"),
        (6.2, 7, "python", "alice"),
        (7, 7.1, "call", "alice"),
        (7.1, 8, "python", "alice"),
        (8, 8.1, "call", "bob"),
        (8.1, 9, "python", "bob"),
        (9, 20, "asleep", ""),
    ]
    assert loop.blocks[5].detail == "send() to bob"
    first, second = schedule.ways
    assert [str(loop.blocks[place].kind) for _, place in first.blocks] == ["call", "python", "call"]
    assert second.answered is None


def test_what_a_loop_did_before_it_sent_was_for_the_client_whose_message_it_answers() -> None:
    """v2 computes for bob in a round of its own, long after it has read his line."""
    events = [
        call(Call.SELECT, 1, 0, 1),
        call(Call.RECV, 1, 1, 1.1, BOB, 9),
        call(Call.SELECT, 1, 2, 2.1),
        call(Call.SEND, 1, 12, 12.1, BOB, 7),
        call(Call.SELECT, 1, 13, None),
    ]
    schedule = schedule_of("v2", events, play(message("bob", 0.5, 0, 9, ("bob", 12.2, 7))))
    (loop,) = schedule.lanes
    assert (2.1, 12, "python", "bob") in blocks(loop)


def test_coroutines_and_works_are_named_and_a_worker_is_asleep_between_its_works() -> None:
    events = [
        call(Call.SELECT, 1, 0, 1),
        call(Call.RECV, 1, 1, 1.1, BOB, 9),
        Event(Call.RUN, 1, BOB, 0, 2 * MS, 4 * MS, "Server.serve_client"),
        call(Call.SELECT, 1, 5, None),
        call(Call.WORK, 2, 4, 15, BOB),
    ]
    schedule = schedule_of("v4", events, play(message("bob", 0.5, 0, 9)))
    loop, worker = schedule.lanes
    assert (loop.name, worker.name) == ("the loop", "worker")
    run = next(block for block in loop.blocks if block.detail == "Server.serve_client")
    assert (run.start, run.end, run.client) == (2 * MS, 4 * MS, "bob")
    assert blocks(worker) == [(4, 15, "python", "bob"), (15, 20, "asleep", "")]


def test_a_send_sleeps_while_its_client_does_not_read_and_a_lock_is_waited_for() -> None:
    events = [
        call(Call.RECV, 1, 0, 0.1, ALICE, 3),
        call(Call.SEND, 1, 1, 9, ALICE, 10),
        call(Call.LOCK, 1, 10, 12),
        call(Call.SEND, 1, 13, 14, ALICE, 10),
    ]
    said = play(message("alice", 0, 0, 3), deaf=[("alice", 1, 8)])
    (lane,) = schedule_of("v1", events, said).lanes
    assert [kind for _, _, kind, _ in blocks(lane)] == [
        *["call", "python", "asleep", "python", "lock", "python", "ready", "python"]
    ]


def test_a_thread_that_has_closed_its_only_connection_has_ended() -> None:
    events = [call(Call.RECV, 1, 0, 1, ALICE, 0), call(Call.CLOSE, 1, 2, 2.1, ALICE)]
    (lane,) = schedule_of("v1", events, play()).lanes
    assert blocks(lane)[-1] == (2, 2.1, "call", "alice")


def test_holes_in_a_recording_are_passed_over(tmp_path: Path) -> None:
    """A thread may be stopped before it has written its record."""
    path = tmp_path / "recording"
    whole = recorder.RECORD.pack(5, 6, 1, ALICE, 3, Call.RECV, 0)
    path.write_bytes(whole + bytes(len(whole)) + whole + bytes(100))
    assert [event.start for event in read_recording(path)] == [5, 5]


def test_a_selfpipe_wakes_the_loop_when_another_thread_has_written_to_it() -> None:
    events = [
        call(Call.SELECT, 1, 0, 8),
        call(Call.RECV, 1, 8, 8.1, 0, 1),
        call(Call.WORK, 2, 1, 5, BOB),
        call(Call.SEND, 2, 5, 5.1, 0, 1),
    ]
    loop, _ = schedule_of("v4", sorted(events, key=lambda e: e.start), play()).lanes
    assert blocks(loop)[:2] == [(0, 5, "asleep", ""), (5, 8, "ready", "")]


# Scripts


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_scripts_of_the_figures_can_be_read(lesson) -> None:
    text, steps = read_script(lesson.script)
    assert parse_script(text, "x") == steps


def test_a_script_has_a_line_for_each_step() -> None:
    text = "# one\n\n0 alice joins\n1.5 alice says  hi  there\n2 alice floods 3\n"
    text += "2 alice stops reading\n3 alice reads\n4 alice leaves\n"
    assert parse_script(text, "x") == [
        Step(0, "alice", Action.JOINS),
        Step(1.5, "alice", Action.SAYS, "hi  there"),
        Step(2, "alice", Action.FLOODS, count=3),
        Step(2, "alice", Action.STOPS_READING),
        Step(3, "alice", Action.READS),
        Step(4, "alice", Action.LEAVES, "/quit"),
    ]
    assert parse_script("0 alice joins\n1 alice says /quit now", "x")[1].action is Action.LEAVES


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no step"),
        ("0 alice joins\nnonsense\n", "line 2: TIME CLIENT ACTION is expected"),
        ("soon alice joins\n", "line 1: a time in ms from 0 to 60000 is expected, not 'soon'"),
        ("-1 alice joins\n", "line 1: a time in ms"),
        ("nan alice joins\n", "line 1: a time in ms"),
        ("0 al!ce joins\n", "line 1: a name of 1 to 20 letters"),
        ("0 alice sings\n", "line 1: joins, says LINE, floods NUMBER"),
        ("0 alice joins\n1 alice says\n", "line 2: joins, says LINE"),
        ("0 alice joins\n1 alice floods many\n", "line 2: joins, says LINE"),
        ("0 alice says hi\n", "line 1: alice has to join first"),
        ("0 alice joins\n1 alice joins\n", "line 2: alice has joined already, and joins once"),
        ("0 alice joins\n1 alice leaves\n2 alice says hi\n", "line 3: alice has left"),
        ("0 alice joins\n1 alice says a\x07b\n", "line 2: joins, says LINE"),
        ("5 alice joins\n4 bob joins\n", "line 2: 4 ms is before the line above it"),
        ("".join(f"0 n{number} joins\n" for number in range(9)), "more than 8 clients"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "script.txt"
    path.write_text(text)
    with pytest.raises(ScriptError, match=re.escape(complaint)):
        read_script(path)
    assert main(["timeline", "--script", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.splitlines()) == 1


# Real recordings

# Both have a third of a second to get in: somebody who speaks before is not heard by all.
SHORT = """\
0   alice joins
2   bob joins
310  alice says hi
314  bob says /ping one
316  bob says /work 10
318  alice says /ping two
340  alice stops reading
340  alice floods 200
350  alice reads
360  alice leaves
"""


def parts_of(schedule: Schedule) -> Iterator[tuple[Lane, Block]]:
    for lane in schedule.lanes:
        for block in lane.blocks:
            yield lane, block


def assert_whole(schedule: Schedule) -> None:
    """Lanes without gaps and overlaps, within the play; all that was sent arrived."""
    for lane in schedule.lanes:
        edges = [(block.start, block.end) for block in lane.blocks]
        assert all(start < end for start, end in edges)
        assert [start for start, _ in edges[1:]] == [end for _, end in edges[:-1]], lane.name
    for way in schedule.ways:
        assert all(way.at <= at for _, at in way.deliveries)
        for lane, place in way.blocks:
            assert schedule.lanes[lane].blocks[place]


@posix_only
@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_has_exactly_its_deliveries(version: str, tmp_path: Path) -> None:
    recorded = record_once(ServerUnderTest.ours(version), parse_script(SHORT, "short"))
    schedule = recorded.schedule
    assert_whole(schedule)
    assert recorded.play.missing == []
    in_a_room = PROFILES[version] == "chat"
    heard = {(way.message.text, tuple(name for name, _ in way.deliveries)) for way in schedule.ways}
    assert ("/ping one", ("bob",)) in heard
    assert ("/work 10", ("bob",)) in heard
    assert ("hi", ("bob",) if in_a_room else ("alice",)) in heard
    quit_heard = next(way for way in schedule.ways if way.message.text == "/quit").deliveries
    assert {name for name, _ in quit_heard} == ({"alice", "bob"} if in_a_room else {"alice"})
    lanes = {lane.name for lane in schedule.lanes}
    expected = {
        "v1_threads": {"main thread", "accepting", "for alice", "for bob"},
        "v4_asyncio": {"the loop", "worker"},
    }
    assert lanes == expected.get(version, {"the loop"})
    ways = [way for way in schedule.ways if way.deliveries and way.message.text != "/quit"]
    around_it = [way.message for way in ways if not way.blocks]
    assert around_it == [], "each message goes through the server"
    if version == "v4_asyncio":
        details = {block.detail for _, block in parts_of(schedule)}
        assert {"Server.serve_client", "computes"} <= details
    for lesson in LESSONS:
        assert_readable(svg.draw(figure_of(lesson, [schedule])))
    save(tmp_path / "short.json", "conversation", SHORT, 1, [recorded])
    head, (again,) = load(tmp_path / "short.json")
    assert (head["script"], again) == (SHORT, recorded)


@posix_only
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_recording_ends_whole_when_the_server_does(end: signal.Signals, tmp_path: Path) -> None:
    """What was recorded up to there is drawn, and the picture says that it ended there."""
    path = tmp_path / "recording"
    script = "0 alice joins\n5 alice says /ping\n400 alice says /ping 2\n800 alice says /ping\n"
    steps = parse_script(script, "x")
    with ServerUnderTest.ours("v2_select").running(preparation=preparation(path)) as server:
        conversation = Conversation(server.address, "echo", steps)
        perform = conversation.perform

        def perform_and_end(step: Step, *arguments: object) -> None:
            perform(step, *arguments)  # type: ignore[arg-type]
            # By then the server has let her in, and has answered her first line.
            if step.text == "/ping 2" and server.process:
                server.process.send_signal(end)

        conversation.perform = perform_and_end  # type: ignore[method-assign]
        seen = conversation.run()
    assert seen.is_cut
    recorded = Recorded("v2_select", read_recording(path), seen, "it was killed")
    schedule = since_begin(recorded).schedule
    assert_whole(schedule)
    assert sum(len(lane.blocks) for lane in schedule.lanes) > 5
    drawn = svg.draw(figure_of(CONVERSATION, [schedule]))
    assert_readable(drawn)
    assert "it ended here: it was killed" in drawn


@posix_only
def test_somebodys_own_server_and_bugs_of_the_zoo_can_be_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script = tmp_path / "script.txt"
    script.write_text(SHORT)
    server = f"{sys.executable} {REPOSITORY / 'v3_broadcast' / 'server.py'} --port {{port}}"
    common = ["timeline", "--script", str(script), "--tries", "1", "--out", str(tmp_path)]
    assert main([*common, "--server", server]) == 0
    assert "your server: sent at most" in capsys.readouterr().out
    assert main([*common, "--zoo", "await-every-peer"]) == 0
    output = capsys.readouterr().out
    assert "await-every-peer: sent at most" in output
    assert re.search(r"v4_asyncio: the recorder adds -?[\d.]+ µs", output)
    recording = tmp_path / "timeline.json"
    assert [one.name for one in load(recording)[1]] == ["await-every-peer", "v4_asyncio"]
    before = (tmp_path / "timeline.svg").read_text()
    assert main(["timeline", "--draw", str(recording), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "timeline.svg").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tries", "0"], "--tries: at least 1"),
        (["--server", "node x.js {port}"], "only a Python program can be recorded"),
        (["--server", "python3 x.py"], "needs {port}"),
        (["--zoo", "nonsense"], "nonsense"),
        (["--versions", "v9"], "no version 'v9'"),
        (["--versions", "v2", "--zoo", "x"], "--zoo and --versions do not go together"),
        (["--draw", "x", "--figure", "one-line"], "--figure and --draw do not go together"),
        (["--draw", "/nowhere.json"], "cannot read /nowhere.json"),
        (["--script", "/nowhere.txt"], "--script /nowhere.txt: No such file"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["timeline", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_busy_machine_is_said(tmp_path: Path) -> None:
    schedule = schedule_of("v2", [], play())
    schedule.lateness = LATE_NS + 1
    assert any("busy" in note for note in figure_of(CONVERSATION, [schedule]).notes)


def test_what_is_no_recording_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    head = '{"format": "concurrency-study-timeline/1"'
    for text in ("", "[]", '{"format": 1}', head + "}", head + ', "lesson": "x", "servers": []}'):
        path.write_text(text)
        with pytest.raises(RecordingError, match="is no recording"):
            load(path)


# The pictures


def assert_readable(drawn: str) -> None:
    """Well-formed, and every label lies inside the picture."""
    root = xml.etree.ElementTree.fromstring(drawn)
    _, _, wide, high = map(float, root.attrib["viewBox"].split())
    texts = [element for element in root.iter() if element.tag.endswith("}text")]
    assert texts
    for element in texts:
        width = svg.text_width(element.text or "", element.attrib["class"])
        before = {"start": 0.0, "middle": width / 2, "end": width}[element.attrib["text-anchor"]]
        x, y = float(element.attrib["x"]) - before, float(element.attrib["y"])
        assert x >= -0.2 and x + width <= wide + 0.2, element.text
        assert 8 <= y <= high - 1, element.text
    for element in root.iter():
        if element.tag.endswith("}rect") and "x" in element.attrib:
            assert float(element.attrib["x"]) >= 0
            assert float(element.attrib["width"]) >= 0


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_the_committed_pictures_are_those_of_their_recordings(lesson, tmp_path: Path) -> None:
    head, recorded = load(RESULTS / f"{lesson.name}.json")
    assert head["script"] == lesson.script.read_text(encoding="utf-8")
    assert [one.name for one in recorded] == list(VERSIONS)
    for one in recorded:
        assert_whole(one.schedule)
        assert one.play.missing == []
        assert one.play.lateness <= LATE_NS
    draw(lesson, recorded, tmp_path)
    for name in (f"{lesson.name}.svg", f"{lesson.name}-narrow.svg"):
        drawn = (tmp_path / name).read_text(encoding="utf-8")
        assert_readable(drawn)
        kept = (RESULTS / name).read_text(encoding="utf-8")
        assert drawn == kept, f"{name} is old; run: {REDRAW}"


# The page, in a real browser


class Browser:
    """Chromium, driven by its driver over the protocol of the W3C (webdriver)."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, path: str, body: dict | None = None) -> object:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> object:
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def press(self, *keys: str) -> None:
        """Keys, each down and up, to whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": strokes}]
        self.ask("POST", "/actions", {"actions": actions})

    def click(self, x: float, y: float) -> None:
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.ask(
            "POST", "/actions", {"actions": [{"type": "pointer", "id": "m", "actions": moves}]}
        )


@pytest.fixture
def open_page() -> Iterator[Callable[[Path, int], Browser]]:
    """`open_page(file, width)`: a browser that shows it."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium with its driver: apt install chromium chromium-driver")
    port = free_port()
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        with contextlib.ExitStack() as sessions:

            def open_it(path: Path, width: int) -> Browser:
                browser = Browser(f"http://127.0.0.1:{port}/session")
                metrics = {"width": width, "height": 900, "pixelRatio": 1}
                arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
                options = {"args": arguments, "mobileEmulation": {"deviceMetrics": metrics}}
                wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
                body = {"capabilities": {"alwaysMatch": wanted}}
                deadline = time.monotonic() + 20
                while True:
                    try:
                        session = browser.ask("POST", "", body)
                        break
                    # The driver does not listen yet.
                    except OSError:
                        assert time.monotonic() < deadline
                        time.sleep(0.1)
                assert isinstance(session, dict)
                browser.address += f"/{session['sessionId']}"
                sessions.callback(browser.ask, "DELETE", "")
                browser.ask("POST", "/url", {"url": path.resolve().as_uri()})
                return browser

            yield open_it
    finally:
        process.terminate()
        process.wait()


RIGHT, DOWN, ENTER, ESCAPE = "\ue014", "\ue015", "\ue007", "\ue00c"
SPAN = "const c = document.getElementById('chart').dataset; return c.to - c.from"
DETAILS = "return document.getElementById('details').textContent"


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_can_be_zoomed_asked_and_lit_up(open_page, width: int, tmp_path: Path) -> None:
    _, recorded = load(RESULTS / "conversation.json")
    draw(CONVERSATION, recorded, tmp_path)
    browser = open_page(tmp_path / "conversation.html", width)
    names = "return [...document.querySelectorAll('[data-panel]')].map(p => p.dataset.panel)"
    assert browser.run(names) == list(VERSIONS)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.run("document.getElementById('chart').focus()")
    whole = browser.run(SPAN)
    browser.press("+", "+")
    assert browser.run(SPAN) < whole / 2
    browser.press("0")
    assert browser.run(SPAN) == whole
    browser.press(RIGHT)
    assert str(browser.run(DETAILS)).startswith("v1_threads, main thread: ")
    browser.press(DOWN, RIGHT)
    assert str(browser.run(DETAILS)).startswith("v1_threads, accepting: ")
    browser.press(ESCAPE)
    assert str(browser.run(DETAILS)).strip() == ""
    # alice's "hi" to the room of v3: its dot is clicked, and what it went through lights up.
    number = [m.text for m in recorded[2].play.messages].index("hi")
    dot = f"document.querySelector(\"[data-way='v3_broadcast {number}']\")"
    browser.run(f"{dot}.scrollIntoView({{block: 'center'}})")
    box = browser.run(f"const b = {dot}.getBoundingClientRect(); return [b.x + 4, b.y + 4]")
    assert isinstance(box, list)
    browser.click(*box)
    assert "“hi”" in str(browser.run(DETAILS))
    assert "bob has it after" in str(browser.run(DETAILS))
    lit = browser.run("return document.querySelectorAll('#chart .lit').length")
    assert isinstance(lit, int) and lit >= 5
    assert browser.ask("POST", "/se/log", {"type": "browser"}) == []
    picture = base64.b64decode(str(browser.ask("GET", "/screenshot")))
    assert picture.startswith(b"\x89PNG")


# The suite, while everything is recorded


@posix_only
@pytest.mark.parametrize("version", VERSIONS)
def test_the_suite_passes_while_the_recorder_is_on(version: str, tmp_path: Path) -> None:
    """It takes more than a minute for each of them."""
    if version in ("v2_select", "v3_broadcast") and sys.version_info < (3, 12):
        pytest.skip("select() is called alike in each Python: tried with 3.12 or newer")
    server = REPOSITORY / version / "server.py"
    command = (
        f"{sys.executable} {recorder.__file__} {tmp_path} {server} --port {{port}} {{options}}"
    )
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--run-limit", "550"]
    done = subprocess.run(
        [*suite, "--server", command, "--profile", PROFILES[version]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(list(tmp_path.glob("*.recording"))) > 50
