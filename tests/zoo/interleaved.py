"""Start a server of ours whose threads meet at the worst moment: `interleaved.py SERVER OPTION...`

A thread that has found a name free waits until another one has found a name free as well. If a
lock lets only one thread at a time look for a name, no other comes. Then the first goes on after
half a second.
"""

import contextlib
import sys
import threading
import types
from pathlib import Path

WAIT_SECONDS = 0.5


def main() -> None:
    """Load the server, put the wait behind its choose_name(), and run it."""
    del sys.argv[0]
    server = types.ModuleType("server")
    program = Path(sys.argv[0])
    exec(compile(program.read_text(encoding="utf-8"), program, "exec"), server.__dict__)
    choose_name = server.choose_name
    meeting = threading.Barrier(2)

    def choose_name_and_wait(wanted: str, members: dict) -> str:
        name = choose_name(wanted, members)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(WAIT_SECONDS)
        return name

    server.choose_name = choose_name_and_wait
    server.main()


if __name__ == "__main__":
    main()
