"""What there is in the zoo: one `bugs/NAME.diff`, and one `bugs/NAME.md` that tells of it."""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import PROFILES, REPOSITORY
from tests.zoo.patching import DiffError, apply_diff

BUGS = Path(__file__).with_name("bugs")

# In this order they are listed.
NAMES = (
    "eof-ignored",
    "recv-is-a-message",
    "send-for-sendall",
    "split-utf8",
    "walk-and-change",
    "await-every-peer",
    "endless-outbox",
    "descriptor-1024",
    "accept-spins",
    "missing-lock",
    "broken-pipe",
    "name-stays-taken",
    "deaf-to-ctrl-c",
    "sleep-in-the-loop",
    "idle-costs-cpu",
)

STORY = re.compile(
    r"---\nversion: (?P<version>\w+)\nrule: (?P<rule>[A-Z]\d)\ntest: (?P<test>\S+)\n"
    r"headline: (?P<headline>.+)\n---\n\n(?P<text>.+)",
    re.DOTALL,
)


class ZooError(Exception):
    """What was asked for cannot be done: one line that says what to do."""


@dataclass(frozen=True)
class Bug:
    """One bug: where it is, which rule of PROTOCOL.md it breaks, and what there is to say."""

    name: str
    version: str
    rule: str
    # The quickest test that catches it, a FILE::FUNCTION under tests/suite/.
    test: str
    headline: str
    text: str
    diff: str

    @property
    def profile(self) -> str:
        """That of its version: "echo" or "chat"."""
        return PROFILES[self.version]

    def right_source(self) -> str:
        """The server as it is."""
        return (REPOSITORY / self.version / "server.py").read_text(encoding="utf-8")

    def broken_source(self) -> str:
        """The server with the bug. Raises ZooError where the diff does not fit any more."""
        try:
            return apply_diff(self.diff, self.right_source())
        except DiffError as error:
            message = f"{self.name}.diff does not fit {self.version}/server.py: {error}"
            raise ZooError(message) from None

    def write_copy(self, folder: Path, broken: bool) -> Path:
        """Write the server into a new `folder`, with the bug or without; returns the file."""
        folder.mkdir()
        copy = folder / "server.py"
        source = self.broken_source() if broken else self.right_source()
        copy.write_text(source, encoding="utf-8")
        return copy


def all_bugs() -> list[Bug]:
    """The whole zoo."""
    return [find_bug(name) for name in NAMES]


def find_bug(name: str) -> Bug:
    """The bug of that name. Raises ZooError."""
    if name not in NAMES:
        raise ZooError(f"no bug is called {name!r}; there are: {', '.join(NAMES)}")
    story = STORY.fullmatch((BUGS / f"{name}.md").read_text(encoding="utf-8"))
    if story is None:
        raise ZooError(f"{name}.md does not begin with version, rule, test and headline")
    diff = (BUGS / f"{name}.diff").read_text(encoding="utf-8")
    return Bug(name=name, diff=diff, **story.groupdict())
