"""Which concurrency model a server has: the evidence, seen from outside while clients talk to it.

What it says about a model is in judgement.py.
"""

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness import proc, system
from harness.answers import SERVER_FULL
from harness.crowd import Crowd
from harness.joining import joined
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.server_under_test import FAILURES, ServerUnderTest
from harness.waiting import wait_until
from tests.grade.containment import adopt_orphans
from tests.grade.judgement import QUESTIONS, Aspect, Evidence, Finding
from tests.grade.system_calls import FD_SETSIZE, MACHINE, NAMES, SELECT, SystemCall, system_call

# How many clients are there when threads are counted for the second and the third time.
FIRST_CROWD, SECOND_CROWD = 20, 50
# Nearly all clients have a thread each, or have not: some may come or go while we count.
NEARLY_ALL = 0.9
# A language's runtime may start a few threads of its own when there is more to do (Go, Java).
RUNTIME_THREADS = 5
COUNTING_SECONDS = 2.0
# Generous, because the protocol lets one deaf client hold up a room for a second.
DELAY_SECONDS = 5.0
# For the answers between two looks.
PROBE_SECONDS = 2.0
LEAVING_SECONDS = 3.0
LOOKS = 30
BETWEEN_LOOKS = 0.03
IDLE_SECONDS = 0.6
# Of a core; a server that waits takes a hundredth of that.
IDLE_SHARE = 0.10
FLOOD_SECONDS = 1.0
FLOOD = b"/help\n" * 2000
WORK_MILLISECONDS = 500
MANY_CLIENTS = 1100
# Descriptors that a server may open or close between two clients.
NEAR = 2
# Descriptors that a server may have open when as many clients come.
DESCRIPTORS = 2048

# A finding in a word or two, and the facts in a sentence.
Seen = tuple[Finding, str]

NO_PROC = "this system has no /proc to look into"


# ---- threads, and what they wait in ----


def threads_per_client(server: RunningServer) -> list[Seen]:
    """How many threads or processes 20 and 50 clients bring, and what all wait in meanwhile."""
    if not proc.CAN_SEE:
        return [(Finding.CANNOT_TELL, NO_PROC)] * 2
    counts = [_settled_number_of_tasks()]
    with Crowd(server.address, server.profile) as crowd:
        for size in (FIRST_CROWD, SECOND_CROWD):
            crowd.join(f"c-{number}" for number in range(len(crowd.members), size))
            counts.append(_settled_number_of_tasks())
        waiting = what_they_wait_in(SECOND_CROWD)
    before, first, second = counts
    facts = (
        f"{before} threads or processes without clients, {first} with {FIRST_CROWD} clients, "
        f"{second} with {SECOND_CROWD}"
    )
    many_for_first = first - before >= NEARLY_ALL * FIRST_CROWD
    if many_for_first and second - before >= NEARLY_ALL * SECOND_CROWD:
        finding = Finding.ONE_EACH
    elif second - before <= RUNTIME_THREADS:
        finding = Finding.CONSTANT
    else:
        finding = Finding.NOT_PROPORTIONAL
    return [(finding, facts), waiting]


def _settled_number_of_tasks() -> int:
    """The number of threads and processes, once three looks in a row agree, or after 2 s."""
    looks: list[int] = []
    deadline = time.monotonic() + COUNTING_SECONDS
    while len(looks) < 3 or len(set(looks[-3:])) > 1:
        looks.append(len(proc.tasks_below(os.getpid())))
        if time.monotonic() > deadline:
            break
        time.sleep(BETWEEN_LOOKS)
    return looks[-1]


def what_they_wait_in(clients: int) -> Seen:
    """The system call in which each thread waits, and for how many descriptors.

    A thread that waits for all clients is not believed to serve them where as many threads wait
    for one client each: it may only look on.
    """
    if not NAMES:
        return Finding.CANNOT_TELL, f"no system calls are known for {MACHINE}"
    readable = False
    for _ in range(LOOKS):
        calls = _system_calls()
        readable = readable or bool(calls)
        watchers = [call for call in calls if call.watched >= clients]
        alone = [call for call in calls if call.waits_for_one]
        each_for_its_own = len(alone) >= NEARLY_ALL * clients
        if each_for_its_own or (watchers and len(calls) < clients):
            break
        # It was busy just then: another look.
        time.sleep(BETWEEN_LOOKS)
    if not readable:
        return Finding.CANNOT_TELL, "this system does not show /proc/PID/task/TID/syscall"
    if each_for_its_own:
        ((call, _),) = Counter(call.name for call in alone).most_common(1)
        return (
            Finding.EACH_FOR_ITS_OWN,
            f"with {clients} clients as many threads wait in {call}() for one connection each",
        )
    if watchers:
        call = watchers[0].name
        end = ", which watches no descriptor above 1023" if call in SELECT else ""
        return Finding.READINESS_OF_ALL, f"{call}() waits for all {clients} clients{end}"
    numbers = ", ".join(
        f"{number} in {call.name}()" for call, number in Counter(calls).most_common(5)
    )
    return Finding.NEITHER, f"with {clients} clients: {numbers}"


