"""The load generator: servers that cheat fail their trial, and what is counted is what happened.

The cheating servers are threads of this process; the load comes from the generator's own process,
as it does when something is measured.
"""

import functools
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.load import paced, probe, saturated
from benchmarks.load.connections import Load

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 7
PATIENCE = 1.0  # of the generator, with a server that owes something

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")

PAUSES = {"warmup": 0.05, "seconds": 0.25}
PING = {**PAUSES, "rates": [], "clients": [], "saturated": []}
FANOUT = {**PAUSES, "paced_seconds": 0.25}


class CheatingServer:
    """A small chat server that speaks just what the generator asks, and cheats where told to.

    `cheat(server, client, answer)` gets every numbered answer to a `/ping` (echo profile) or every
    line for a reader (chat profile), and returns what is sent to that client in its place.
    """

    def __init__(
        self, profile: str, cheat: Callable[["CheatingServer", int, bytes], bytes]
    ) -> None:
        self.profile = profile
        self.cheat = cheat
        self.lock = threading.Lock()
        self.clients: list[socket.socket] = []
        self.kept: dict[int, bytes] = {}  # for cheats that remember something of a client
        self.cheats = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self) -> "CheatingServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.listener.close()
        for connection in self.clients:
            connection.close()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # it is over
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"* cheat: enter your name\n")
            number = len(self.clients)
            self.clients.append(connection)
            threading.Thread(target=self.serve, args=(number,), daemon=True).start()

    def serve(self, number: int) -> None:
        connection = self.clients[number]
        try:
            with connection.makefile("rb") as lines:
                name = lines.readline().rstrip()
                connection.sendall(b"* hello " + name + b"\n")
                for line in lines:
                    with self.lock:
                        self.on_line(number, name, line)
        except (OSError, ValueError):  # it is over
            return

    def on_line(self, number: int, name: bytes, line: bytes) -> None:
        if line.startswith(b"/ping"):
            answer = b"* pong" + line.removeprefix(b"/ping")
            numbered = answer[7:15].isdigit()
            if numbered and self.profile == "echo":
                answer = self.cheat(self, number, answer)
            self.clients[number].sendall(answer)
            return
        for reader, connection in enumerate(self.clients):
            if reader != number:
                connection.sendall(self.cheat(self, reader, name + b": " + line))


