"""Ask the others: the given tests of task 6. A1 and so on are the rules in README.md beside this.

The services are sockets that the tests hold: a test says when one answers, and sees when the server
lets go of it.
"""

import contextlib
import signal
import socket
import time

import pytest

from harness.answers import SHUTTING_DOWN

pytestmark = pytest.mark.profile("chat")

# A test waits so long for what should come at once.
SECONDS = 5


class Service:
    """One that is asked. It answers when a test says so."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.connections = []

    @property
    def option(self):
        """How a server is told of it."""
        return ("--service", f"127.0.0.1:{self.listener.getsockname()[1]}")

    def next_question(self):
        """Wait for a question; returns its line, and keeps its connection as the last one."""
        connection, _ = self.listener.accept()
        connection.settimeout(SECONDS)
        self.connections.append(connection)
        line = b""
        while not line.endswith(b"\n"):
            piece = connection.recv(1024)
            assert piece, f"the question ended before its line did: {line}"
            line += piece
        return line.decode()

    def answer(self, words):
        """Answer the last question."""
        self.connections[-1].sendall(words.encode() + b"\n")

    def is_let_go(self):
        """Wait until the server has closed the connection of the last question."""
        # A reset is an end, too.
        with contextlib.suppress(ConnectionResetError):
            return self.connections[-1].recv(1) == b""
        return True

    def close(self):
        """Stop listening, and end what is open."""
        for each in (self.listener, *self.connections):
            each.close()


@pytest.fixture
def services():
    """Two of them."""
    both = [Service(), Service()]
    yield both
    for service in both:
        service.close()


@pytest.fixture
def server(launch_server, services):
    """A server that knows both."""
    return launch_server(*(word for service in services for word in service.option))


def ask(client, services):
    """Ask something, and wait until each of the services has got it."""
    client.send_line("/ask anything")
    for service in services:
        service.next_question()


# ---- A1: the first answer ----


def test_all_are_asked(server, join, services):
    """A1: each gets the text as one line."""
    join(server, "alice").send_line("/ask  what is the time ")
    assert [service.next_question() for service in services] == ["what is the time\n"] * 2


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_answer_counts(server, join, services, first):
    """A1: whichever service it comes from, and only the asker is told."""
    alice, bob = join(server, "alice", "bob")
    ask(alice, services)
    services[first].answer("ten past nine")
    assert alice.read_line() == "* answer ten past nine"
    assert alice.ping() == []
    assert bob.ping() == []


def test_a_question_needs_a_text(server, join):
    """A1: otherwise the usage is told."""
    assert join(server, "alice").ask("/ask") == ["! usage: /ask TEXT"]


def test_an_answer_may_come_in_pieces(server, join, services):
    """A1: it is a line, not what one read brings."""
    alice = join(server, "alice")
    ask(alice, services)
    services[0].connections[-1].sendall(b"ten past")
    bob = join(server, "bob")
    assert bob.ping() == []
    services[0].answer(" nine")
    assert alice.read_until("* answer ten past nine") == ["* bob joined"]


# ---- A2: who waits ----


def test_nobody_else_waits(server, join, services):
    """A2: others speak and are answered while a question is under way."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    alice.send_line("/ask anything")
    services[0].next_question()
    assert bob.ask("hello") == []
    assert carol.ping() == ["bob: hello"]
    services[0].answer("nothing")
    assert alice.read_until("* answer nothing") == ["bob: hello"]


def test_the_asker_is_answered_in_order(server, join, services):
    """A2: the next lines wait, also a second question."""
    alice = join(server, "alice")
    alice.send_bytes(b"/ask one\n/ping 1\n/ask two\n/ping 2\n")
    for words in ("one", "two"):
        assert services[0].next_question() == f"{words}\n"
        services[0].answer(words)
    answers = [alice.read_line() for _ in range(4)]
    assert answers == ["* answer one", "* pong 1", "* answer two", "* pong 2"]


def test_two_may_ask_at_once(server, join, services):
    """A2: each gets the answer to their own question."""
    alice, bob = join(server, "alice", "bob")
    for client in (alice, bob):
        client.send_line(f"/ask {client.name}")
    asked = [services[0].next_question() for _ in range(2)]
    for words, connection in zip(asked, services[0].connections, strict=True):
        connection.sendall(f"for {words}".encode())
    for client in (alice, bob):
        assert client.read_line() == f"* answer for {client.name}"


# ---- A3: no answer ----


def test_silence_has_an_end(server, join, services):
    """A3: after a second."""
    alice = join(server, "alice")
    alice.send_line("/ask anything")
    assert alice.read_line() == "! no answer"
    assert alice.ask("/ping") == ["* pong"]


def test_one_that_refuses_spoils_nothing(server, join, services):
    """A3: the other one answers."""
    first, second = services
    first.listener.close()
    alice = join(server, "alice")
    alice.send_line("/ask anything")
    second.next_question()
    second.answer("I am here")
    assert alice.read_line() == "* answer I am here"


def test_one_that_closes_spoils_nothing(server, join, services):
    """A3: not even if it closes in the middle of a line."""
    alice = join(server, "alice")
    ask(alice, services)
    services[0].connections[-1].sendall(b"half a")
    services[0].connections[-1].close()
    services[1].answer("a whole line")
    assert alice.read_line() == "* answer a whole line"


def test_nobody_left_to_answer(server, join, services):
    """A3: then the asker is told."""
    alice = join(server, "alice")
    ask(alice, services)
    for service in services:
        service.connections[-1].close()
    assert alice.read_line() == "! no answer"


# ---- A4: the others are let go ----


def test_the_slower_one_is_let_go(server, join, services):
    """A4: its connection is closed once there is an answer."""
    alice = join(server, "alice")
    ask(alice, services)
    services[1].answer("first")
    assert alice.read_line() == "* answer first"
    assert services[0].is_let_go()
    assert services[1].is_let_go()


def test_all_are_let_go_in_the_end(server, join, services):
    """A4: those that have said nothing within the second, too."""
    alice = join(server, "alice")
    ask(alice, services)
    assert alice.read_line() == "! no answer"
    assert all(service.is_let_go() for service in services)


# ---- A5: nobody wants to know any more ----


def test_the_asker_is_gone(server, join, services):
    """A5: her connection is reset, and her services are let go before an older question ends."""
    alice, bob = join(server, "alice", "bob")
    ask(bob, services)
    # So far apart are the ends of the two questions, if nobody cares that alice is gone.
    time.sleep(0.4)
    ask(alice, services)
    alice.reset()
    assert bob.read_until("! no answer") == ["* alice left"]
    assert all(service.is_let_go() for service in services)


def test_a_stop_ends_a_question(server, join, services):
    """A5, L4: everyone is told, the services are let go, and the status is 0."""
    alice = join(server, "alice")
    ask(alice, services)
    server.process.send_signal(signal.SIGINT)
    assert alice.read_line() == SHUTTING_DOWN
    assert all(service.is_let_go() for service in services)
    alice.close()
    ending = server.ending(SECONDS)
    assert ending and ending.status == 0
