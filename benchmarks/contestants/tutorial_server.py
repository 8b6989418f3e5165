#!/usr/bin/env python3
"""The chat server that most tutorials write: a coroutine per client, awaiting each peer's drain().

It is here as a contestant, to show what the outboxes of v3_broadcast and v4_asyncio buy. It speaks
the whole protocol as simply as can be. It leaves out outboxes, the hold, every limit and timeout,
and the good-bye. So one client that does not read stops everybody who speaks, for as long as it
likes. Lines that two clients say at the same time may reach two readers in different orders. And
`/work` stops the loop.
"""

import argparse
import asyncio
import contextlib
import re
import time
import unicodedata

NAME = "tutorial"

# By casefolded name.
members: dict[str, tuple[str, asyncio.StreamWriter]] = {}


async def send(writer: asyncio.StreamWriter, line: str) -> None:
    """Send one line, and wait until its reader has room for more."""
    # If the client has gone, its own coroutine finds out.
    with contextlib.suppress(ConnectionError):
        writer.write(line.encode() + b"\n")
        await writer.drain()


async def broadcast(sender: str, line: str) -> None:
    """Send a line to everybody else, one after the other."""
    for name, writer in list(members.values()):
        if name != sender:
            await send(writer, line)


async def choose_name(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Ask for a name until it can be had; "" at the end of input."""
    await send(writer, f"* {NAME}: enter your name")
    while (data := await reader.readline()).endswith(b"\n"):
        name = data.decode(errors="replace").strip()
        if re.fullmatch(r"[A-Z]+ .* HTTP/[0-9.]+|[Hh]ost:.*", name):
            await send(writer, "! this is not a web server")
            return ""
        number = 1
        while not name and f"guest{number}" in members:
            number += 1
        name = name or f"guest{number}"
        if not re.fullmatch(r"[\w-]{1,20}", name):
            await send(writer, "! invalid name (1-20 letters, digits, _ or -)")
        elif name.casefold() in members:
            await send(writer, f"! name {name} is taken")
        else:
            members[name.casefold()] = (name, writer)
            return name
    return ""


async def answer(name: str, writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Do what one line says; whether the client stays."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        await send(writer, "! not valid UTF-8")
        return True
    command, _, argument = text.partition(" ")
    if len(data.rstrip(b"\r\n")) > 1024:
        await send(writer, "! line too long (limit 1024 bytes)")
    elif any(unicodedata.category(letter) == "Cc" for letter in text.replace("\t", "")):
        await send(writer, "! control characters are not allowed")
    elif not text:
        pass
    elif not text.startswith("/"):
        await broadcast(name, f"{name}: {text}")
    elif command == "/ping":
        await send(writer, f"* pong {argument}".rstrip())
    elif command == "/list":
        names = ", ".join(members[key][0] for key in sorted(members))
        await send(writer, f"* {len(members)} online: {names}")
    elif command == "/help":
        await send(writer, "* commands: /help /list /ping [TEXT] /pm NAME TEXT /work MS /quit")
    elif command == "/work":
        if re.fullmatch("[1-9][0-9]{0,2}|1000", argument):
            end = time.thread_time() + int(argument) / 1000
            while time.thread_time() < end:
                pass
            await send(writer, f"* worked {argument} ms")
        else:
            await send(writer, "! usage: /work MS (1-1000)")
    elif command == "/pm":
        wanted, _, private = argument.partition(" ")
        if not private:
            await send(writer, "! usage: /pm NAME TEXT")
        elif wanted.casefold() in members:
            await send(members[wanted.casefold()][1], f"@{name}: {private}")
        else:
            await send(writer, f"! no such user: {wanted}")
    elif command == "/quit":
        await send(writer, f"* bye {name}")
        return False
    else:
        await send(writer, f"! unknown command: {command} (try /help)")
    return True


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client from its greeting to its end."""
    name = ""
    # A reset, or a line longer than the reader's 64 KiB: the end of this client.
    with contextlib.suppress(ConnectionError, ValueError):
        name = await choose_name(reader, writer)
        if name:
            await send(writer, f"* hello {name}")
            await broadcast(name, f"* {name} joined")
            # Bytes after the last line ending are no line.
            while (data := await reader.readline()).endswith(b"\n"):
                if not await answer(name, writer, data):
                    break
    if name:
        del members[name.casefold()]
        await broadcast(name, f"* {name} left")
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8005)
    options = parser.parse_args()
    server = await asyncio.start_server(serve_client, options.host, options.port)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"{NAME} listening on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
