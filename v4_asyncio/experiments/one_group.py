"""One client's error in a server with a task group: `python3 -m v4_asyncio.experiments.one_group`

Two small servers add up numbers. In both of them each client's task belongs to one group. In the
first an error leaves the task, in the second the task catches its own. bob sends what is no number,
and then alice asks. It takes a moment, and prints one line for each.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def add_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    total = 0
    while line := await reader.readline():
        total += int(line)
        writer.write(b"%d\n" % total)


async def add_up_and_catch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await add_up(reader, writer)
    # This client said something wrong. That is no reason to end the others.
    except ValueError:
        writer.write(b"that is no number\n")


async def serve(listener: socket.socket, serve_client: Serve) -> None:
    """Accept for ever. The block ends when a task fails, and not before all tasks have ended."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as clients:
        while True:
            connection, _ = await loop.sock_accept(listener)
            clients.create_task(serve_and_close(connection, serve_client))


async def serve_and_close(connection: socket.socket, serve_client: Serve) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        await serve_client(reader, writer)
    finally:
        writer.close()


async def try_server(serve_client: Serve) -> str:
    """Let bob fail beside alice; returns what she gets, and what has become of the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(serve(listener, serve_client))
        alice = await asyncio.open_connection(*listener.getsockname())
        bob = await asyncio.open_connection(*listener.getsockname())
        assert await ask(alice, b"1\n") == "1"
        told = await ask(bob, b"two\n")
        answer = await ask(alice, b"3\n")
        for _, writer in (alice, bob):
            writer.close()
        serving.cancel()
        (ended,) = await asyncio.gather(serving, return_exceptions=True)
    state = "the server goes on"
    if isinstance(ended, BaseExceptionGroup):
        state = f"the server has ended: {ended.exceptions[0]!r}"
    return f"bob gets {told!r}; alice gets {answer!r}; {state}"


async def ask(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: bytes) -> str:
    """Send a line; returns the answer, "" if the connection is closed in place of one."""
    reader, writer = client
    writer.write(line)
    try:
        async with asyncio.timeout(5):
            return (await reader.readline()).decode().strip()
    # The server may have closed it before the line came.
    except ConnectionError:
        return ""


async def main() -> None:
    print("uncaught:", await try_server(add_up))
    print("caught:  ", await try_server(add_up_and_catch))


if __name__ == "__main__":
    asyncio.run(main())
