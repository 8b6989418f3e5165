"""A pair of clients that find out what becomes of bytes, in either profile."""

from typing import NamedTuple

from harness.line_client import LineClient


class Became(NamedTuple):
    """What became of the lines of one client."""

    told: list[str]  # what the server told her
    delivered: list[str]  # what she said, where the profile delivers it


class Conversation:
    """alice, whose bytes are under test, and bob, who hears her where the profile is chat.

    What she is told (`answers`) and what became of her text lines (`texts`) is collected
    wherever the profile delivers it, so that one test serves both profiles.
    """

    def __init__(self, profile: str, alice: LineClient, bob: LineClient) -> None:
        self.alice = alice
        self._bob = bob
        self._profile = profile
        self._heard_by_bob: list[str] = []

    def let_the_server_read(self) -> None:
        """Return when the server has most likely taken in what alice has sent so far.

        Another client's barrier: for a single-threaded server it is a proof, for the others a
        fair chance. The result must be the same either way (F5).
        """
        self._heard_by_bob += self._bob.ping()

    def outcome(self) -> Became:
        """What has become of her lines since the last call, in the order of arrival."""
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
        return Became(answers, [text.removeprefix(prefix) for text in texts])
