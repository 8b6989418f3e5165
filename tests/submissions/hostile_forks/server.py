"""A hostile submission: a hundred children, each in a session of its own, that outlive it."""

import os
import runpy
import signal
import time

for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(300)
        os._exit(0)
runpy.run_path("chat.py", run_name="__main__")
