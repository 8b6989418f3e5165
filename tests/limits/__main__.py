"""Command line of the limits; see `python3 -m tests.limits --help`."""

import argparse
import collections
import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn

from harness.conformance import NotConforming, first_fault
from harness.launcher import PROFILES, VERSIONS, LaunchError
from harness.patience import patience
from tests.limits import LIMITS, table
from tests.limits.claims import BROKEN, HELD, UNSEEN, Limit, Row, examine
from tests.limits.subject import SOMEBODYS, Subject

COMMAND = "tests.limits"


class OptionParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{COMMAND}: {message} (try --help)\n")


def main(arguments: list[str]) -> int:
    """Run the limits that are asked for; 0 if all predictions held, 1 if not."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    # A shell that starts us in its background ignores Ctrl-C for us, and we would pass that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        limits, subjects = _choice(arguments)
        for subject in subjects:
            _check_conformance(subject)
        waits_in_vain = collections.Counter()
        return _summary(
            [row for limit in limits for row in _examine_all(limit, subjects, waits_in_vain)]
        )
    except KeyboardInterrupt:
        print(f"{COMMAND}: interrupted", file=sys.stderr)
        return 130
    # The reader of our output (`| head`) has seen enough.
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LaunchError, NotConforming) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 1
    # A full or unwritable /tmp, no more processes, and the like.
    except OSError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 1


def _as_interrupt(signal_number: int, frame: object) -> None:
    """SIGTERM takes the way of Ctrl-C, on which every process we started is ended."""
    raise KeyboardInterrupt


def _choice(arguments: list[str]) -> tuple[list[Limit], list[Subject]]:
    """The limits and the servers that the options name; a mistake ends the program."""
    parser = OptionParser(
        prog="python3 -m tests.limits",
        description="Bring each version to the limits of its system, without root: what it is "
        "predicted to do, and what it does.",
        epilog="limits: " + "; ".join(f"{limit.name} ({limit.title})" for limit in LIMITS.values()),
    )
    parser.add_argument("--only", metavar="NAME,...", help="these limits (default: all)")
    parser.add_argument("--versions", metavar="LIST", help="such as v1,v4 (default: all four)")
    parser.add_argument(
        "--server",
        metavar="CMD",
        help="a server of your own instead: 'python3 mine.py --port {port} {options}'",
    )
    parser.add_argument("--profile", choices=sorted(set(PROFILES.values())), help="of --server")
    options = parser.parse_args(arguments)
    limits = [LIMITS[name] for name in _named(parser, "limit", options.only, LIMITS)]
    if options.server is None:
        if options.profile:
            parser.error("--profile goes with --server; our versions have their own")
        versions = _named(parser, "version", options.versions, VERSIONS)
        return limits, [Subject.version(name) for name in versions]
    if options.versions:
        parser.error("--versions and --server: one or the other")
    if options.profile is None:
        parser.error("--server needs --profile echo or --profile chat beside it")
    try:
        subject = Subject(SOMEBODYS, options.profile, options.server)
    except ValueError as error:
        parser.error(f"--server: {error}")
    return limits, [subject]


def _named(parser: OptionParser, what: str, given: str | None, known: Iterable[str]) -> list[str]:
    """The names in a list with commas, all if there is none; `v1` stands for `v1_threads`."""
    if given is None:
        return list(known)
    names = {short: name for name in known for short in (name, table.short(name))}
    wanted = [name.strip() for name in given.split(",")]
    for name in wanted:
        if name not in names:
            parser.error(f"no {what} {name!r}; there are {', '.join(known)}")
    return [names[name] for name in wanted]


def _check_conformance(subject: Subject) -> None:
    """Raise LaunchError or NotConforming for a server that nothing could be learnt from.

    Ours are known to keep the protocol.
    """
    if subject.is_ours:
        return
    with subject.run() as server:
        fault = first_fault(server)
    if fault:
        raise NotConforming(fault)


def _examine_all(
    limit: Limit, subjects: list[Subject], waits_in_vain: collections.Counter[str]
) -> list[Row]:
    """Print a limit, then its table; returns the rows."""
    print(table.introduction(limit), flush=True)
    rows = []
    for subject in subjects:
        # One that lets us wait in vain is not given the whole time at each step.
        patience.begin(waits_in_vain[subject.name], subject.is_ours, for_seconds=True)
        rows += examine(limit, subject)
        waits_in_vain[subject.name] += patience.in_vain
    print(table.table(limit, rows), end="\n\n", flush=True)
    return rows


def _summary(rows: list[Row]) -> int:
    """Say how many predictions held; returns the exit status."""
    held, broken, unseen = (
        sum(row.verdict == verdict for row in rows) for verdict in (HELD, BROKEN, UNSEEN)
    )
    sentence = f"{held} of {held + broken} predictions held."
    if unseen:
        sentence += f" {unseen} could not be tried here."
    print(sentence)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
