"""Which concurrency model a server has, seen from outside while clients talk to it.

Each piece of evidence is a finding in a word and the facts in a sentence; `judge` holds them
against a model. Nothing is guessed: what a system does not show is UNKNOWN, and no model passes on
that. `python3 -m tests.grade.model --server CMD --profile echo|chat --json FILE` looks at one.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

from harness.answers import SERVER_FULL
from harness.launcher import LaunchError, RunningServer, launch
from harness.line_client import LineClient
from harness.process_view import ProcessView
from harness.waiting import wait_until
from tests.crowd import Crowd
from tests.grade.containment import adopt_orphans
from tests.grade.points import MODEL_POINTS
from tests.grade.process_tree import CAN_SEE, tasks_below

MODELS = ("threads", "select", "asyncio")
UNKNOWN = "cannot tell"
NOT_TESTED = "not tested"
# How many clients are there when threads are counted for the second and the third time.
FIRST_CROWD, SECOND_CROWD = 20, 50
# A language's runtime may start a few threads of its own when there is more to do (Go, Java).
RUNTIME_THREADS = 5
DELAY_SECONDS = 5.0  # generous: the protocol lets one deaf client hold up a room for a second
PROBE_SECONDS = 2.0  # for the answers between two looks
LOOKS = 30
IDLE_SECONDS = 0.6
IDLE_SHARE = 0.10  # of a core; servers that wait take a hundredth of that
WORK_MILLISECONDS = 500
FD_SETSIZE = 1024
MANY_CLIENTS = 1100
NEAR = 2  # descriptors that a server may open or close between two clients
DESCRIPTORS = 2048  # that a server may have open when as many clients come

READINESS = {"select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2"}
SYSTEM_CALLS = {
    "x86_64": {
        0: "read",
        7: "poll",
        23: "select",
        35: "nanosleep",
        43: "accept",
        45: "recvfrom",
        47: "recvmsg",
        61: "wait4",
        202: "futex",
        230: "clock_nanosleep",
        232: "epoll_wait",
        270: "pselect6",
        271: "ppoll",
        281: "epoll_pwait",
        288: "accept4",
        426: "io_uring_enter",
        441: "epoll_pwait2",
    },
    "aarch64": {
        22: "epoll_pwait",
        63: "read",
        72: "pselect6",
        73: "ppoll",
        98: "futex",
        101: "nanosleep",
        115: "clock_nanosleep",
        202: "accept",
        207: "recvfrom",
        212: "recvmsg",
        242: "accept4",
        260: "wait4",
        426: "io_uring_enter",
        441: "epoll_pwait2",
    },
}


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One thing that was looked at: the finding in a word or two, the facts in a sentence."""

    name: str
    finding: str
    facts: str


@dataclasses.dataclass(frozen=True)
class Question:
    """What a model has to answer: the findings that fit it, and whether they decide."""

    points: float
    fits: dict[str, set[str]]
    decides: set[str]


# A readiness loop may serve the others while one has work done, and only asyncio has to. Real
# select() refuses whom it cannot watch; poll(), epoll or kqueue serve them, and are the same model.
QUESTIONS = {
    "threads per client": Question(
        5.0,
        {"threads": {"one each"}, "select": {"constant"}, "asyncio": {"constant"}},
        {"threads", "select", "asyncio"},
    ),
    "what they wait in": Question(
        5.0,
        {
            "threads": {"each for its own"},
            "select": {"readiness of all"},
            "asyncio": {"readiness of all"},
        },
        {"select", "asyncio"},
    ),
    "silent and deaf clients": Question(4.0, {model: {"delay nobody"} for model in MODELS}, set()),
    "idle CPU": Question(2.0, {model: {"next to none"} for model in MODELS}, set()),
    "/work": Question(
        2.0,
        {
            "threads": {"others are served"},
            "select": {"others are served", "others wait"},
            "asyncio": {"others are served"},
        },
        {"asyncio"},
    ),
    "descriptor 1024": Question(
        2.0,
        {
            "threads": {"served", "refused", "a limit of its own"},
            "select": {"served", "refused", "a limit of its own"},
            "asyncio": {"served", "a limit of its own"},
        },
        set(),
    ),
}


