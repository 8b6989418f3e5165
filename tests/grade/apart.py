"""Grade one of many in a process of its own, so that a submission that kills it harms no other.

`python3 -m tests.grade.apart` reads a pickled (Submission, Order) and writes a pickled Grade.
"""

import os
import pickle
import subprocess
import sys
import tempfile

from harness import proc
from harness.command_line import signals_as_interrupts
from harness.launcher import REPOSITORY, end_process, how_it_ended, start_process
from tests.grade.containment import Containment, adopt_orphans
from tests.grade.grading import Grade, Order, Submission, grade, not_graded


def grade_apart(submission: Submission, order: Order) -> Grade:
    """Grade a submission in another process; if that is killed, the grade says so.

    This process must have no other children: what the other one leaves behind is ended.
    """
    with tempfile.TemporaryDirectory(prefix="apart-", ignore_cleanup_errors=True) as folder:
        adopt_orphans()
        with start_process(
            [sys.executable, "-m", "tests.grade.apart"],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                output, _ = process.communicate(pickle.dumps((submission, order)))
            finally:
                status = end_process(process)
                if proc.CAN_SEE:
                    Containment(order.limits).sweep()
    if status:
        return not_graded(submission, order, f"what graded it {how_it_ended(status)}")
    return pickle.loads(output)


def main() -> None:
    """Grade what standard input names; the grade goes to standard output."""
    submission, order = pickle.load(sys.stdin.buffer)
    with signals_as_interrupts():
        try:
            result = grade(submission, order)
        except KeyboardInterrupt:
            sys.exit(1)
    pickle.dump(result, sys.stdout.buffer)


if __name__ == "__main__":
    main()
