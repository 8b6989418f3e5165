"""Step 1: a coroutine function, and the coroutine that it makes."""

import asyncio


async def greet(name):
    print("hello", name)
    await asyncio.sleep(0.1)
    print("bye", name)
    return len(name)


async def main():
    coroutine = greet("ann")
    print("called: it is a", type(coroutine).__name__)
    print("awaited: it returned", await coroutine)


asyncio.run(main())