# ---- the verdict ----


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a server has a model: "yes", "no", UNKNOWN or NOT_TESTED; what that brings."""

    model: str
    answer: str
    because: str
    earned: float
    not_graded: float
    lost: float


def judge(evidence: list[Evidence], model: str) -> Verdict:
    """Hold the evidence against a model; "any" is the one that fits, the most exacting first.

    A server that has another model than the one asked for gets no points, however well it
    behaves; one of which it cannot be told, none for what cannot be told.
    """
    if model == "any":
        verdicts = [judge(evidence, each) for each in ("threads", "asyncio", "select")]
        order = {"yes": 2, UNKNOWN: 1, "no": 0}
        return max(verdicts, key=lambda verdict: (order[verdict.answer], verdict.earned))
    seen = {each.name: each for each in evidence}
    against: list[str] = []
    untold: list[str] = []
    earned = not_graded = 0.0
    for name, question in QUESTIONS.items():
        finding = seen[name].finding if name in seen else UNKNOWN
        decides = model in question.decides
        if finding == UNKNOWN:
            not_graded += question.points
            untold += [name] * decides
        elif finding in question.fits[model]:
            earned += question.points
        elif decides:
            against.append(f"{name}: {finding}")
    if against:
        return Verdict(model, "no", "; ".join(against), 0.0, 0.0, MODEL_POINTS)
    if untold:
        because = f"this system does not show: {', '.join(untold)}"
        # What does not depend on the model is not worth much where the model is unknown.
        return Verdict(model, UNKNOWN, because, 0.0, MODEL_POINTS, 0.0)
    lost = MODEL_POINTS - earned - not_graded
    return Verdict(model, "yes", "", earned, not_graded, lost)


# ---- the evidence ----


def threads_per_client(server: RunningServer) -> tuple[Evidence, Evidence]:
    """How many threads or processes 20 and 50 clients bring, and what all wait in meanwhile."""
    name, waits = "threads per client", "what they wait in"
    if not CAN_SEE:
        why = "this system has no /proc to look into"
        return Evidence(name, UNKNOWN, why), Evidence(waits, UNKNOWN, why)
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
    if first - before >= 0.9 * FIRST_CROWD and second - before >= 0.9 * SECOND_CROWD:
        finding = "one each"
    elif second - before <= RUNTIME_THREADS:
        finding = "constant"
    else:
        finding = "neither one each nor constant"
    return Evidence(name, finding, facts), waiting


def _settled_number_of_tasks() -> int:
    """The number of threads and processes, once three looks in a row agree (or after 2 s).

    All that descend from this process are the server's, also those that have lost their parent:
    see main().
    """
    looks: list[int] = []
    deadline = time.monotonic() + 2
    while len(looks) < 3 or len(set(looks[-3:])) > 1:
        looks.append(len(tasks_below(os.getpid())))
        if time.monotonic() > deadline:
            break
        time.sleep(0.03)
    return looks[-1]


def what_they_wait_in(clients: int) -> Evidence:
    """The system call in which each thread waits, and for how many descriptors.

    One that waits for all is not believed where as many wait for one each: it may only look on.
    """
    name = "what they wait in"
    known = SYSTEM_CALLS.get(platform.machine())
    if known is None:
        return Evidence(name, UNKNOWN, f"no system calls are known for {platform.machine()}")
    readable = False
    for _ in range(LOOKS):
        calls = []
        for pid, task in tasks_below(os.getpid()):
            call = _system_call(pid, task, known)
            readable = readable or call is not None
            calls += [call] if call else []
        watchers = [call for call, watched in calls if watched >= clients]
        alone = [call for call, watched in calls if _waits_for_one(call, watched)]
        each_for_its_own = len(alone) >= 0.9 * clients
        if each_for_its_own or (watchers and len(calls) < clients):
            break
        # It was busy just then: another look.
        time.sleep(0.03)
    if not readable:
        return Evidence(name, UNKNOWN, "this system does not show /proc/PID/task/TID/syscall")
    if each_for_its_own:
        ((call, _),) = Counter(alone).most_common(1)
        facts = f"with {clients} clients as many threads wait in {call}() for one connection each"
        return Evidence(name, "each for its own", facts)
    if watchers:
        end = ", which watches no descriptor above 1023" if "select" in watchers[0] else ""
        facts = f"{watchers[0]}() waits for all {clients} clients{end}"
        return Evidence(name, "readiness of all", facts)
    calls = ", ".join(
        f"{number} in {call}()" for (call, _), number in Counter(calls).most_common(5)
    )
    return Evidence(name, "neither", f"with {clients} clients: {calls}")


def _waits_for_one(call: str, watched: int) -> bool:
    """Whether a thread in this call waits for one connection; with a second to be woken by."""
    return call in {"read", "recvfrom", "recvmsg"} or (call in READINESS and watched <= 2)


def _system_call(pid: int, task: int, known: dict[int, str]) -> tuple[str, int] | None:
    """(name, number of descriptors watched) of a thread's call; None where it is not shown."""
    try:
        words = Path(f"/proc/{pid}/task/{task}/syscall").read_text().split()
    # It ended while we looked, or may not be looked into.
    except OSError:
        return None
    if words[0] in ("running", "-1"):
        return ("running", 0)
    number, *arguments = (int(word, 0) for word in words)
    name = known.get(number, f"call {number}")
    if name in ("poll", "ppoll"):
        return name, arguments[1]
    if name in ("select", "pselect6"):
        return name, _members_of_set(pid, arguments[1], arguments[0])
    if name.startswith("epoll"):
        return name, _watched_by_epoll(pid, arguments[0])
    return name, 0


