"""The load generator: servers that cheat fail their trial, and what is counted is what happened.

The cheating servers are threads of this process; the load comes from the generator's own process,
as it does when something is measured.
"""

import itertools
import os
import re
import socket
import socketserver
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.load import paced, probe, saturated
from benchmarks.result.status import Outcome
from benchmarks.run.load_process import TrialOrder
from benchmarks.run.trial import load_generator, perform

SEED = 7
# Of the generator, with a server that owes something.
PATIENCE = 3.0
PARAMETERS = {"warmup": 0.05, "seconds": 0.25, "paced_seconds": 0.25}

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


class CheatingServer(socketserver.ThreadingTCPServer):
    """A small chat server that speaks just what the generator asks, and cheats where told to.

    `cheat(server, client, answer)` gets every numbered answer to a `/ping` (echo profile) or every
    line for the first reader (chat profile), and returns what is sent to that client in its place.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, profile: str, cheat: Callable[["CheatingServer", int, bytes], bytes]):
        super().__init__(("127.0.0.1", 0), Client)
        self.profile = profile
        self.cheat = cheat
        self.lock = threading.Lock()
        self.clients: list[socket.socket] = []
        # How many answers the cheat got so far, and what it keeps of a client.
        self.count = 0
        self.kept: dict[int, bytes] = {}
        # What comes before an answer to the generator's own questions.
        self.surplus = b""
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_close(self) -> None:
        self.shutdown()
        super().server_close()

    def process_request(self, request, address) -> None:
        self.clients.append(request)
        super().process_request(request, address)

    def handle_error(self, request, address) -> None:
        """The test is over, and a connection with it."""

    def on_line(self, number: int, name: bytes, line: bytes) -> None:
        if line.startswith(b"/ping"):
            answer = b"* pong" + line.removeprefix(b"/ping")
            is_numbered = answer[7:15].isdigit()
            text = answer if is_numbered else self.surplus + answer
            self.send(number, text, is_numbered and self.profile == "echo")
            return
        for reader in range(len(self.clients)):
            if reader != number:
                self.send(reader, name + b": " + line, reader == 1)

    def send(self, client: int, text: bytes, may_cheat: bool) -> None:
        if may_cheat:
            self.count += 1
            text = self.cheat(self, client, text)
        self.clients[client].sendall(text)


class Client(socketserver.StreamRequestHandler):
    """The thread of one client."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.wfile.write(b"* cheat: enter your name\n")
        name = self.rfile.readline().rstrip()
        self.wfile.write(b"* hello " + name + b"\n")
        number = self.server.clients.index(self.request)
        for line in self.rfile:
            with self.server.lock:
                self.server.on_line(number, name, line)


