#!/usr/bin/env python3
"""One of two tasks fails: who notices, and what becomes of the other one?"""

import asyncio


async def fail() -> None:
    raise ValueError("the file is not there")


async def serve(log: list[str]) -> None:
    try:
        await asyncio.sleep(0.2)
        log.append("the other one went on to its end")
    except asyncio.CancelledError:
        log.append("the other one was cancelled, and was waited for")
        raise


async def with_create_task() -> None:
    log: list[str] = []
    failing, serving = asyncio.create_task(fail()), asyncio.create_task(serve(log))
    await serving
    print(f"create_task(): {log[0]}; nobody has asked how the first one ended")
    # Ask now. Otherwise asyncio would complain when the task is thrown away.
    failing.exception()


async def with_a_group() -> None:
    log: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(serve(log))
    except* ValueError as failures:
        print(f"TaskGroup: {log[0]}; the parent gets {failures.exceptions[0]!r}")


async def main() -> None:
    await with_create_task()
    await with_a_group()


if __name__ == "__main__":
    asyncio.run(main())