def _members_of_set(pid: int, address: int, size: int) -> int:
    """How many descriptors a select() waits to read from: the bits in the set it was given."""
    if not address:
        return 0
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read((min(size, FD_SETSIZE) + 7) // 8)
    # The memory may not be read: the highest descriptor is what is known then.
    except OSError:
        return size
    return sum(byte.bit_count() for byte in data)


def _watched_by_epoll(pid: int, descriptor: int) -> int:
    try:
        return Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().count("tfd:")
    except OSError:
        return 0


def silent_and_deaf_clients(server: RunningServer) -> Evidence:
    """Whether one that says nothing, one with half a line and one that never reads delay another.

    The deaf one asks until the server takes no more of it, or for a second.
    """
    name = "silent and deaf clients"
    with contextlib.ExitStack() as clients:
        _silent, half, deaf, witness = (
            clients.enter_context(LineClient(server.address, DELAY_SECONDS)) for _ in range(4)
        )
        half.send_bytes(b"half a na")
        witness.join("witness")
        deaf.join("deaf")
        deaf.socket.setblocking(False)
        end = time.monotonic() + 1
        flood = b"/help\n" * 2000
        answered = 0
        try:
            while time.monotonic() < end or answered < 20:
                # The server takes no more for now, or has dropped it: both are allowed (L3).
                with contextlib.suppress(OSError):
                    deaf.socket.send(flood)
                witness.ping()
                answered += 1
        except (TimeoutError, EOFError):
            facts = f"another client was not answered in {DELAY_SECONDS:g} s beside a deaf one"
            return Evidence(name, "delay others", facts)
    return Evidence(name, "delay nobody", f"others were answered within {DELAY_SECONDS:g} s")


def idle_cpu(server: RunningServer) -> Evidence:
    """What the server computes while 20 clients are silent: the better of two looks."""
    name = "idle CPU"
    if not CAN_SEE:
        return Evidence(name, UNKNOWN, "this system has no /proc to look into")
    view = ProcessView(server.process.pid)
    with Crowd(server.address, server.profile) as crowd:
        crowd.join(f"idle-{number}" for number in range(FIRST_CROWD))
        used = []
        for _ in range(2):
            before = view.cpu_seconds()
            begin = time.monotonic()
            # The time is what is measured: so long nobody says a word.
            time.sleep(IDLE_SECONDS)
            used.append((view.cpu_seconds() - before) / (time.monotonic() - begin))
    share = min(used)
    if share <= IDLE_SHARE:
        facts = f"under {IDLE_SHARE:.0%} of a core with 20 silent clients"
        return Evidence(name, "next to none", facts)
    return Evidence(name, "much", f"over {IDLE_SHARE:.0%} of a core with 20 silent clients")


def work_and_the_others(server: RunningServer) -> Evidence:
    """What `/work` of one client does to others: how many answers come before the work is done."""
    name = "/work"
    before = 0
    with (
        LineClient(server.address) as worker,
        LineClient(server.address) as other,
    ):
        worker.join("worker")
        other.join("other")
        other.ping()
        worker.ping()
        worker.send_line(f"/work {WORK_MILLISECONDS}")
        worked = f"* worked {WORK_MILLISECONDS} ms"
        while not worker.wait_for_data(0):
            other.ping()
            before += 1
        # The last pong may have come behind the end of the work.
        before = max(0, before - 1)
        answer = worker.read_line()
    if answer != worked:
        return Evidence(name, "not done", f"asked for {WORK_MILLISECONDS} ms, got {answer!r}")
    if before >= 5:
        facts = f"another client got answers while {WORK_MILLISECONDS} ms of work were done"
        return Evidence(name, "others are served", facts)
    if before <= 1:
        facts = f"another client got no answer until {WORK_MILLISECONDS} ms of work were done"
        return Evidence(name, "others wait", facts)
    return Evidence(name, "neither served nor held up", f"{before} answers came meanwhile")


def beyond_descriptor_1024(command: str, profile: str) -> Evidence:
    """What becomes of 1100 clients: served, refused at select()'s end or by a limit, or death."""
    name = "descriptor 1024"
    if resource is None:
        return Evidence(name, UNKNOWN, "this system has no RLIMIT_NOFILE")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        return Evidence(name, UNKNOWN, f"the hard limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    options = shlex.join(["--max-clients", "2000"])
    with (
        launch("server", command.replace("{options}", options), profile=profile) as server,
        contextlib.ExitStack() as clients,
    ):
        return _count_the_greeted(name, server, clients)


def _count_the_greeted(name: str, server: RunningServer, clients: contextlib.ExitStack) -> Evidence:
    first = clients.enter_context(LineClient(server.address))
    first.join("first")
    room = FD_SETSIZE - _most_descriptors()
    greeted = 1
    for number in range(2, MANY_CLIENTS + 1):
        try:
            client = clients.enter_context(LineClient(server.address, DELAY_SECONDS))
            line = client.read_line()
        except (OSError, EOFError) as error:
            what = "closed at once" if isinstance(error, EOFError) else "not greeted"
            line = f"{what} ({error})"
        if not line.endswith(": enter your name"):
            break
        greeted = number
    try:
        first.ping()
        alive = server.process.poll() is None
    except (OSError, EOFError):
        alive = False
    if not alive:
        status = server.process.poll()
        end = "serves nobody any more" if status is None else f"has ended with status {status}"
        return Evidence(name, "died", f"with {greeted} clients there, it {end}")
    if greeted == MANY_CLIENTS:
        return Evidence(name, "served", f"all {MANY_CLIENTS} clients were greeted")
    facts = f"{greeted} clients were greeted, the next was told {line!r}"
    if line != SERVER_FULL:
        return Evidence(name, "not refused in words", facts)
    # The first has one of the descriptors that were open.
    if abs(greeted - (room + 1)) <= NEAR:
        return Evidence(name, "refused", f"{facts}: where select() ends")
    return Evidence(name, "a limit of its own", facts)


def _most_descriptors() -> int:
    """How many are open in that one of the server's processes that has the most; 0: not shown."""
    numbers = [0]
    for pid in {pid for pid, _ in tasks_below(os.getpid())} if CAN_SEE else ():
        # It has ended meanwhile, or may not be looked into.
        with contextlib.suppress(OSError):
            numbers.append(ProcessView(pid).descriptors())
    return max(numbers)


def libraries(server: RunningServer) -> Evidence:
    """Whether a Python server has loaded asyncio: a hint for a person, decides nothing."""
    name = "asyncio loaded"
    try:
        maps = Path(f"/proc/{server.process.pid}/maps").read_text(errors="replace")
    # It has ended, or this system has no /proc.
    except OSError:
        return Evidence(name, UNKNOWN, "what it has loaded is not shown")
    if not re.search(r"python3?[\d.]*", maps):
        return Evidence(name, UNKNOWN, "no Python program, or none that can be recognised")
    if "/_asyncio." in maps:
        return Evidence(name, "yes", "the module _asyncio is loaded")
    return Evidence(name, "no", "no module _asyncio is loaded as a file of its own")


# ---- a look at one server ----

FAILURES = (OSError, EOFError, AssertionError, LaunchError, StopIteration)


def look(command: str, profile: str) -> list[Evidence]:
    """All the evidence about one server. What it does not live through is said in its place."""
    found: list[Evidence] = []
    try:
        with launch("server", command.replace("{options}", ""), profile=profile) as server:
            _warm_up(server)
            found += _attempt(threads_per_client, server, "threads per client", "what they wait in")
            found.append(libraries(server))
            found += _attempt(idle_cpu, server, "idle CPU")
            found += _attempt(work_and_the_others, server, "/work")
            found += _attempt(silent_and_deaf_clients, server, "silent and deaf clients")
    except FAILURES as error:
        named = {each.name for each in found}
        found += [
            Evidence(name, "failed", one_line(error))
            for name in QUESTIONS
            if name not in named and name != "descriptor 1024"
        ]
    try:
        found.append(beyond_descriptor_1024(command, profile))
    except FAILURES as error:
        found.append(Evidence("descriptor 1024", "failed", one_line(error)))
    return found


def _warm_up(server: RunningServer) -> None:
    """One client comes, has work done and goes: what a server makes at first need is made now."""
    with LineClient(server.address) as client:
        client.join("warm-up")
        client.send_line("/work 1")
        client.read_line()
        client.send_line("/quit")
        client.read_to_end()


def _attempt(
    function: Callable[[RunningServer], Evidence | tuple[Evidence, ...]],
    server: RunningServer,
    *names: str,
) -> list[Evidence]:
    try:
        found = function(server)
        return list(found) if isinstance(found, tuple) else [found]
    except FAILURES as error:
        return [Evidence(name, "failed", one_line(error)) for name in names]
    finally:
        # The next look begins without the clients of this one.
        with contextlib.suppress(*FAILURES):
            wait_until(lambda: _alone(server), "all clients to leave", 3)


def _alone(server: RunningServer) -> bool:
    with LineClient(server.address, PROBE_SECONDS) as probe:
        name = probe.join()
        probe.send_line("/list")
        # Who has left late may still be announced before the answer.
        while not (line := probe.read_line()).endswith(f": {name}"):
            if " online: " in line:
                return False
        return line == f"* 1 online: {name}"


def one_line(error: BaseException) -> str:
    """An exception in a line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def main() -> None:
    """Look at one server, write what was seen."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.grade.model", description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--profile", choices=("echo", "chat"), required=True)
    parser.add_argument("--json", required=True)
    arguments = parser.parse_args()
    # Who is forked twice for a client has lost its parent, and is the server's all the same.
    adopt_orphans()
    evidence = look(arguments.server, arguments.profile)
    text = json.dumps({"evidence": [dataclasses.asdict(each) for each in evidence]}, indent=1)
    Path(arguments.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
