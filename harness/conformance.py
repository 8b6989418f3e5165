"""A short check that a server keeps the protocol: under a second, before anything longer begins.

The benchmarks run it so that they never print a number for a server that wins by leaving work out.
The suite runs it so that a server of another protocol gets one message instead of hundreds.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from harness.launcher import RunningServer
from harness.line_client import Closed, LineClient, NoAnswer

# Each of two clients says so many lines, and every one of them is counted.
LINES = 500
# A server that stays silent for so long has failed.
ANSWER_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Fault:
    """The rule that was broken, and how: what was sent, what came, what was expected.

    `before` is what the same client had sent before that, and what came then.
    """

    rule: str
    sent: str
    came: str
    expected: str
    before: str = ""

    def __str__(self) -> str:
        """The fault in one line."""
        after = f" after {self.sent}" if self.sent else ""
        return f"{self.rule}: got {self.came} where {self.expected} was expected{after}"


class NotConforming(Exception):
    """Carries a Fault. `closed_at_once` means that a client was closed without a word."""

    def __init__(self, fault: Fault, closed_at_once: bool = False) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.closed_at_once = closed_at_once


class Examinee(LineClient):
    """A client that raises NotConforming as soon as an answer is not the one that a rule wants."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, ANSWER_SECONDS)
        self.sent = b""
        # The last exchange that was as it should be.
        self.before = ""

    def expect(
        self, rule: str, sent: str | bytes, wanted: Sequence[str], ends: bool = False
    ) -> None:
        """Send a line, or bytes as they are; require these lines, and then the end if it `ends`."""
        if sent:
            self.say(sent)
        self.compare(rule, self.receive(rule, wanted, ends), wanted)

    def say(self, sent: str | bytes) -> None:
        """Send a line, or bytes as they are."""
        self.sent = sent if isinstance(sent, bytes) else sent.encode() + b"\n"
        # If the server has closed meanwhile, the missing answer shows it.
        with contextlib.suppress(ConnectionError):
            self.send_bytes(self.sent)

    def receive(self, rule: str, wanted: Sequence[str], ends: bool = False) -> list[str]:
        """Read as many lines as are wanted, or everything up to the end if it `ends`."""
        lines: list[str] = []
        try:
            if ends:
                return self.read_to_end()
            while len(lines) < len(wanted):
                lines.append(self.read_line())
        except Closed:
            raise self.fault(rule, [*lines, "and the end of the connection"], wanted) from None
        except NoAnswer as error:
            lines += error.received
            raise self.fault(rule, [*lines, f"and no more in {self.timeout:g} s"], wanted) from None
        except AssertionError as error:
            raise self.fault(rule, [str(error)], wanted) from None
        return lines

    def barrier(self, rule: str, wanted: Sequence[str]) -> list[str]:
        """Send a `/ping`; returns the lines that came before its answer."""
        sent = self.sent
        try:
            return self.ping()
        except (Closed, NoAnswer) as error:
            self.sent = sent
            what = "the end" if isinstance(error, Closed) else f"no more in {self.timeout:g} s"
            raise self.fault(rule, [*error.received, f"and {what}"], [*wanted, "* pong"]) from None

    def compare(self, rule: str, came: object, wanted: object) -> None:
        if came != wanted:
            raise self.fault(rule, came, wanted)
        self.before = f"{_short(self.sent)} got {_short(came)}" if self.sent else ""

    def fault(self, rule: str, came: object, wanted: object) -> NotConforming:
        """What to raise when the answer is not the one that a rule wants."""
        sent, came, expected = _short(self.sent), _short(came), _short(wanted)
        return NotConforming(Fault(rule, sent, came, expected, self.before))


def check(server: RunningServer, kind: str = "ours") -> str | None:
    """Why this server must not be measured, or None. A floor is checked for its promises only."""
    fault = first_fault(server, kind)
    return None if fault is None else str(fault)


