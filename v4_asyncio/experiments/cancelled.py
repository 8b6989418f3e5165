"""When does cancel() take effect? `python3 -m v4_asyncio.experiments.cancelled`

Each of five coroutines has something to do for 0.4 seconds. After 0.1 seconds another coroutine
wants to cancel it. The table has the moment at which that one can call cancel(), and the moment at
which the task has ended.
"""

import asyncio
import time
from collections.abc import Callable

SECONDS = 0.4
CANCEL_AFTER = 0.1


def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def compute_and_say_so() -> None:
    start = time.monotonic()
    compute(SECONDS)
    print(f"the thread ended       {time.monotonic() - start:23.2f} s")


async def sleeps() -> None:
    await asyncio.sleep(SECONDS)


async def computes() -> None:
    compute(SECONDS)


async def computes_in_steps() -> None:
    for _ in range(8):
        compute(SECONDS / 8)
        await asyncio.sleep(0)


async def computes_in_a_thread() -> None:
    await asyncio.get_running_loop().run_in_executor(None, compute_and_say_so)


async def says_a_last_word() -> None:
    try:
        await asyncio.sleep(SECONDS)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)


async def watch(coroutine: Callable) -> None:
    """Run a coroutine, cancel it, and print a row about it."""
    start = time.monotonic()
    task = asyncio.create_task(coroutine())
    await asyncio.sleep(CANCEL_AFTER)
    called = time.monotonic() - start
    task.cancel()
    await asyncio.wait([task])
    ended = time.monotonic() - start
    how = "cancelled" if task.cancelled() else "returned"
    name = coroutine.__name__.replace("_", " ")
    print(f"{name:22} {called:13.2f} s {ended:9.2f} s   {how}")


async def main() -> None:
    print("the coroutine          cancel() called   task ended  how")
    for coroutine in (sleeps, computes, computes_in_steps, says_a_last_word, computes_in_a_thread):
        await watch(coroutine)


if __name__ == "__main__":
    asyncio.run(main())
