"""A hostile submission: it prints without end on both of its outputs, and serves meanwhile."""

import os
import runpy
import threading

NOISE = b"noise " * 10_000 + b"\n"


def print_for_ever(descriptor: int) -> None:
    """Write until the process ends; what cannot be written is no reason to stop."""
    while True:
        try:
            os.write(descriptor, NOISE)
        except OSError:
            continue


for descriptor in (1, 2):
    threading.Thread(target=print_for_ever, args=[descriptor], daemon=True).start()
runpy.run_path("chat.py", run_name="__main__")