def first_fault(server: RunningServer, kind: str = "ours") -> Fault | None:
    """The first rule that this server breaks, or None. For "core" only the core is checked."""
    in_chat = server.profile == "chat"
    delivery = check_chat if in_chat else check_echo
    if kind == "core":
        steps = [check_handshake, check_framing, delivery]
    elif kind == "floor":
        steps = [check_framing, delivery, check_end]
    else:
        steps = [check_handshake, check_names, check_framing, check_refusals, delivery]
        steps += [check_private, check_end] if in_chat else [check_end]
    for number, step in enumerate(steps):
        with contextlib.ExitStack() as clients:
            try:
                step(_connector(server, clients))
            except NotConforming as error:
                # The server ended when the clients of an earlier step closed their connections.
                if number and error.closed_at_once:
                    ends = "the ends of other connections"
                    return dataclasses.replace(error.fault, rule="L6", sent=ends)
                return error.fault
            except OSError as error:
                return Fault("L6", "", f"{error.strerror or error}", "a connection")
    return None


Connect = Callable[..., Examinee]


def _connector(server: RunningServer, clients: contextlib.ExitStack) -> Connect:
    wanted = repr("* VERSION: enter your name")
    greeted = 0

    def connect(name: str, rule: str = "H3") -> Examinee:
        """A new client that has joined as `name`, as `rule` says; an empty name keeps it out."""
        nonlocal greeted
        client = clients.enter_context(Examinee(server.address))
        try:
            greeting = client.read_line()
        except (Closed, NoAnswer) as error:
            rest = client.peek()
            closed_at_once = isinstance(error, Closed) and not rest
            came = "the end" if isinstance(error, Closed) else f"no line in {client.timeout:g} s"
            if rest:
                came = f"{rest[:120]!r} and {came}"
            rule = "H1"
            if greeted and not closed_at_once:
                came = f"{came}, while {greeted} of us {'was' if greeted == 1 else 'were'} served"
                rule = "F7"
            raise NotConforming(Fault(rule, "", came, wanted), closed_at_once) from None
        if not (greeting.startswith("* ") and greeting.endswith(": enter your name")):
            came = _short(greeting.encode() + b"\n" + client.peek())
            raise NotConforming(Fault("H1", "", came, wanted))
        greeted += 1
        if name:
            client.expect(rule, name, [f"* hello {name}"])
        return client

    return connect


def _short(value: object) -> str:
    text = repr(value) if value else "" if value == b"" else "nothing"
    return text if len(text) <= 160 else f"{text[:100]} ... {text[-50:]}"


def check_handshake(connect: Connect) -> None:
    """Names are asked for, accepted, and unique; clients are listed, and go."""
    alice = connect("alice")
    other = connect("")
    other.expect("H2", "ALICE", ["! name ALICE is taken"])
    other.expect("H3", "bob", ["* hello bob"])
    alice.barrier("C3", [])
    alice.expect("C2", "/list", ["* 2 online: alice, bob"])
    alice.expect("C4", "/quit", ["* bye alice"], ends=True)


def check_names(connect: Connect) -> None:
    """A name that is none is refused, none is asked for, and one is free again; commands, too."""
    leon = connect("leon")
    other = connect("")
    other.expect("H4", "no spaces please", ["! invalid name (1-20 letters, digits, _ or -)"])
    other.expect("H5", b"\n", ["* hello guest1"])
    leon.barrier("C3", [])
    leon.expect("C5", "/nonsense", ["! unknown command: /nonsense (try /help)"])
    leon.expect("C4", "/quit", ["* bye leon"], ends=True)
    connect("leon", rule="H5")