def _system_calls() -> list[SystemCall]:
    calls = (system_call(pid, task) for pid, task in proc.tasks_below(os.getpid()))
    return [call for call in calls if call is not None]


# ---- what clients feel ----


def silent_and_deaf_clients(server: RunningServer) -> Seen:
    """Whether one that says nothing, one with half a line and one that never reads delay another.

    The deaf client asks until the server takes no more from it, or for a second.
    """
    with contextlib.ExitStack() as clients:
        _silent, half, deaf, witness = (
            clients.enter_context(LineClient(server.address, DELAY_SECONDS)) for _ in range(4)
        )
        half.send_bytes(b"half a na")
        witness.join("witness")
        deaf.join("deaf")
        deaf.socket.setblocking(False)
        end = time.monotonic() + FLOOD_SECONDS
        answers = 0
        try:
            while time.monotonic() < end or answers < 20:
                # The server takes no more for now, or has dropped it: both are allowed (L3).
                with contextlib.suppress(OSError):
                    deaf.socket.send(FLOOD)
                witness.ping()
                answers += 1
        except (TimeoutError, EOFError):
            return (
                Finding.DELAY_OTHERS,
                f"another client was not answered in {DELAY_SECONDS:g} s beside a deaf one",
            )
    return Finding.DELAY_NOBODY, f"others were answered within {DELAY_SECONDS:g} s"


def idle_cpu(server: RunningServer) -> Seen:
    """What the server computes while 20 clients are silent: the better of two looks."""
    if not proc.CAN_SEE:
        return Finding.CANNOT_TELL, NO_PROC
    view = proc.ProcessView(server.pid)
    shares = []
    with Crowd(server.address, server.profile) as crowd:
        crowd.join(f"idle-{number}" for number in range(FIRST_CROWD))
        for _ in range(2):
            before = view.cpu_seconds()
            begin = time.monotonic()
            # The time is what is measured: so long nobody says a word.
            time.sleep(IDLE_SECONDS)
            shares.append((view.cpu_seconds() - before) / (time.monotonic() - begin))
    is_idle = min(shares) <= IDLE_SHARE
    facts = f"{'under' if is_idle else 'over'} {IDLE_SHARE:.0%} of a core with 20 silent clients"
    return Finding.NEXT_TO_NONE if is_idle else Finding.MUCH, facts


def work_and_the_others(server: RunningServer) -> Seen:
    """What `/work` of one client does to others: how many answers come before the work is done."""
    answers = 0
    with joined(server, "worker", "other") as (worker, other):
        worker.send_line(f"/work {WORK_MILLISECONDS}")
        while not worker.wait_for_data(0):
            other.ping()
            answers += 1
        # The last pong may have come after the end of the work.
        answers = max(0, answers - 1)
        line = worker.read_line()
    if line != f"* worked {WORK_MILLISECONDS} ms":
        return Finding.NOT_DONE, f"asked for {WORK_MILLISECONDS} ms, got {line!r}"
    if answers >= 5:
        return (
            Finding.OTHERS_ARE_SERVED,
            f"another client got answers while {WORK_MILLISECONDS} ms of work were done",
        )
    if answers <= 1:
        return (
            Finding.OTHERS_WAIT,
            f"another client got no answer until {WORK_MILLISECONDS} ms of work were done",
        )
    return Finding.OTHERS_HARDLY_SERVED, f"{answers} answers came meanwhile"


# ---- more clients than select() can watch ----


def beyond_descriptor_1024(server: ServerUnderTest) -> Seen:
    """What becomes of 1100 clients: served, refused at select()'s end or by a limit, or death."""
    try:
        system.allow_descriptors(DESCRIPTORS)
    except system.Unavailable as reason:
        return Finding.CANNOT_TELL, str(reason)
    with server.start("--max-clients", "2000") as running, contextlib.ExitStack() as clients:
        return _greet_many(running, clients)


def _greet_many(server: RunningServer, clients: contextlib.ExitStack) -> Seen:
    first = clients.enter_context(LineClient(server.address))
    first.join("first")
    room = FD_SETSIZE - _most_descriptors()
    greeted = 1
    refusal = None
    while greeted < MANY_CLIENTS and refusal is None:
        refusal = _refusal_of_another(server, clients)
        greeted += refusal is None
    if death := _death(server, first):
        return Finding.DIED, f"with {greeted} clients there, it {death}"
    if refusal is None:
        return Finding.SERVED, f"all {MANY_CLIENTS} clients were greeted"
    facts = f"{greeted} clients were greeted, the next was told {refusal!r}"
    if refusal != SERVER_FULL:
        return Finding.REFUSED_WITHOUT_WORDS, facts
    # One of the descriptors that were open is the first client's.
    if abs(greeted - (room + 1)) <= NEAR:
        return Finding.REFUSED, f"{facts}: where select() ends"
    return Finding.OWN_LIMIT, facts


