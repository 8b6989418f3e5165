"""One scripted conversation with each of the four servers, side by side.

What is printed is what the clients received, nothing else. No step waits for time to pass: after
each one every client sends `/ping`, and by rule D4 the answer comes after everything that the step
caused. So the output is the same on every run.
"""

import contextlib
import itertools
import os
import shutil
import sys
import textwrap

from harness.launcher import VERSIONS, RunningServer
from harness.line_client import Closed, LineClient
from harness.server_under_test import ServerUnderTest

MAX_WIDTH = 120  # characters of the whole table: more would only be white space
LEAST_COLUMN = 21  # characters in which "alice < * hello alice" fits
ANSWER_SECONDS = 5.0  # a server that says nothing for so long has failed

# Who does what. A client that has not come yet types its name.
SCRIPT = (
    ("alice", "alice"),
    ("bob", "bob"),
    ("carol", "carol"),
    ("alice", "hello everyone"),
    ("bob", "hi alice!"),
    ("carol", "/list"),
    ("carol", "/pm bob psst, bob"),
    ("bob", "/dance"),
    ("carol", "/quit"),
    ("alice", "is carol still here?"),
)

# What separates columns, what separates steps, and the arrow from a client to what it received.
DRAWN = ("\u2502", "\u2500", "\u25c2")
INDENT = " " * 8  # of the further lines of a text that was received
STYLES = {"heading": "1", "!": "31", "*": "2", "@": "35", "differs": "33", "same": "2"}

# What one step made visible: pairs of a client and a line that it received.
Seen = tuple[tuple[str, str], ...]


class DemoError(Exception):
    """A server did not answer the way the script needs; one line."""


def play(server: RunningServer) -> list[Seen]:
    """Play SCRIPT to one server; what each client received in each step. Raises DemoError."""
    present: dict[str, LineClient] = {}
    steps: list[Seen] = []
    with contextlib.ExitStack() as connections:
        try:
            for actor, line in SCRIPT:
                seen: list[tuple[str, str]] = []
                if actor not in present:
                    client = LineClient(server.address, ANSWER_SECONDS)
                    present[actor] = connections.enter_context(client)
                    client.send_line(line)
                    welcome = f"* hello {actor}"
                    seen += [(actor, text) for text in [*client.read_until(welcome), welcome]]
                elif line == "/quit":
                    leaver = present.pop(actor)
                    leaver.send_line(line)
                    seen += [(actor, text) for text in leaver.read_to_end()]
                    # No rule says that the others hear of it before she sees the end. So the
                    # barrier is not enough here: wait for the notice itself.
                    if server.profile == "chat":
                        for name, client in present.items():
                            notice = f"* {actor} left"
                            seen += [(name, text) for text in [*client.read_until(notice), notice]]
                else:
                    present[actor].send_line(line)
                # The actor first: her pong says that the others' lines are queued (rule D4).
                for name in sorted(present, key=lambda name: name != actor):
                    seen += [(name, text) for text in present[name].ping()]
                steps.append(tuple(seen))
        except TimeoutError:
            raise DemoError(f"{server.name}: no answer to {actor}'s {line!r}") from None
        except OSError as error:
            raise DemoError(f"{server.name}: {error.strerror or error}") from None
        except Closed as error:
            what = f"closed the connection where {error.expected!r} was expected"
            raise DemoError(f"{server.name} {what}") from None
    return steps


