"""Step 2: await a coroutine, or start a task."""

import asyncio


async def greet(name):
    print("hello", name)
    await asyncio.sleep(0.1)
    print("bye", name)
    return len(name)


async def main():
    await greet("ann")
    await greet("ben")
    print("and now as tasks")
    first = asyncio.create_task(greet("ann"))
    second = asyncio.create_task(greet("ben"))
    await first
    await second


asyncio.run(main())
