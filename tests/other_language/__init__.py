"""A server that was written from PROTOCOL.md alone, in Perl; on demand with a classic mistake.

It shows that the suite asks for what the protocol says, not for what four Python servers happen to
do, and that it finds the rule that a mistake breaks. Perl is there on every Debian and on macOS,
and the server needs no module that does not come with it.

    perl tests/other_language/chat_server.pl --profile chat --port 8005 --bug left-twice
"""

import os
import shlex
import shutil
from pathlib import Path

CHAT_SERVER = Path(__file__).with_name("chat_server.pl")

# The mistakes that `--bug` plants, and the rule that each breaks. In the chat profile; all but
# echo-to-sender and left-twice, which are about a room, in the echo profile as well.
BUGS = {
    # Handshake.
    "names-with-case": "H2",
    "name-stays-taken": "H5",
    # Framing.
    "one-read-is-one-line": "F5",
    "split-utf8": "F5",
    "short-send": "F5",
    "rest-is-a-line": "F3",
    "endless-line": "F2",
    # Commands.
    "work-is-skipped": "C6",
    # Delivery.
    "echo-to-sender": "D2",
    "left-twice": "D3",
    # Limits.
    "dies-on-reset": "L6",
    "no-stall-limit": "L3",
    "no-turns": "F7",
    "no-idle-timeout": "L1",
    "places-leak": "L2",
    # Life cycle.
    "half-close-closes": "L5",
    "quit-resets": "C4",
    "spin-at-end": "L7",
    "no-sigterm": "L4",
}


def why_it_cannot_run() -> str | None:
    """What this system lacks for the server, in one line; None if nothing."""
    if os.name != "posix":
        return "the server in Perl is for POSIX systems"
    return None if shutil.which("perl") else "there is no perl"


def chat_server_command(profile: str, bug: str | None = None) -> str:
    """A command line for `--server`, with {port} and {options} in it; `bug` is one of BUGS."""
    planted = [] if bug is None else ["--bug", bug]
    command = shlex.join(["perl", str(CHAT_SERVER), "--profile", profile, *planted])
    return f"{command} --port {{port}} {{options}}"
