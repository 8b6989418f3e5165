"""A server that was written from PROTOCOL.md alone, in Perl; on demand with a classic mistake.

It shows that the suite asks for what the protocol says, not for what four Python servers happen to
do. Perl is there on every Debian and on macOS, and the server needs no module that does not come
with it.

    perl tests/other_language/chat_server.pl --profile chat --port 8005 --bug left-twice

The classic mistakes are in the bug zoo (tests/zoo), as diffs against the four, and the small.py of
each version breaks further rules. Here are those that are in neither: no bug of the zoo breaks C6,
D2, D3, L1 or L5. Of these rules, small.py keeps D2 and D3; it lacks the option that L1 is about;
it has no /work at all, where a server may claim work that it has not done (C6); and at the end of
input it takes half a line for one, but sends all answers (L5).
"""

import os
import shlex
import shutil
from pathlib import Path

CHAT_SERVER = Path(__file__).with_name("chat_server.pl")

# The mistakes that `--bug` plants in the chat profile, and the rule that each breaks.
BUGS = {
    "work-is-skipped": "C6",
    "echo-to-sender": "D2",
    "left-twice": "D3",
    "no-idle-timeout": "L1",
    "half-close-closes": "L5",
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