def honest(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """No cheat."""
    return answer


def number_of(line: bytes) -> int:
    """The number that an answer or a line bears."""
    return int(line.split(b" ")[-1][:8] if line[:1] != b"*" else line[7:15])


def renumbered(line: bytes, number: int) -> bytes:
    """The same with another number."""
    return line.replace(b"%08d" % number_of(line), b"%08d" % number)


def ahead(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """From the tenth on each answer comes with the question before its own."""
    following = renumbered(answer, number_of(answer) + 1)
    if number_of(answer) < 10:
        return answer
    return answer + following if number_of(answer) == 10 else following


def wrong(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """One answer is `x`."""
    return b"x\n" if number_of(answer) == 10 else answer


def dropped_and_doubled(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """One is dropped, the next of this client doubled: the count is right."""
    server.cheats += 1
    return {10: b"", 11: answer * 2}.get(server.cheats, answer)


def swapped(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """Two answers to one client in the wrong order."""
    server.cheats += 1
    if server.cheats == 10:
        server.kept[client] = answer
        return b""
    return answer + server.kept.pop(client, b"")


def of_another(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """A client gets what another one was answered last."""
    server.kept[client] = answer
    others = [kept for other, kept in server.kept.items() if other != client]
    return others[0] if others and len(server.kept) > 1 else answer


def late_again(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """Every answer is right, but a while later one comes again."""
    server.cheats += 1
    if server.cheats == 10:
        again = functools.partial(server.clients[client].sendall, answer)
        threading.Timer(0.1, again).start()
    return answer


def mute(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """From the tenth on nothing is answered but the generator's own questions."""
    server.cheats += 1
    return answer if server.cheats < 10 else b""


def doubled(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """The tenth comes twice."""
    server.cheats += 1
    return answer * 2 if server.cheats == 10 else answer


def always_x(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """Everything is answered with `x`."""
    return b"x\n"


def swapped_of_one_sender(server: CheatingServer, client: int, line: bytes) -> bytes:
    """Two lines of the first sender in the wrong order; other senders' lines lie in between."""
    server.cheats += 1
    if not line.startswith(b"c00000") or server.cheats < 10:
        return line
    if client not in server.kept:
        server.kept[client] = line
        return b""
    kept, server.kept[client] = server.kept[client], b""
    return line + kept


def said_by_another(server: CheatingServer, client: int, line: bytes) -> bytes:
    """A line under the name of another sender."""
    return line.replace(b"c00000", b"c00002")


def slow(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """5 ms for each, one after the other: 200 a second at most."""
    time.sleep(0.005)
    return answer


def trial(server: CheatingServer, experiment: str, point: dict, parameters: dict) -> dict:
    """The outcome of one trial, from the generator's process."""
    order = {
        "experiment": experiment,
        "point": point,
        "parameters": parameters,
        "seed": SEED,
        "address": server.listener.getsockname(),
        "profile": server.profile,
        "pid": os.getpid(),
        "server_cores": [],
        "cores": [],
        "patience": PATIENCE,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load.process"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ping_trial(cheat: Callable, clients: int, rate: float = 200) -> dict:
    """Paced `/ping` of a server that cheats."""
    with CheatingServer("echo", cheat) as server:
        return trial(server, "ping", {"mode": "paced", "clients": clients, "rate": rate}, PING)


def saturated_trial(cheat: Callable, clients: int) -> dict:
    """Saturated `/ping` of a server that cheats."""
    with CheatingServer("echo", cheat) as server:
        return trial(server, "ping", {"mode": "saturated", "clients": clients}, PING)


def fanout_trial(cheat: Callable, point: dict) -> dict:
    """Fan-out of a server that cheats."""
    with CheatingServer("chat", cheat) as server:
        return trial(server, "fanout", point, FANOUT)


PACED_ROOM = {"mode": "paced", "readers": 3, "rate": 200}
TALK = {"mode": "talk", "clients": 4, "rate": 200}
FLOOD = {"mode": "flood", "readers": 3, "lines_per_send": 4}


@pytest.mark.parametrize("point", [PACED_ROOM, TALK, FLOOD], ids=lambda point: point["mode"])
def test_honest_fanout_passes(point):
    """What is right is not called wrong."""
    outcome = fanout_trial(honest, point)
    assert outcome["status"] != "failed", outcome
    assert outcome["metrics"]["deliveries"] > 0


def test_honest_ping_passes():
    """The same for `/ping`, paced and saturated."""
    for outcome in (ping_trial(honest, clients=4), saturated_trial(honest, clients=4)):
        assert outcome["status"] != "failed", outcome
        assert outcome["metrics"]["messages"] > 0


def assert_failed(outcome: dict, pattern: str) -> None:
    """The trial failed, and the reason says what is expected of it."""
    assert outcome["status"] == "failed", outcome
    assert re.search(pattern, outcome["reason"]), f"{outcome['reason']!r} is unlike {pattern!r}"


def names(cases: list[tuple]) -> list[str]:
    """What pytest calls the cases."""
    return [cheat.__name__ for cheat, *_ in cases]


EARLY = r"00000\d\d\d.* came, before its question; nothing was expected yet"
NOT_NEXT = (
    r"00000\d\d\d.* came, out of order, or one before it was lost; .*00000\d\d\d.* was expected"
)
NOT_OWED = r"came, which is no answer to what this client is owed; b'.*00000\d\d\d.* was expected"
PACED_CHEATS = [
    (ahead, 1, EARLY),
    (wrong, 1, r"b'x\\n' came, which is no answer .*; b'\* pong 00000010\D.* was expected"),
    (dropped_and_doubled, 1, NOT_NEXT),
    (swapped, 1, NOT_NEXT),
    (of_another, 2, NOT_OWED),
    (late_again, 1, r"b'\* pong 000.* came, a second time; .* was expected"),
    (mute, 1, r"\d+ expected lines never came, the first of one client: b'\* pong 000"),
]


@pytest.mark.parametrize(("cheat", "clients", "pattern"), PACED_CHEATS, ids=names(PACED_CHEATS))
def test_cheating_at_paced_ping_fails(cheat, clients, pattern):
    """Open-loop answers are checked, content and order, and the message shows both sides."""
    assert_failed(ping_trial(cheat, clients), pattern)


def last_doubled(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """The very last answer comes twice."""
    last = len(paced.arrivals(200, PAUSES["warmup"] + PAUSES["seconds"], SEED)) - 1
    return answer * 2 if number_of(answer) == last else answer


def test_last_answer_doubled_fails():
    """What comes after the last answer is looked at, too."""
    assert_failed(ping_trial(last_doubled, 1), r"came where nothing more was expected|second time")


SATURATED_CHEATS = [
    (doubled, 1, r"b'\* pong .*' came where b'\* pong .*' was expected"),
    (always_x, 1, r"b'x\\n' came where b'\* pong .* was expected"),
    (of_another, 2, r"b'\* pong .*' came where b'\* pong .*' was expected"),
    (mute, 2, r"2 answers never came, one was to be b'\* pong "),
]


@pytest.mark.parametrize(
    ("cheat", "clients", "pattern"), SATURATED_CHEATS, ids=names(SATURATED_CHEATS)
)
def test_cheating_at_saturation_fails(cheat, clients, pattern):
    """So are those of a closed loop."""
    assert_failed(saturated_trial(cheat, clients), pattern)


FANOUT_CHEATS = [
    (ahead, PACED_ROOM, EARLY),
    (wrong, PACED_ROOM, r"b'x\\n' came, which is no answer .*; .*00000010\D.* was expected"),
    (dropped_and_doubled, PACED_ROOM, NOT_NEXT),
    (swapped, PACED_ROOM, NOT_NEXT),
    (dropped_and_doubled, FLOOD, r"came to a reader where .* was expected"),
    (wrong, FLOOD, r"b'x\\n.* came to a reader where .*00000010\D.* was expected"),
    (swapped, FLOOD, r"came to a reader where .* was expected"),
    (mute, FLOOD, r"\d+ deliveries never came, to 1 of the readers"),
    (wrong, TALK, r"b'x\\n' came, which is no answer"),
    (swapped_of_one_sender, TALK, NOT_NEXT),
    (said_by_another, TALK, r"00000\d\d\d.* came, "),
]


@pytest.mark.parametrize(
    ("cheat", "point", "pattern"),
    FANOUT_CHEATS,
    ids=[f"{point['mode']}-{cheat.__name__}" for cheat, point, _ in FANOUT_CHEATS],
)
def test_cheating_one_reader_fails(cheat, point, pattern):
    """Each reader's lines are checked: content, and the order of each sender's."""

    def only_first(server: CheatingServer, client: int, answer: bytes) -> bytes:
        return cheat(server, client, answer) if client == 1 else answer

    assert_failed(fanout_trial(only_first, point), pattern)


def test_slow_server_has_not_failed():
    """Who answers right but does not keep the rate is told from who cheats."""
    outcome = ping_trial(slow, clients=4, rate=600)
    assert outcome["status"] != "failed", outcome
    assert outcome["metrics"]["kept_share"] < paced.KEPT_LIMIT, outcome


# Schedules


def test_arrivals_are_poisson_from_their_seed():
    """The same seed gives every contestant of a round the same arrivals; their gaps are random."""
    due = paced.arrivals(rate=1000, seconds=20, seed=5)
    assert due == paced.arrivals(rate=1000, seconds=20, seed=5)
    assert due != paced.arrivals(rate=1000, seconds=20, seed=6)
    assert len(due) == pytest.approx(20_000, rel=0.03)
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    # Of exponential gaps the standard deviation is the mean; of even ones it would be 0.
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)
    assert max(gaps) > 5 * statistics.mean(gaps)
    assert all(at % paced.GRID_NS == 0 for at in due)


def test_numbers_cannot_be_foreseen_but_repeated():
    """The closed loop's numbers come in the order of the seed, each once in a round of the pool."""
    pairs = saturated.numbered_pings(3)
    assert pairs == saturated.numbered_pings(3) != saturated.numbered_pings(4)
    assert len({answer for _, answer in pairs}) == len(pairs) == saturated.POOL


@pytest.mark.parametrize(
    ("server", "others", "client", "status"),
    [
        (0.99, 0.0, 0.60, None),
        (0.60, 0.39, 0.60, None),  # that somebody else had the core is not our limit
        (0.60, 0.0, 0.60, "client-limited"),
        (0.99, 0.0, 0.97, "client-limited"),
    ],
)
def test_saturated_point_that_the_generator_limits(server, others, client, status):
    """A closed loop whose server could idle, or whose generator could not, compares nothing."""
    shares = {
        "server_cpu_share": server,
        "server_wait_share": others,
        "client_cpu_share": client,
    }
    assert saturated.limit(shares).get("status") == status


# What is read from outside


def test_probe_counts_its_own_process():
    """CPU time, memory, threads and wake-ups of a process that is known: this one."""
    mine = probe.ServerProbe(os.getpid())
    before = mine.cpu_ns()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert mine.cpu_ns() - before >= 40e6
    assert mine.rss_bytes() > 1 << 20
    assert mine.threads() == threading.active_count()


@linux_only
def test_probe_counts_wakeups_of_all_threads():
    """A thread that sleeps a hundred times has gone to sleep a hundred times."""
    mine = probe.ServerProbe(os.getpid())
    slept, done = threading.Event(), threading.Event()

    def sleep() -> None:
        for _ in range(100):
            time.sleep(0.0005)
        slept.set()
        done.wait()

    before = mine.wakeups()
    thread = threading.Thread(target=sleep)
    thread.start()
    slept.wait()
    counted = mine.wakeups() - before
    done.set()
    thread.join()
    assert counted >= 100


@linux_only
def test_a_burner_on_the_servers_core_shows():
    """It is seen that somebody else has the server's core."""
    core = min(os.sched_getaffinity(0))
    with CheatingServer("echo", honest) as server:
        burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            os.sched_setaffinity(burner.pid, {core})
            # The process that is looked at sleeps, so all of the core is somebody else's.
            sleeper = subprocess.Popen(["sleep", "60"])
            load = Load(server.listener.getsockname(), "echo", sleeper.pid, PATIENCE, [core])
            load.open_window()
            time.sleep(0.4)
            load.close_window()
        finally:
            for process in (burner, sleeper):
                process.kill()
                process.wait()
    assert load.metrics["server_wait_share"] > 0.9
    assert load.metrics["server_cpu_share"] < 0.05


@linux_only
def test_sockets_take_kernel_memory():
    """Connections show in what the kernel tells about sockets: some 3.5 KiB for each end."""
    grown = []
    while len(grown) < 10 and max(grown, default=0) < 200:  # others may be closing some
        before = probe.socket_memory_kib()
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            ends = [socket.create_connection(listener.getsockname()) for _ in range(100)]
            ends += [listener.accept()[0] for _ in range(100)]
            grown.append(probe.socket_memory_kib() - before)
        for end in ends:
            end.close()
    assert max(grown) >= 200
