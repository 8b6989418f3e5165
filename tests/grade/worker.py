"""Look at a server in a process of its own, which a submission may hang, confuse or kill.

`python3 -m tests.grade.worker short_check|model --server CMD --profile echo|chat --json FILE`
writes {"preflight": ...}, as a rule report has it, or {"evidence": [...]}.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from harness.conformance import ANSWER_SECONDS, first_fault
from harness.launcher import LaunchError, RunningServer
from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest
from tests.grade.model import look
from tests.grade.reading import NOTHING_WITHOUT, Preflight

# Lines of a server's last words that are kept.
LINES = 8


def check(server: ServerUnderTest) -> Preflight:
    """Whether the server starts and passes the short check.

    A fault of the greeting also says whether the first of all clients is greeted, because then
    there is more to be tested.
    """
    greets = None
    try:
        with server.start() as running:
            fault = first_fault(running)
            if fault is None:
                return Preflight()
            ending = running.ending(lines=LINES)
        if fault.rule == NOTHING_WITHOUT:
            with server.start() as running:
                greets = greets_the_first(running)
    except LaunchError as error:
        return Preflight(error=str(error))
    return Preflight(None, fault, ending.at_length() if ending else "", greets)


def greets_the_first(server: RunningServer) -> bool:
    """Whether the first client of a new server is greeted as H1 wants it."""
    try:
        with LineClient(server.address, ANSWER_SECONDS) as client:
            return client.read_line().endswith(": enter your name")
    # It says nothing, or no text, or ends at once; or takes no connection.
    except (AssertionError, EOFError, OSError):
        return False


# What a worker writes, by its name.
LOOKS = {
    "short_check": lambda server: {"preflight": check(server).as_json()},
    "model": lambda server: {"evidence": [asdict(each) for each in look(server)]},
}


def main() -> None:
    """Look at one server, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.grade.worker")
    parser.add_argument("look", choices=LOOKS)
    parser.add_argument("--server", required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    findings = LOOKS[arguments.look](ServerUnderTest("server", arguments.profile, arguments.server))
    arguments.json.write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main()
