"""What becomes of bytes: in either profile, and in a room where all talk at once."""

from collections.abc import Sequence
from typing import NamedTuple

from harness.crowd import Member
from harness.line_client import LineClient


class Effects(NamedTuple):
    """What the lines of one client have led to."""

    # The server's answers to the client.
    answers: list[str]
    # The client's texts, as the profile delivers them.
    delivered: list[str]


class Conversation:
    """alice, whose bytes are under test, and bob, who hears her in the chat profile.

    Her texts are collected wherever the profile delivers them, so one test serves both profiles.
    """

    def __init__(self, profile: str, alice: LineClient, bob: LineClient) -> None:
        self.alice = alice
        self._bob = bob
        self._profile = profile
        self._heard_by_bob: list[str] = []

    def let_the_server_read(self) -> None:
        """Return when the server has most likely read what alice has sent so far.

        Bob's barrier proves it for a single-threaded server, and makes it likely for the others.
        The result must be the same either way (F5).
        """
        self._heard_by_bob += self._bob.ping()

    def outcome(self) -> Effects:
        """What alice's lines have led to since the last call, in order of arrival."""
        heard_by_alice = self.alice.ping()
        heard_by_bob = self._heard_by_bob + self._bob.ping()
        self._heard_by_bob = []
        prefix = f"{self.alice.name}: "
        answers = [line for line in heard_by_alice if not line.startswith(prefix)]
        echoed = [line for line in heard_by_alice if line.startswith(prefix)]
        silent, texts = (
            (heard_by_bob, echoed) if self._profile == "echo" else (echoed, heard_by_bob)
        )
        if silent:
            raise AssertionError(f"in profile {self._profile} this went astray: {silent}")
        return Effects(answers, [text.removeprefix(prefix) for text in texts])


def assert_one_order(senders: Sequence[Member], readers: Sequence[Member], lines_each: int) -> None:
    """The senders have said 0, 1, 2 and so on. All have heard all of it, in one order (D2, D4)."""

    def heard_by(member: Member) -> list[str]:
        return [line for line in member.lines() if not line.startswith("* pong ")]

    order = heard_by(readers[0])
    said = len(senders) * lines_each
    assert len(order) == said, f"{len(order)} of {said} lines arrived"
    for reader in readers:
        assert heard_by(reader) == order, f"{reader.name} saw another order than {readers[0].name}"
    for sender in senders:
        own = f"{sender.name}: "
        own_lines = [line for line in order if line.startswith(own)]
        expected = [f"{own}{number}" for number in range(lines_each)]
        assert own_lines == expected, f"{sender.name}'s own order is lost"
        others = [line for line in order if not line.startswith(own)]
        assert heard_by(sender) == others, f"{sender.name} saw another order"
