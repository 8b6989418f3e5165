"""Become another program, with limits: `python3 limited.py --folder DIR ... -- COMMAND`.

It stands before the command of a server that is graded. It lowers what the program may use, goes to
the folder in which it is to run, leaves little of the environment, and then becomes the program
(exec), so that process number and signals are the server's own. It is run as a file, in isolated
mode and without site packages: an import of ours would be slower than the server's own start.
"""

import argparse
import contextlib
import os
import resource
import signal
import sys

# What a program may need to start at all; the rest is the grader's business.
KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "JAVA_HOME", "LD_LIBRARY_PATH")
CANNOT_RUN = 127


def main() -> None:
    """Set the limits and become the program; status 127 and one line if it cannot be run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--limit", action="append", default=[], help="RLIMIT_...=NUMBER")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    for limit in arguments.limit:
        name, _, number = limit.partition("=")
        lower(name, int(number))
    command = arguments.command
    # Python ignores this signal, and a program in another language would inherit that. Then a
    # broken pipe could not end it, and a classic bug would not be seen (L6).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.chdir(arguments.folder)
        os.execvpe(command[0], command, environment(arguments.folder, arguments.mark))
    except OSError as error:
        print(f"cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
    sys.exit(CANNOT_RUN)


def lower(name: str, number: int) -> None:
    """Lower a limit, never raise it: a test may have set a smaller one."""
    kind = getattr(resource, name)
    limits = [limit for limit in resource.getrlimit(kind) if limit != resource.RLIM_INFINITY]
    number = min([number, *limits])
    # macOS knows some of these and refuses to set them.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (number, number))


def environment(folder: str, mark: str) -> dict[str, str]:
    """What the program sees: its folder as HOME and for temporary files, and our mark."""
    name, _, value = mark.partition("=")
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    return {**kept, "HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1", name: value}


if __name__ == "__main__":
    main()
