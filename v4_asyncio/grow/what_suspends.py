"""Step 3: which await lets others run."""

import asyncio


async def nothing():
    pass


async def one_round():
    await asyncio.sleep(0)


async def count(name, between):
    for number in (1, 2, 3):
        print(name, number, end="  ")
        await between()


async def main():
    await asyncio.gather(count("ann", nothing), count("ben", nothing))
    print()
    await asyncio.gather(count("ann", one_round), count("ben", one_round))
    print()


asyncio.run(main())