def honest(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """No cheat."""
    return answer


def slow(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """5 ms for each, one after the other: 200 a second at most."""
    time.sleep(0.005)
    return answer


def ahead(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """From the tenth on each answer comes with the question before its own."""
    following = answer.replace(b"%08d" % (server.count - 1), b"%08d" % server.count)
    if server.count < 10:
        return answer
    return answer + following if server.count == 10 else following


def wrong(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """One answer is `x`."""
    return b"x\n" if server.count == 10 else answer


def dropped_and_doubled(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """One is dropped, the next of this client doubled: the count is right."""
    return {10: b"", 11: answer * 2}.get(server.count, answer)


def swapped(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """Two answers to one client in the wrong order."""
    if server.count == 10:
        server.kept[client] = answer
        return b""
    return answer + server.kept.pop(client, b"")


def of_another(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """A client gets what another one was answered last."""
    server.kept[client] = answer
    return next((kept for other, kept in server.kept.items() if other != client), answer)


def late_again(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """Every answer is right, but a while later one comes again."""
    if server.count == 10:
        threading.Timer(0.1, server.clients[client].sendall, [answer]).start()
    return answer


def mute(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """From the tenth on nothing is answered but the generator's own questions."""
    return answer if server.count < 10 else b""


def doubled(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """The tenth comes twice."""
    return answer * 2 if server.count == 10 else answer


def last_again(server: CheatingServer, client: int, answer: bytes) -> bytes:
    """The very last answer comes once more, when all have come."""
    due = paced.arrivals(200, PARAMETERS["warmup"] + PARAMETERS["seconds"], SEED)
    server.surplus = answer if server.count == len(due) else b""
    return answer


def swapped_of_one_sender(server: CheatingServer, client: int, line: bytes) -> bytes:
    """Two lines of the first sender in the wrong order; other senders' lines lie in between."""
    if not line.startswith(b"c00000") or server.count < 10:
        return line
    if client not in server.kept:
        server.kept[client] = line
        return b""
    kept, server.kept[client] = server.kept[client], b""
    return line + kept


def said_by_another(server: CheatingServer, client: int, line: bytes) -> bytes:
    """A line under the name of another sender."""
    return line.replace(b"c00000", b"c00002")


def trial(cheat: Callable, experiment: str, point: dict) -> Outcome:
    """The outcome of one trial of a server that cheats, from the generator's process."""
    profile = "echo" if experiment == "ping" else "chat"
    with CheatingServer(profile, cheat) as server, load_generator() as generator:
        order = TrialOrder(
            experiment=experiment,
            point=point,
            parameters=PARAMETERS,
            seed=SEED,
            address=server.server_address,
            profile=profile,
            pid=os.getpid(),
            server_cores=[],
            cores=[],
            patience=PATIENCE,
        )
        return perform(generator, order, seconds=30)


def pings(clients: int, rate: int = 200) -> tuple[str, dict]:
    return "ping", {"mode": "paced", "clients": clients, "rate": rate}


def saturated_by(clients: int) -> tuple[str, dict]:
    return "ping", {"mode": "saturated", "clients": clients}


ROOM = "fanout", {"mode": "paced", "readers": 3, "rate": 200}
TALK = "fanout", {"mode": "talk", "clients": 4, "rate": 200}
FLOOD = "fanout", {"mode": "flood", "readers": 3, "lines_per_send": 4}


@pytest.mark.parametrize(
    "load", [pings(4), saturated_by(4), ROOM, TALK, FLOOD], ids=lambda load: load[1]["mode"]
)
def test_an_honest_server_passes(load):
    outcome = trial(honest, *load)
    assert outcome.status not in ("failed", "error"), outcome
    assert outcome.metrics["messages" if load[0] == "ping" else "deliveries"] > 0


def test_a_slow_server_has_not_failed():
    """A server that answers right but does not keep the rate is told from one that cheats."""
    outcome = trial(slow, *pings(4, rate=600))
    assert outcome.status != "failed", outcome
    assert outcome.metrics["kept_share"] < paced.KEPT_LIMIT, outcome


NOT_NEXT = (
    r"00000\d\d\d.* came, out of order, or one before it was lost; .*00000\d\d\d.* was expected"
)
CHEATS = [
    # Open loop: one client or sender, then several.
    (ahead, pings(1), r"00000\d\d\d.* came, before its question; nothing was expected yet"),
    (wrong, pings(1), r"b'x\\n' came, which is no answer .*; b'\* pong 00000009\D.* was expected"),
    (dropped_and_doubled, pings(1), NOT_NEXT),
    (swapped, pings(1), NOT_NEXT),
    (late_again, pings(1), r"b'\* pong 000.* came, a second time; .* was expected"),
    (last_again, pings(1), r"b'\* pong 000.* came where nothing more was expected"),
    (mute, pings(1), r"\d+ expected lines never came, the first of one client: b'\* pong 000"),
    (of_another, pings(2), r"came, which is no answer to what this client is owed; .*00000\d\d\d"),
    (dropped_and_doubled, ROOM, NOT_NEXT),
    (swapped_of_one_sender, TALK, NOT_NEXT),
    (said_by_another, TALK, r"00000\d\d\d.* came, "),
    # Closed loop.
    (doubled, saturated_by(1), r"b'\* pong .*' came where b'\* pong .*' was expected"),
    (of_another, saturated_by(2), r"b'\* pong .*' came where b'\* pong .*' was expected"),
    (mute, saturated_by(2), r"2 answers never came, one was to be b'\* pong "),
    # Flood.
    (dropped_and_doubled, FLOOD, r"came to a reader where .* was expected"),
    (wrong, FLOOD, r"b'x\\n.* came to a reader where .*00000009\D.* was expected"),
    (mute, FLOOD, r"\d+ deliveries never came, to 1 of the readers"),
]


@pytest.mark.parametrize(
    ("cheat", "load", "pattern"),
    CHEATS,
    ids=[f"{load[1]['mode']}-{cheat.__name__}" for cheat, load, _ in CHEATS],
)
def test_a_server_that_cheats_fails_its_trial(cheat, load, pattern):
    """Every answer is checked, content and order, and the message shows both sides."""
    outcome = trial(cheat, *load)
    assert outcome.status == "failed", outcome
    assert re.search(pattern, outcome.reason), f"{outcome.reason!r} is unlike {pattern!r}"


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
        (0.99, 0.0, 0.60, "ok"),
        # Somebody else had the core: that is not our limit.
        (0.60, 0.39, 0.60, "ok"),
        (0.60, 0.0, 0.60, "client-limited"),
        (0.99, 0.0, 0.97, "client-limited"),
    ],
)
def test_saturated_point_that_the_generator_limits(server, others, client, status):
    """A closed loop whose server could idle, or whose generator could not, compares nothing."""
    names = ("server_cpu_share", "server_wait_share", "client_cpu_share")
    shares = dict(zip(names, (server, others, client), strict=True))
    assert saturated.judged(shares).status == status


# What is read from outside


def test_probe_counts_its_own_process():
    """CPU time and memory of a process that is known: this one."""
    mine = probe.ServerProbe(os.getpid())
    before = mine.cpu_ns()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert mine.cpu_ns() - before >= 40e6
    assert mine.rss_bytes() > 1 << 20


@linux_only
def test_probe_counts_threads_and_how_often_they_wake():
    """A thread that sleeps a hundred times has gone to sleep a hundred times."""

    def sleep_often() -> None:
        for _ in range(100):
            time.sleep(0.0005)

    mine = probe.ServerProbe(os.getpid())
    threads, wakeups = mine.threads(), mine.wakeups()
    # Its thread lives until the end of the block.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(sleep_often).result()
        assert mine.threads() == threads + 1
        assert mine.wakeups() - wakeups >= 100


@linux_only
def test_sockets_take_kernel_memory():
    """Connections show in what the kernel tells about sockets: some 3.5 KiB for each end."""
    grown = []
    # Others may be closing some meanwhile.
    while len(grown) < 10 and max(grown, default=0) < 200:
        before = probe.socket_memory_kib()
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            ends = [socket.create_connection(listener.getsockname()) for _ in range(100)]
            ends += [listener.accept()[0] for _ in range(100)]
            grown.append(probe.socket_memory_kib() - before)
        for end in ends:
            end.close()
    assert max(grown) >= 200
