"""The whole suite as three runs of pytest at the same time: `python3 -m tests.side_by_side`.

Most tests wait: for a timeout that is tested, or for a process that starts. So three runs beside
each other take little more than a third of the time of one: the protocol and the documents, the
tools, the benchmarks. Further arguments go to all; the output of the second and the third follows
that of the first.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = (("suite", "documents"), ("tools",), ("benchmarks",))
# pytest's exit status when the arguments select no test in one of them.
NO_TESTS = 5


def main() -> int:
    """Run all; the exit status is 0 if all were green, else that of a red one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]]
    first, *others = ([*command, *(str(HERE / name) for name in run)] for run in RUNS)
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in others]
        beside = [
            subprocess.Popen(other, stdout=output, stderr=subprocess.STDOUT)
            for other, output in zip(others, outputs, strict=True)
        ]
        try:
            statuses = [subprocess.run(first, check=False).returncode]
            statuses += [process.wait() for process in beside]
        # Ctrl-C reaches all; each ends with its results so far.
        except KeyboardInterrupt:
            statuses = [process.wait() for process in beside]
        finally:
            for process in beside:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        for output in outputs:
            output.seek(0)
            print(output.read().decode(errors="replace"), flush=True)
    red = [status for status in statuses if status not in (0, NO_TESTS)]
    return red[0] if red else min(statuses)


if __name__ == "__main__":
    sys.exit(main())
