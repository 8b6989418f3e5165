"""The log of a server whose disk is full."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.process_view import ProcessView
from tests.limits.claims import Claim, Facts, Limit, NotTried
from tests.limits.observing import NO_SPINNING, last_answer, watch_the_processor
from tests.limits.subject import SOMEBODYS, Subject
from tests.limits.ways import files_of_at_most, resource, standard_error_is

FULL_DEVICE = "/dev/full"
LARGEST_LOG = 4096
# With this, Python would buffer nothing, and hide what a buffer does when it cannot be emptied.
UNBUFFERED = "PYTHONUNBUFFERED"
# Each is a line of the log with --verbose, which together are more than three times that.
LINES = 300


def how() -> str:
    """How the limit is set."""
    return (
        f"Standard error is {FULL_DEVICE}: each write() fails, with ENOSPC. alice says {LINES} "
        "lines, and with --verbose each is a line of the log. On a second server the log is a file "
        f"that may not grow beyond {LARGEST_LOG} bytes (RLIMIT_FSIZE by resource.setrlimit): "
        "write() takes a part of a line, then fails, with EFBIG. Then the file is emptied, as when "
        "a log is rotated."
    )


def run(subject: Subject, facts: Facts) -> None:
    """Let a server log to a full disk from the start, and let another one's disk become full."""
    if resource is None or not os.path.exists(FULL_DEVICE):
        raise NotTried(f"this system has no {FULL_DEVICE}, or no RLIMIT_FSIZE")
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        _log_to_a_full_device(subject, facts)
        _log_to_a_file_that_is_full(subject, facts, Path(folder, "log"))


def _log_to_a_full_device(subject: Subject, facts: Facts) -> None:
    prepare = standard_error_is(FULL_DEVICE, 0)
    with subject.run("--verbose", preexec_fn=prepare, env=_environment()) as server:
        with _alice_and_bob(server) as (alice, bob):
            facts.delivered = _talk(alice, bob, server.profile)
            facts.answer = last_answer(alice, "/work 5")
            watch_the_processor(ProcessView(server.process.pid), alice, facts)
        facts.status_full = server.stop()


def _log_to_a_file_that_is_full(subject: Subject, facts: Facts, log: Path) -> None:
    append = standard_error_is(str(log), os.O_CREAT | os.O_APPEND)

    def prepare() -> None:
        append()
        files_of_at_most(LARGEST_LOG)

    with subject.run("--verbose", preexec_fn=prepare, env=_environment()) as server:
        with _alice_and_bob(server) as (alice, bob):
            facts.delivered_later = _talk(alice, bob, server.profile)
            facts.log_size = log.stat().st_size
            os.truncate(log, 0)
            alice.ask("after all")
            facts.log_afterwards = log.read_text(errors="replace").splitlines()
        facts.status = server.stop()
        facts.tracebacks = log.read_text(errors="replace").count("Traceback")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != UNBUFFERED}


@contextlib.contextmanager
def _alice_and_bob(server: RunningServer) -> Iterator[tuple[LineClient, LineClient]]:
    with LineClient(server.address) as alice, LineClient(server.address) as bob:
        alice.join("alice")
        bob.join("bob")
        # It may hear of bob; and what comes from here on is what she says.
        alice.ping()
        bob.ping()
        yield alice, bob


def _talk(alice: LineClient, bob: LineClient, profile: str) -> int:
    """How many of alice's lines come to whom they are for."""
    said = [f"{number} and so on" for number in range(LINES)]
    alice.send_bytes("".join(f"{line}\n" for line in said).encode())
    heard_by_alice = alice.ping()
    heard = heard_by_alice if profile == "echo" else bob.ping()
    return sum(f"alice: {line}" == came for line, came in zip(said, heard, strict=False))


LIMIT = Limit(
    "disk",
    "no room for the log",
    how,
    run,
    (
        Claim(
            "every line is delivered",
            lambda facts: f"{facts.delivered} of {LINES}",
            lambda facts: facts.delivered == LINES,
        ),
        Claim(
            "alice's `/work 5` is computed",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == "* worked 5 ms",
        ),
        NO_SPINNING,
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
            lambda facts: facts.log_afterwards == ["DEBUG:root:alice: after all"],
            of=VERSIONS,
        ),
    ),
)