def render(transcripts: dict[str, list[Seen]], width: int, colour: bool, plain: bool) -> str:
    """The four transcripts, then what to look for; no row is wider. `plain` keeps to ASCII."""
    vertical, horizontal, arrow = ("|", "-", "<") if plain else DRAWN
    divider = f" {vertical} "
    width = min(MAX_WIDTH, width)
    versions = list(transcripts)
    least = LEAST_COLUMN + len(divider)
    abreast = next((count for count in (4, 2) if least * count <= width + len(divider)), 1)
    column = (width + len(divider)) // abreast - len(divider)
    rule = horizontal * ((column + len(divider)) * abreast - len(divider))
    rows_of_versions = [versions[i : i + abreast] for i in range(0, len(versions), abreast)]

    def paint(text: str, style: str | None) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour and style in STYLES else text

    def cell(seen: Seen) -> list[tuple[str, str | None]]:
        rows: list[tuple[str, str | None]] = []
        for name, text in seen:
            line = f"{name:5} {arrow} {text}"
            rows += [
                (row, text[0]) for row in textwrap.wrap(line, column, subsequent_indent=INDENT)
            ]
        return rows or [("-", "same")]

    def names(row_of_versions: list[str]) -> str:
        names = [paint(f"{name:{column}}", "heading") for name in row_of_versions]
        return divider.join(names).rstrip()

    out = [names(versions)] if len(rows_of_versions) == 1 else []
    out.append(rule)
    for number, (actor, line) in enumerate(SCRIPT):
        action = "joins" if actor == line else f'sends "{line}"'
        what = f"{number + 1}. {actor} {action}"
        same = len(alike(transcripts, number)) == 1
        verdict, style = ("same for all", "same") if same else ("differs", "differs")
        space = len(rule) - len(what) - len(verdict)
        if space > 0:
            out.append(paint(what, "heading") + " " * space + paint(verdict, style))
        else:
            out += [paint(row, "heading") for row in textwrap.wrap(what, len(rule))]
            out.append(paint(verdict, style))
        for row_of_versions in rows_of_versions:
            # With more than one row of them, each has to say whose transcripts they are.
            if len(rows_of_versions) > 1:
                out.append(names(row_of_versions))
            cells = [cell(transcripts[version][number]) for version in row_of_versions]
            for row in itertools.zip_longest(*cells, fillvalue=("", None)):
                parts = [paint(f"{text:{column}}", kind) for text, kind in row]
                out.append(divider.join(parts).rstrip())
        out.append(rule)
    legend = f'"bob {arrow} TEXT": bob\'s client received TEXT.  "-": nobody received anything.'
    out += textwrap.wrap(legend, len(rule))
    for remark in remarks(transcripts):
        out += textwrap.wrap(f"* {remark}", len(rule), subsequent_indent="  ")
    return "\n".join(out)


def alike(transcripts: dict[str, list[Seen]], number: int) -> list[list[str]]:
    """The versions in groups that behaved alike in one step; their own names do not count."""
    groups: dict[Seen, list[str]] = {}
    for version, steps in transcripts.items():
        seen = tuple((name, text.replace(version, "VERSION")) for name, text in steps[number])
        groups.setdefault(seen, []).append(version)
    return list(groups.values())


def remarks(transcripts: dict[str, list[Seen]]) -> list[str]:
    """What to look for: each remark is worked out from what was received in this very run."""
    same = sum(len(alike(transcripts, number)) == 1 for number in range(len(SCRIPT)))
    result = [f"{same} of {len(SCRIPT)} steps look the same for all, but for the server's name."]
    steps_of: dict[str, list[str]] = {}
    for number in range(len(SCRIPT)):
        groups = alike(transcripts, number)
        if len(groups) > 1:
            difference = "; ".join(
                f"{' and '.join(group)}: {audience(number, transcripts[group[0]][number])}"
                for group in groups
            )
            steps_of.setdefault(difference, []).append(str(number + 1))
    for difference, steps in steps_of.items():
        result.append(f"{'Steps' if len(steps) > 1 else 'Step'} {', '.join(steps)} - {difference}.")
    return result


def audience(number: int, seen: Seen) -> str:
    """Who received something in a step, in words that fit every step of the same kind."""
    actor = SCRIPT[number][0]
    room = {name for name, _ in SCRIPT[: number + 1]}
    room -= {name for name, line in SCRIPT[:number] if line == "/quit"}
    others = {name for name, _ in seen} - {actor}
    to_actor = [text for name, text in seen if name == actor]
    if any(text.startswith("!") for text in to_actor):
        return "an error for who sent it"
    everybody_else = others == room - {actor}
    if not others:
        return "only who acts receives anything" if to_actor else "nobody receives anything"
    names = " and ".join(sorted(others))
    if to_actor:
        return "the others are told too" if everybody_else else f"{names} is told too"
    if everybody_else:
        return "the others receive it, who sent it does not"
    return f"{names} alone receives it"


def run() -> None:
    """Start all four, play, stop them, print. Raises DemoError or LaunchError."""
    with contextlib.ExitStack() as servers:
        transcripts = {
            version: play(servers.enter_context(ServerUnderTest.ours(version).start()))
            for version in VERSIONS
        }
    width = shutil.get_terminal_size((80, 24)).columns
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    plain = b"?" in "".join(DRAWN).encode(sys.stdout.encoding or "ascii", errors="replace")
    print(render(transcripts, width, colour, plain))