def _refusal_of_another(server: RunningServer, clients: contextlib.ExitStack) -> str | None:
    """What another client gets in place of a greeting; None if it is greeted, and stays."""
    try:
        client = clients.enter_context(LineClient(server.address, DELAY_SECONDS))
        line = client.read_line()
    except EOFError as error:
        return f"closed at once ({error})"
    except OSError as error:
        return f"not greeted ({error})"
    return None if line.endswith(": enter your name") else line


def _death(server: RunningServer, client: LineClient) -> str:
    """How the server has ended, or that it does not answer; empty while it is well."""
    try:
        client.ping()
        ending = server.ending(0)
        if ending is None:
            return ""
    except (OSError, EOFError):
        ending = server.ending()
    return f"has ended with status {ending.status}" if ending else "serves nobody any more"


def _most_descriptors() -> int:
    """How many are open in that one of the server's processes that has the most; 0: not shown."""
    numbers = [0]
    for pid in {pid for pid, _ in proc.tasks_below(os.getpid())} if proc.CAN_SEE else ():
        # It has ended meanwhile, or may not be looked into.
        with contextlib.suppress(OSError):
            numbers.append(proc.ProcessView(pid).descriptors())
    return max(numbers)


# ---- a look at one server ----


def libraries(server: RunningServer) -> Seen:
    """Whether a Python server has loaded asyncio: a hint for a person, decides nothing."""
    try:
        maps = Path(f"/proc/{server.pid}/maps").read_text(errors="replace")
    # It has ended, or this system has no /proc.
    except OSError:
        return Finding.CANNOT_TELL, "what it has loaded is not shown"
    if not re.search(r"python3?[\d.]*", maps):
        return Finding.CANNOT_TELL, "no Python program, or none that can be recognised"
    if "/_asyncio." in maps:
        return Finding.YES, "the module _asyncio is loaded"
    return Finding.NO, "no module _asyncio is loaded as a file of its own"


def look(server: ServerUnderTest) -> list[Evidence]:
    """All the evidence about one server. What it does not live through is said in its place.

    There is none about a server that lets nobody in, because all of it is seen by those who are in.
    Whatever descends from this process meanwhile is taken for the server's.
    """
    # A process that is forked twice for a client has lost its parent, and is still the server's.
    adopt_orphans()
    seen: dict[Aspect, Seen] = {}
    try:
        with server.start() as running:
            if not _warm_up(running):
                return []
            seen |= _attempt(threads_per_client, running, Aspect.THREADS, Aspect.WAITING)
            seen[Aspect.LIBRARIES] = libraries(running)
            seen |= _attempt(idle_cpu, running, Aspect.IDLE)
            seen |= _attempt(work_and_the_others, running, Aspect.WORK)
            seen |= _attempt(silent_and_deaf_clients, running, Aspect.SILENT)
    except FAILURES as error:
        missing = [aspect for aspect in QUESTIONS if aspect not in (Aspect.MANY, *seen)]
        seen |= dict.fromkeys(missing, _failure(error))
    try:
        seen[Aspect.MANY] = beyond_descriptor_1024(server)
    except FAILURES as error:
        seen[Aspect.MANY] = _failure(error)
    return [Evidence(aspect, *each) for aspect, each in seen.items()]


def _warm_up(server: RunningServer) -> bool:
    """One client comes, has work done and goes: what a server makes at first need is made now.

    Returns whether the client was let in.
    """
    with LineClient(server.address) as client:
        try:
            client.join("warm-up")
        # It was told something else, or nothing, or the connection has ended.
        except (AssertionError, EOFError, OSError):
            return False
        client.send_line("/work 1")
        client.read_line()
        client.send_line("/quit")
        client.read_to_end()
    return True


def _attempt(
    function: Callable[[RunningServer], Seen | list[Seen]], server: RunningServer, *aspects: Aspect
) -> dict[Aspect, Seen]:
    try:
        seen = function(server)
        return dict(zip(aspects, seen if isinstance(seen, list) else [seen], strict=True))
    except FAILURES as error:
        return dict.fromkeys(aspects, _failure(error))
    finally:
        # The next look begins without the clients of this one.
        with contextlib.suppress(*FAILURES):
            wait_until(lambda: _alone(server), "all clients to leave", LEAVING_SECONDS)


def _failure(error: BaseException) -> Seen:
    return Finding.FAILED, one_line(error)


def _alone(server: RunningServer) -> bool:
    with LineClient(server.address, PROBE_SECONDS) as probe:
        name = probe.join()
        return f"* 1 online: {name}" in probe.ask("/list")


def one_line(error: BaseException) -> str:
    """An exception in a line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
