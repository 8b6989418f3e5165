"""The log of a server whose disk is full."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.joining import joined
from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest
from harness.session import Session
from harness.system import Unavailable
from tests.limits import observing
from tests.limits.claims import SOMEBODYS, Claim, Facts, Limit
from tests.limits.ways import files_of_at_most, standard_error_is

FULL_DEVICE = "/dev/full"
LARGEST_LOG = 4096
# With this, Python would buffer nothing. That hides what a buffer does when it cannot be emptied.
UNBUFFERED = "PYTHONUNBUFFERED"
# With --verbose each is a line of the log. Together they are more than three times that size.
LINES = 300


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Let a server log to a full disk from the start, and let another one's disk become full."""
    if not os.path.exists(FULL_DEVICE):
        raise Unavailable(f"this system has no {FULL_DEVICE}, or no RLIMIT_FSIZE")
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        prepare = standard_error_is(FULL_DEVICE, 0)
        with _talkative(server, session, prepare) as running:
            _log_to_a_full_device(running, facts)
        log = Path(folder, "log")
        append = standard_error_is(str(log), os.O_CREAT | os.O_APPEND)

        def append_a_little() -> None:
            append()
            files_of_at_most(LARGEST_LOG)

        with _talkative(server, session, append_a_little) as running:
            _log_to_a_file_that_is_full(running, facts, log)


def _talkative(
    server: ServerUnderTest, session: Session, prepare: Callable[[], None]
) -> contextlib.AbstractContextManager[RunningServer]:
    """A server that logs every line, in a process that has been prepared."""
    environment = {name: value for name, value in os.environ.items() if name != UNBUFFERED}
    return server.running("--verbose", session=session, preexec_fn=prepare, env=environment)


def _log_to_a_full_device(server: RunningServer, facts: Facts) -> None:
    with joined(server, "alice", "bob") as (alice, bob):
        facts.delivered = _talk(alice, bob, server.profile)
        observing.ask_for_work(alice, facts)
        observing.watch_the_processor(ProcessView(server.pid), alice, facts)
    facts.status_full = server.stop()


def _log_to_a_file_that_is_full(server: RunningServer, facts: Facts, log: Path) -> None:
    with joined(server, "alice", "bob") as (alice, bob):
        facts.delivered_later = _talk(alice, bob, server.profile)
        facts.log_size = log.stat().st_size
        os.truncate(log, 0)
        alice.ask("after all")
        lines = log.read_text(errors="replace").splitlines()
        facts.log_afterwards = list(map(observing.without_stamp, lines))
    facts.status = server.stop()
    facts.tracebacks = log.read_text(errors="replace").count("Traceback")


def _talk(alice: LineClient, bob: LineClient, profile: str) -> int:
    """How many of alice's lines reach the client that they are meant for."""
    lines = [f"{number} and so on" for number in range(LINES)]
    alice.send_bytes("".join(f"{line}\n" for line in lines).encode())
    heard_by_alice = alice.ping()
    heard = heard_by_alice if profile == "echo" else bob.ping()
    pairs = zip(lines, heard, strict=False)
    return sum(f"alice: {line}" == line_heard for line, line_heard in pairs)


LIMIT = Limit(
    "disk",
    "no room for the log",
    lambda: (
        f"Standard error is {FULL_DEVICE}: each write() fails, with ENOSPC. alice says {LINES} "
        "lines, and with --verbose each is a line of the log. On a second server the log is a file "
        f"that may not grow beyond {LARGEST_LOG} bytes (RLIMIT_FSIZE by resource.setrlimit): "
        "write() takes a part of a line, then fails, with EFBIG. Then the file is emptied, as when "
        "a log is rotated."
    ),
    run,
    (
        Claim(
            "every line is delivered",
            lambda facts: f"{facts.delivered} of {LINES}",
            lambda facts: facts.delivered == LINES,
        ),
        observing.claim_about_work("alice's `/work 5` is computed"),
        observing.NO_SPINNING,
        Claim(
            "stops: status 0, in spite of it",
            lambda facts: f"status {facts.status_full}",
            lambda facts: facts.status_full == 0,
        ),
        Claim(
            "the file fills up, every line is delivered",
            lambda facts: f"{facts.log_size} bytes; {facts.delivered_later} of {LINES}",
            lambda facts: (facts.log_size, facts.delivered_later) == (LARGEST_LOG, LINES),
            of=VERSIONS,
        ),
        Claim(
            "every line is delivered, whatever is logged",
            lambda facts: f"{facts.log_size} bytes; {facts.delivered_later} of {LINES}",
            lambda facts: facts.delivered_later == LINES,
            of=(SOMEBODYS,),
        ),
        Claim(
            "emptied, the log goes on with the next line, a whole one",
            lambda facts: f"`{next(iter(facts.log_afterwards), 'nothing')}`",
            lambda facts: facts.log_afterwards == ["DEBUG alice: after all"],
            of=VERSIONS,
        ),
    ),
)
