"""L6: connections that are reset in the middle of a line."""

import contextlib

from harness.crowd import Crowd
from harness.joining import joined
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest
from harness.session import Session
from harness.waiting import wait_until
from tests.limits.claims import PROC, Claim, Facts, Limit
from tests.limits.observing import claim_about_a_line, is_greeted, new_client, new_crowd, stop

CLIENTS = 40
NAMES = [f"client-{number}" for number in range(CLIENTS)]


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Let them all come, reset them all, and count what bob heard and what they have left."""
    with server.running(session=session) as running:
        with joined(running, "bob") as (bob,), new_crowd(running) as room:
            _reset_a_crowd(running, bob, room, facts)
        stop(running, facts)


def _reset_a_crowd(server: RunningServer, bob: LineClient, room: Crowd, facts: Facts) -> None:
    view = ProcessView(server.pid)

    def threads_and_descriptors() -> str:
        return f"{view.threads()} + {view.descriptors()}"

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

    # If these wait in vain, the facts say why.
    with contextlib.suppress(TimeoutError):
        wait_until(bob_is_alone, "all who were reset to be gone", session=server.session)
    if PROC.is_met:
        # Nobody is told when strangers have gone.
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: threads_and_descriptors() == facts.before,
                "what they cost to be back",
                session=server.session,
            )
        facts.after = threads_and_descriptors()
    facts.online = heard[-1] if heard else "nothing"
    heard += bob.ping()
    facts.joined = [line for line in heard if line.endswith(" joined")]
    facts.left = [line for line in heard if line.endswith(" left")]
    facts.their_lines = [line for line in heard if not line.startswith("*")]
    with new_client(server) as again:
        again.read_line()
        again.send_line(NAMES[0])
        facts.again = again.read_line()


LIMIT = Limit(
    "reset",
    f"{2 * CLIENTS} connections reset in mid-line",
    lambda: (
        f"{CLIENTS} clients are in and have sent `hel`; {CLIENTS} more have sent half a name. "
        "Each closes with SO_LINGER on, for 0 seconds: the kernel sends RST in place of FIN, and "
        "the server's next call on that connection fails (ECONNRESET). bob looks on."
    ),
    run,
    (
        claim_about_a_line("all are gone, bob is in", "online", "* 1 online: bob"),
        Claim(
            "half a line is nobody's line",
            lambda facts: f"bob heard {len(facts.their_lines)} lines of theirs",
            lambda facts: not facts.their_lines,
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
            lambda facts: f"{facts.before}, meanwhile {facts.meanwhile}, then {facts.after}",
            lambda facts: facts.after == facts.before,
            needs=PROC,
            rule="L7",
        ),
        claim_about_a_line("their names are free again", "again", "* hello client-0"),
    ),
)
