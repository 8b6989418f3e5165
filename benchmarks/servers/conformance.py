"""A short check that a server keeps the protocol, made before anything of it is measured.

It is no substitute for the test suite; it is there so that no number is ever printed for a server
that wins by leaving work out. Rule numbers are those of PROTOCOL.md.
"""

import contextlib
import socket
from collections.abc import Callable

from benchmarks.servers.launcher import RunningServer
from benchmarks.servers.line_client import LineClient

LINES = 500  # each of two clients says so many, and every one of them is counted


class NotConforming(Exception):
    """What rule was broken, and how; one line."""


def check(server: RunningServer, kind: str = "ours") -> str | None:
    """Why this server must not be measured, or None. A floor is asked only for what it promises."""
    delivery = check_chat if server.profile == "chat" else check_echo
    steps = [check_handshake, check_framing, check_refusals, delivery, check_end]
    if kind == "floor":
        steps = [check_framing, delivery, check_end]
    try:
        for step in steps:
            with contextlib.ExitStack() as clients:
                connect = _connector(server, clients)
                step(connect)
    except NotConforming as error:
        return str(error)
    except TimeoutError:
        return f"no answer in {step.__name__.replace('check_', '')}"
    except (OSError, EOFError) as error:
        return f"{step.__name__.replace('check_', '')}: {error}"
    return None


Connect = Callable[[str], LineClient]


def _connector(server: RunningServer, clients: contextlib.ExitStack) -> Connect:
    def connect(name: str) -> LineClient:
        """A new client; joined under `name`, unless that is empty."""
        client = LineClient(server.address)
        clients.callback(client.close)
        greeting = next(client.lines(), "")
        _expect("H1", greeting[:2] + greeting[-17:], "* : enter your name")
        if name:
            client.send(name)
            _expect("H3", client.until(f"* hello {name}"), [f"* hello {name}"])
        return client

    return connect


def _expect(rule: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise NotConforming(f"{rule}: got {_short(seen)} where {_short(wanted)} was expected")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def check_handshake(connect: Connect) -> None:
    """Names are asked for, taken, refused, and free again."""
    alice = connect("alice")
    other = connect("")
    other.send("ALICE")
    _expect("H4", next(other.lines(), ""), "! name ALICE is taken")
    other.send("no spaces please")
    _expect("H4", next(other.lines(), ""), "! invalid name (1-20 letters, digits, _ or -)")
    other.send("")
    _expect("H5", next(other.lines(), ""), "* hello guest1")
    alice.barrier()
    alice.send("/list")
    _expect("C2", next(alice.lines(), ""), "* 2 online: alice, guest1")
    alice.send("/nonsense")
    _expect("C5", next(alice.lines(), ""), "! unknown command: /nonsense (try /help)")
    alice.send("/quit")
    _expect("C4", list(alice.lines()), ["* bye alice"])
    connect("alice")


def check_framing(connect: Connect) -> None:
    """Any split and gluing of bytes, both line endings, and a line of full length."""
    client = connect("frank")  # no name of a client whose end may be news to the server
    for byte in "/ping ä\r\n".encode():
        client.send_bytes(bytes([byte]))
    _expect("F5", next(client.lines(), ""), "* pong ä")
    client.send_bytes(b"".join(b"/ping %d\n" % i for i in range(100)))
    _expect("F5", client.until("* pong 99"), [f"* pong {i}" for i in range(100)])
    longest = "/ping " + "z" * 1018
    client.send_bytes(longest.encode())
    connect("")  # its greeting says that the server was busy elsewhere meanwhile
    client.send_bytes(b"\n")
    _expect("F2", next(client.lines(), ""), "* pong " + longest[6:])


def check_end(connect: Connect) -> None:
    """`/quit` is answered, and so is all that was said before the input ended."""
    client = connect("heidi")
    client.send("/quit")
    _expect("C4", list(client.lines()), ["* bye heidi"])
    client = connect("ivan")
    client.send_bytes(b"/ping last\nno line")
    client.connection.shutdown(socket.SHUT_WR)
    _expect("L5", list(client.lines()), ["* pong last"])


def check_refusals(connect: Connect) -> None:
    """Lines that must be refused, and the line after `/work`."""
    client = connect("judy")
    client.send_bytes(b"y" * 5000 + b"\n")
    _expect("F2", client.barrier(), ["! line too long (limit 1024 bytes)"])
    client.send_bytes(b"\xff\xfe\n")
    _expect("F4", client.barrier(), ["! not valid UTF-8"])
    client.send_bytes(b"/work 1\n/ping over")
    _expect("C6", next(client.lines(), ""), "* worked 1 ms")
    client.send_bytes(b"\n")
    _expect("C3", next(client.lines(), ""), "* pong over")


def check_echo(connect: Connect) -> None:
    """A line comes back to its sender, every one of them, and to nobody else."""
    erin, fay = connect("erin"), connect("fay")
    for name, client in (("erin", erin), ("fay", fay)):
        client.send_bytes(b"".join(b"%d\n" % i for i in range(LINES)))
        _expect("D1", client.barrier(), [f"{name}: {i}" for i in range(LINES)])
    _expect("D1", erin.barrier(), [])


def check_chat(connect: Connect) -> None:
    """A line goes to everybody else, every one of them, in one order for all."""
    alice, bob = connect("alice"), connect("bob")
    carol, dave = connect("carol"), connect("dave")
    for client in (alice, bob, carol, dave):
        client.barrier()
    for sender in (alice, bob):
        sender.send_bytes(b"".join(b"%d\n" % i for i in range(LINES)))
    heard = {}
    for name, client in (("alice", alice), ("bob", bob), ("carol", carol), ("dave", dave)):
        heard[name] = client.barrier()
    # A sender's barrier covers its own lines; the readers' came after both of them.
    alices, bobs = ([f"{name}: {i}" for i in range(LINES)] for name in ("alice", "bob"))
    heard["alice"] += alice.barrier()
    _expect("D2", heard["alice"], bobs)
    _expect("D2", heard["bob"], alices)
    _expect("D2", sorted(heard["carol"]), sorted(alices + bobs))
    _expect("D4", heard["dave"], heard["carol"])
    carol.send("/pm DAVE psst")
    carol.barrier()
    _expect("C7", dave.barrier(), ["@carol: psst"])
    carol.send("/quit")
    _expect("C4", list(carol.lines()), ["* bye carol"])
    _expect("D3", dave.until("* carol left"), ["* carol left"])
