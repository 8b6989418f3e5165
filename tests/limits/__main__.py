"""Command line of the limits; see `python3 -m tests.limits --help`."""

import collections
import sys
from collections.abc import Iterable

from harness import command_line
from harness.command_line import OptionParser
from harness.conformance import NotConforming, first_fault
from harness.launcher import PROFILES, VERSIONS, LaunchError
from harness.server_under_test import OPTIONS, PORT, CommandError, ServerUnderTest
from harness.session import Session
from tests.limits import table
from tests.limits.catalogue import LIMITS
from tests.limits.claims import SOMEBODYS, Limit, Row, Verdict, examine

TOOL = "tests.limits"


def main(arguments: list[str]) -> int:
    """Run the limits that are asked for; 0 if all predictions held, 1 if not."""
    return command_line.run(TOOL, lambda: _run(arguments), (LaunchError, NotConforming))


def _run(arguments: list[str]) -> int:
    limits, servers = _choice(arguments)
    for server in servers:
        _check_conformance(server)
    session = Session()
    waits_in_vain: collections.Counter[str] = collections.Counter()
    rows: list[Row] = []
    for limit in limits:
        print(table.introduction(limit), flush=True)
        rows_of_limit: list[Row] = []
        for server in servers:
            # A server that makes us wait in vain is not given the whole time at each further step.
            session.begin_test(waits_in_vain[server.name], server.is_ours, for_seconds=True)
            rows_of_limit += examine(limit, server, session)
            waits_in_vain[server.name] += session.in_vain
        print(table.table(rows_of_limit), end="\n\n", flush=True)
        rows += rows_of_limit
    return _summary(rows)


def _choice(arguments: list[str]) -> tuple[list[Limit], list[ServerUnderTest]]:
    """The limits and the servers that the options name; a mistake ends the program."""
    parser = OptionParser(
        TOOL,
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
        return limits, [ServerUnderTest.ours(version) for version in versions]
    if options.versions:
        parser.error("--versions and --server: one or the other")
    if options.profile is None:
        parser.error("--server needs --profile echo or --profile chat beside it")
    server = ServerUnderTest(SOMEBODYS, options.profile, options.server)
    try:
        server.require(PORT, OPTIONS)
    except CommandError as error:
        parser.error(f"--server: {error}")
    return limits, [server]


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


def _check_conformance(server: ServerUnderTest) -> None:
    """Raise LaunchError or NotConforming for a server from which nothing could be learnt.

    Ours are known to keep the protocol.
    """
    if server.is_ours:
        return
    with server.start() as running:
        fault = first_fault(running)
    if fault:
        raise NotConforming(fault)


def _summary(rows: list[Row]) -> int:
    """Say how many predictions held; returns the exit status."""
    number_of = collections.Counter(row.verdict for row in rows)
    held, broken = number_of[Verdict.HELD], number_of[Verdict.BROKEN]
    sentence = f"{held} of {held + broken} predictions held."
    if number_of[Verdict.UNSEEN]:
        sentence += f" {number_of[Verdict.UNSEEN]} could not be tried here."
    print(sentence)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