def check_framing(connect: Connect) -> None:
    """Bytes split and glued, both line endings, and a line of full length."""
    # The name is new, because the server may not know yet that earlier clients have gone.
    client = connect("frank")
    line = "/ping ä\r\n".encode()
    for byte in line:
        client.say(bytes([byte]))
    client.sent = line
    client.expect("F5", b"", ["* pong ä"])
    line = "/ping ä\n".encode()
    # The first half ends in the middle of the character.
    client.say(line[:-2])
    # Another client's greeting proves that the server has turned to something else meanwhile.
    connect("")
    client.say(line[-2:])
    client.sent = line
    client.expect("F5", b"", ["* pong ä"])
    glued = b"".join(b"/ping %d\n" % i for i in range(100))
    client.expect("F5", glued, [f"* pong {i}" for i in range(100)])
    longest = "/ping " + "z" * 1018
    client.say(longest.encode())
    connect("")
    client.expect("F2", b"\n", ["* pong " + longest[6:]])


def check_refusals(connect: Connect) -> None:
    """Lines that must be refused, and the line after `/work`."""
    client = connect("judy")
    for rule, sent, wanted in (
        ("F2", b"y" * 5000 + b"\n", ["! line too long (limit 1024 bytes)"]),
        ("F4", b"\xff\xfe\n", ["! not valid UTF-8"]),
    ):
        client.say(sent)
        client.compare(rule, client.barrier(rule, wanted), wanted)
    client.expect("C6", b"/work 1\n/ping over", ["* worked 1 ms"])
    client.expect("C3", b"\n", ["* pong over"])


def check_echo(connect: Connect) -> None:
    """Every line comes back to its sender, and to nobody else."""
    erin, fay = connect("erin"), connect("fay")
    for name, client in (("erin", erin), ("fay", fay)):
        wanted = [f"{name}: {i}" for i in range(LINES)]
        client.say(b"".join(b"%d\n" % i for i in range(LINES)))
        client.compare("D1", client.barrier("D1", wanted), wanted)
    erin.compare("D1", erin.barrier("D1", []), [])


def check_chat(connect: Connect) -> None:
    """Every line goes to everyone else, in one order for all."""
    alice, bob = connect("alice"), connect("bob")
    carol, dave = connect("carol"), connect("dave")
    for client in (alice, bob, carol, dave):
        client.barrier("C3", [])
    alices, bobs = ([f"{name}: {i}" for i in range(LINES)] for name in ("alice", "bob"))
    for sender in (alice, bob):
        sender.say(b"".join(b"%d\n" % i for i in range(LINES)))
    heard_by_alice = alice.barrier("D2", bobs)
    heard_by_bob = bob.barrier("D2", alices)
    heard_by_carol = carol.barrier("D2", alices + bobs)
    heard_by_dave = dave.barrier("D2", alices + bobs)
    # Alice's first barrier may have been answered before all of bob's lines were processed.
    heard_by_alice += alice.barrier("D2", bobs)
    alice.compare("D2", heard_by_alice, bobs)
    bob.compare("D2", heard_by_bob, alices)
    carol.compare("D2", sorted(heard_by_carol), sorted(alices + bobs))
    dave.compare("D4", heard_by_dave, heard_by_carol)
    carol.expect("C4", "/quit", ["* bye carol"], ends=True)
    dave.expect("D3", b"", ["* carol left"])


def check_private(connect: Connect) -> None:
    """A private line goes to its recipient."""
    mia, noah = connect("mia"), connect("noah")
    for client in (mia, noah):
        client.barrier("C3", [])
    mia.say("/pm NOAH psst")
    mia.barrier("C7", [])
    noah.compare("C7", noah.barrier("C7", ["@mia: psst"]), ["@mia: psst"])


def check_end(connect: Connect) -> None:
    """`/quit` is answered, and so is every line that was complete when the input ended."""
    client = connect("heidi")
    client.expect("C4", "/quit", ["* bye heidi"], ends=True)
    client = connect("ivan")
    client.say(b"/ping last\nno line")
    client.half_close()
    client.expect("L5", b"", ["* pong last"], ends=True)
