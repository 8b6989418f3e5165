"""The whole suite as two runs of pytest at the same time: `python3 -m tests.side_by_side`.

Most tests wait: for a timeout that is tested, or for a process that starts. So two runs beside each
other take little more than half of the time of one. One has the protocol and the documents, the
other the tools and the benchmarks. Further arguments go to both; the second run's output follows
the first's.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRST, SECOND = ("suite", "documents"), ("tools", "benchmarks")
# pytest's exit status when the arguments select no test in one of the two.
NO_TESTS = 5


def main() -> int:
    """Run both; the exit status is 0 if both were green, else that of a red one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]]
    first, second = ([*command, *(str(HERE / name) for name in run)] for run in (FIRST, SECOND))
    with tempfile.TemporaryFile() as later:
        beside = subprocess.Popen(second, stdout=later, stderr=subprocess.STDOUT)
        try:
            statuses = [subprocess.run(first, check=False).returncode]
            statuses.append(beside.wait())
        # Ctrl-C reaches both; each ends with its results so far.
        except KeyboardInterrupt:
            statuses = [beside.wait()]
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
        later.seek(0)
        print(later.read().decode(errors="replace"), flush=True)
    red = [status for status in statuses if status not in (0, NO_TESTS)]
    return red[0] if red else min(statuses)


if __name__ == "__main__":
    sys.exit(main())
