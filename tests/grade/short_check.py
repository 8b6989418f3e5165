"""The short check alone, in a process of its own: does the server start, and get anybody in?"""

import argparse
import dataclasses
import json
from pathlib import Path

from harness.conformance import first_fault
from harness.launcher import LaunchError, launch


def main() -> None:
    """Write {"preflight": null, a fault, or {"error": one line}}."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.grade.short_check", description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--profile", choices=("echo", "chat"), required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    command = arguments.server.replace("{options}", "")
    try:
        with launch("server", command, profile=arguments.profile) as server:
            fault = first_fault(server)
        found = fault and dataclasses.asdict(fault)
    except LaunchError as error:
        found = {"error": str(error)}
    arguments.json.write_text(json.dumps({"preflight": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
