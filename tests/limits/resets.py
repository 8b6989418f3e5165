"""L6: connections that are reset in the middle of a line."""

import contextlib

from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.process_view import ProcessView
from harness.waiting import wait_until
from tests.crowd import Crowd
from tests.limits.claims import PROC, Claim, Facts, Limit
from tests.limits.observing import is_greeted, stop
from tests.limits.subject import Subject

CLIENTS = 40
NAMES = [f"client-{number}" for number in range(CLIENTS)]


def how() -> str:
    """How it is done."""
    return (
        f"{CLIENTS} clients are in and have sent `hel`; {CLIENTS} more have sent half a name. "
        "Each closes with SO_LINGER on, for 0 seconds: the kernel sends RST in place of FIN, and "
        "the server's next call on that connection fails (ECONNRESET). bob looks on."
    )


def run(subject: Subject, facts: Facts) -> None:
    """Let them all come, reset them all, and count what bob heard and what they have left."""
    with subject.run() as server:
        with (
            LineClient(server.address) as bob,
            Crowd(server.address, server.profile) as room,
        ):
            _reset_a_crowd(server, bob, room, facts)
        stop(server, facts)


def _reset_a_crowd(server: RunningServer, bob: LineClient, room: Crowd, facts: Facts) -> None:
    view = ProcessView(server.process.pid)

    def threads_and_descriptors() -> tuple[int, int]:
        return view.threads(), view.descriptors()

    bob.join("bob")
    if PROC.is_met:
        facts.before = threads_and_descriptors()
    room.join(NAMES)
    strangers = room.connect(f"stranger-{number}" for number in range(CLIENTS))
    room.pump(lambda: all(map(is_greeted, strangers)), "greetings")
    if PROC.is_met:
        facts.meanwhile = threads_and_descriptors()
    for client in room.members:
        client.outgoing += b"hel"
    room.pump(lambda: not any(client.outgoing for client in room.members), "halves of lines")
    for client in list(room.members):
        room.reset(client)
    heard: list[str] = []

    def bob_is_alone() -> bool:
        heard.extend(bob.ask("/list"))
        return heard[-1:] == ["* 1 online: bob"]

    # What would make these wait in vain is seen in the facts.
    with contextlib.suppress(TimeoutError):
        wait_until(bob_is_alone, "all who were reset to be gone")
    if PROC.is_met:
        # Nobody is told when strangers have gone.
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: threads_and_descriptors() == facts.before, "what they cost to be back"
            )
        facts.after = threads_and_descriptors()
    facts.online = heard[-1] if heard else "nothing"
    heard += bob.ping()
    facts.joined = [line for line in heard if line.endswith(" joined")]
    facts.left = [line for line in heard if line.endswith(" left")]
    facts.said = [line for line in heard if not line.startswith("*")]
    with LineClient(server.address) as again:
        again.read_line()
        again.send_line(NAMES[0])
        facts.again = again.read_line()


def _counts(threads_and_descriptors: tuple[int, int]) -> str:
    return "{} + {}".format(*threads_and_descriptors)


LIMIT = Limit(
    "reset",
    f"{2 * CLIENTS} connections reset in mid-line",
    how,
    run,
    (
        Claim(
            "all are gone, bob is in",
            lambda facts: f"`{facts.online}`",
            lambda facts: facts.online == "* 1 online: bob",
        ),
        Claim(
            "half a line is nobody's line",
            lambda facts: f"bob heard {len(facts.said)} lines of theirs",
            lambda facts: not facts.said,
        ),
        Claim(
            "bob hears of each once that it joined, once that it left",
            lambda facts: (
                f"{len(facts.joined)} times `joined`, {len(facts.left)} times `left`, of "
                f"{len(set(facts.left))} clients"
            ),
            lambda facts: (
                sorted(facts.joined) == sorted(f"* {name} joined" for name in NAMES)
                and sorted(facts.left) == sorted(f"* {name} left" for name in NAMES)
            ),
            profile="chat",
        ),
        Claim(
            "bob hears nothing of them",
            lambda facts: f"{len(facts.joined)} times `joined`, {len(facts.left)} times `left`",
            lambda facts: not facts.left and not facts.joined,
            profile="echo",
        ),
        Claim(
            "threads + descriptors are as at first",
            lambda facts: (
                f"{_counts(facts.before)}, meanwhile {_counts(facts.meanwhile)}, "
                f"then {_counts(facts.after)}"
            ),
            lambda facts: facts.after == facts.before,
            needs=PROC,
        ),
        Claim(
            "their names are free again",
            lambda facts: f"`{facts.again}`",
            lambda facts: facts.again == "* hello client-0",
        ),
    ),
)
