"""Who runs at an await? `python3 -m v4_asyncio.experiments.taking_turns`"""

import asyncio


async def count(name: str) -> None:
    for number in (1, 2, 3):
        print(f"{name} {number}", end="  ")
        await asyncio.sleep(0)


async def count_without_await(name: str) -> None:
    for number in (1, 2, 3):
        print(f"{name} {number}", end="  ")


async def main() -> None:
    await asyncio.gather(count("ann"), count("ben"))
    print()
    await asyncio.gather(count_without_await("ann"), count_without_await("ben"))
    print()


asyncio.run(main())
