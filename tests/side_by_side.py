"""The whole suite as two runs of pytest at the same time: `python3 -m tests.side_by_side`.

Most tests wait: for a timeout that is tested, or for a process that starts. So two runs beside each
other take little more than half of the time of one. One has the servers and the client, the other
the tools and the benchmarks. Further arguments go to both; the second run's output follows the
first's.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NO_TESTS = 5  # pytest's exit status when the arguments select none in one of the two

# Of tools, of documents and of the measurements. Whatever is not named here is of the servers.
OF_TOOLS = (
    "benchmarks_*",
    "caught_in_the_zoo",
    "chapters",
    "grade",
    "other_language",
    "own_server",
    "tasks",
    "zoo",
)


def main() -> int:
    """Run both; the exit status is 0 if both were green, else that of a red one."""
    tools = sorted({path for name in OF_TOOLS for path in HERE.glob(f"test_{name}.py")})
    servers = sorted(set(HERE.glob("test_*.py")) - set(tools))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]]
    with tempfile.TemporaryFile() as later:
        second = subprocess.Popen(
            [*command, *map(str, tools)], stdout=later, stderr=subprocess.STDOUT
        )
        try:
            statuses = [subprocess.run([*command, *map(str, servers)], check=False).returncode]
            statuses.append(second.wait())
        # Ctrl-C reaches both; each ends with its results so far.
        except KeyboardInterrupt:
            statuses = [second.wait()]
        finally:
            if second.poll() is None:
                second.terminate()
                second.wait()
        later.seek(0)
        print(later.read().decode(errors="replace"), flush=True)
    red = [status for status in statuses if status not in (0, NO_TESTS)]
    return red[0] if red else min(statuses)


if __name__ == "__main__":
    sys.exit(main())
