"""The short check alone, in a process of its own: does the server start, and get anybody in?"""

import argparse
import dataclasses
import json
import subprocess
from pathlib import Path

from harness.conformance import ANSWER_SECONDS, first_fault
from harness.launcher import LaunchError, RunningServer, how_it_ended, last_words, launch
from harness.line_client import LineClient

# A connection that breaks is seen a moment before the process is gone that broke it.
GONE_SECONDS = 0.3
LINES = 8  # of its last words


def main() -> None:
    """Write {"preflight": null, a fault, or {"error": one line}}.

    A fault of the greeting also says whether the first of all clients is greeted, for then there is
    more to be tested.
    """
    parser = argparse.ArgumentParser(prog="python3 -m tests.grade.short_check", description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--profile", choices=("echo", "chat"), required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    command = arguments.server.replace("{options}", "")
    try:
        with launch("server", command, profile=arguments.profile) as server:
            fault = first_fault(server)
            found = fault and {**dataclasses.asdict(fault), "server": end_of(server)}
        if found and found["rule"] == "H1":
            with launch("server", command, profile=arguments.profile) as server:
                found["greets_the_first"] = greets(server)
    except LaunchError as error:
        found = {"error": str(error)}
    arguments.json.write_text(json.dumps({"preflight": found}), encoding="utf-8")


def greets(server: RunningServer) -> bool:
    """Whether the first client of a new server is greeted as H1 wants it."""
    try:
        with LineClient(server.address, ANSWER_SECONDS) as client:
            return client.read_line().endswith(": enter your name")
    # It says nothing, no text, or ends at once; or takes no connection.
    except (AssertionError, EOFError, OSError):
        return False


def end_of(server: RunningServer) -> str:
    """How the server has ended, and its last words; empty while it is there."""
    try:
        status = server.process.wait(timeout=GONE_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    words = " / ".join(last_words(server.log_path, LINES))
    return f"the server {how_it_ended(status)}" + (f"; its last words: {words}" if words else "")


if __name__ == "__main__":
    main()
