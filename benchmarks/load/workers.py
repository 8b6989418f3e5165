"""Clients that ask for `/work`, each again as soon as it is done.

An answer alone proves nothing: the server has to have used the CPU time that it says it worked.
"""

from benchmarks.load.connections import Load, Lost, monotonic_ns, shown

SLACK_NS = 10_000_000  # the CPU clock, seen from outside, moves in steps of some 4 ms


class Workers:
    """The clients, and when each of their works began and ended."""

    def __init__(self, load: Load, clients: list[int], work_ms: int) -> None:
        self.load = load
        self.work_ns = work_ms * 1_000_000
        self.order = f"/work {work_ms}\n".encode()
        self.answer = f"* worked {work_ms} ms\n".encode()
        self.received = dict.fromkeys(clients, b"")
        # When the work that is under way for a client was asked for.
        self.began: dict[int, int] = {}
        # When each finished work was asked for, and answered.
        self.done: list[tuple[int, int]] = []
        self.asking = True
        # What the server had used before the first work.
        self.cpu_ns = 0

    def begin(self) -> None:
        self.cpu_ns = self.load.probe.cpu_ns()
        for fd in self.received:
            self.ask(fd)

    def ask(self, fd: int) -> None:
        self.received[fd] = b""
        self.began[fd] = monotonic_ns()
        self.load.send(fd, self.order)

    def on_readable(self, fd: int) -> None:
        """Check what came; ask again when it is the whole answer."""
        received = self.received[fd] + self.load.view[: self.load.receive(fd)]
        if fd not in self.began or not self.answer.startswith(received):
            raise Lost(f"{shown(received)} came where {self.answer!r} was expected, once")
        self.received[fd] = received
        if received == self.answer:
            self.done.append((self.began.pop(fd), monotonic_ns()))
            if self.asking:
                self.ask(fd)

    def play(self, seconds: float) -> None:
        """Let them go on for so long, where no other client takes part."""
        until = monotonic_ns() + int(seconds * 1e9)
        while monotonic_ns() < until:
            self.turn()

    def finish(self) -> None:
        """Wait for what is under way; raises Lost if the answers cost less than they say."""
        self.asking = False
        while self.began:
            self.turn()
        used = self.load.probe.cpu_ns() - self.cpu_ns
        if used and used + SLACK_NS < len(self.done) * self.work_ns:
            raise Lost(
                f"{len(self.done)} answers say {self.answer.decode().strip()!r}, and the server"
                f" used {used / 1e6:.0f} ms of CPU time for all of them"
            )

    def turn(self) -> None:
        """Wait for answers, and check those that have come."""
        for fd, _ in self.load.wait():
            if fd not in self.received:
                raise Lost("something came to a client that had asked nothing")
            self.on_readable(fd)

    def per_second(self, opens: int, closes: int) -> float:
        """Works per second between two moments. Of a work that lies partly outside, its share."""
        shares = [
            max(0, min(ended, closes) - max(began, opens)) / (ended - began)
            for began, ended in self.done
        ]
        return sum(shares) / (closes - opens) * 1e9
