"""One scripted conversation with each of the four servers, side by side.

On a wide terminal the four stand in four columns, on one of 80 in two rows of two.

What is printed is what the clients received, nothing else. No step waits for time to pass: after
each one every client sends `/ping`, and by rule D4 the answer comes after everything that the step
caused. So the output is the same on every run.
"""

import contextlib
import os
import shutil
import sys
import textwrap

from harness import launcher
from harness.line_client import Closed, LineClient

MAX_WIDTH = 120  # characters of the whole table: more would only be white space
ANSWER_SECONDS = 5.0  # a server that says nothing for so long has failed
LEAST_COLUMN = 21  # characters in which "alice < * hello alice" fits

# Who does what. A line typed by a client that has not come yet is its name.
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

STYLES = {"heading": "1", "!": "31", "*": "2", "@": "35", "differs": "33", "same": "2"}

Seen = tuple[tuple[str, str], ...]  # what one step made visible: (client, received line) pairs


class DemoError(Exception):
    """A server did not answer the way the script needs; one line."""


def play(server: launcher.RunningServer) -> list[Seen]:
    """Play SCRIPT to one server; for each step, what each client received because of it.

    Raises DemoError when the server does not keep to the protocol.
    """
    present: dict[str, LineClient] = {}
    steps: list[Seen] = []
    with contextlib.ExitStack() as connections:
        try:
            for actor, line in SCRIPT:
                seen: list[tuple[str, str]] = []
                if actor not in present:
                    client = LineClient(server.address, ANSWER_SECONDS)
                    connections.callback(client.close)
                    client.send_line(line)
                    welcome = f"* hello {actor}"
                    seen += [(actor, text) for text in [*client.read_until(welcome), welcome]]
                    present[actor] = client
                elif line == "/quit":
                    leaver = present.pop(actor)
                    leaver.send_line(line)
                    seen += [(actor, text) for text in leaver.read_to_end()]
                    # No rule says that the others hear of it before she sees the end, so here
                    # the barrier alone would not do: wait for the notice itself.
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


def heading(actor: str, line: str) -> str:
    """What happens in one step, in words."""
    if actor == line:
        return f"{actor} joins"
    return f'{actor} sends "{line}"'


def render(transcripts: dict[str, list[Seen]], width: int, colour: bool, plain: bool) -> str:
    """The four transcripts, then what to look for; no row is wider. `plain` keeps to ASCII."""
    vertical, horizontal, arrow = ("|", "-", "<") if plain else ("\u2502", "\u2500", "\u25c2")
    divider = f" {vertical} "
    width = min(MAX_WIDTH, width)
    versions = list(transcripts)
    abreast = columns_abreast(width, len(divider))
    column = (width - len(divider) * (abreast - 1)) // abreast
    rule = horizontal * (column * abreast + len(divider) * (abreast - 1))
    rows_of_versions = [versions[i : i + abreast] for i in range(0, len(versions), abreast)]

    def paint(text: str, style: str | None) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour and style in STYLES else text

    def cell(seen: Seen) -> list[tuple[str, str | None]]:
        rows = []
        for name, text in seen:
            wrapped = textwrap.wrap(
                f"{name:5} {arrow} {text}", column, subsequent_indent=" " * 8, drop_whitespace=True
            )
            rows += [(row, text[0]) for row in wrapped]
        return rows or [("-", "same")]

    def names(row_of_versions: list[str]) -> str:
        return divider.join(paint(f"{name:{column}}", "heading") for name in row_of_versions)

    def wrap(text: str, first: str = "", further: str = "") -> list[str]:
        return textwrap.wrap(text, len(rule), initial_indent=first, subsequent_indent=further)

    out = [names(rows_of_versions[0]).rstrip()] if len(rows_of_versions) == 1 else []
    out.append(rule)
    for number, (actor, line) in enumerate(SCRIPT):
        what = f"{number + 1}. {heading(actor, line)}"
        groups = alike(transcripts, number)
        verdict = "same for all" if len(groups) == 1 else "differs"
        style = "differs" if verdict == "differs" else "same"
        space = len(rule) - len(what) - len(verdict)
        if space > 0:
            out.append(paint(what, "heading") + " " * space + paint(verdict, style))
        else:
            out += [paint(row, "heading") for row in wrap(what)]
            out.append(paint(verdict, style))
        for row_of_versions in rows_of_versions:
            # With more than one row of them, each has to say whose transcripts they are.
            if len(rows_of_versions) > 1:
                out.append(names(row_of_versions).rstrip())
            cells = [cell(transcripts[version][number]) for version in row_of_versions]
            for row in range(max(map(len, cells))):
                parts = []
                for rows in cells:
                    text, kind = rows[row] if row < len(rows) else ("", None)
                    parts.append(paint(f"{text:{column}}", kind))
                out.append(divider.join(parts).rstrip())
        out.append(rule)
    out += wrap(f'"bob {arrow} TEXT": bob\'s client received TEXT.  "-": nobody received anything.')
    for remark in remarks(transcripts):
        out += wrap(remark, "* ", "  ")
    return "\n".join(out)


def columns_abreast(width: int, divider: int) -> int:
    """How many transcripts fit beside each other: four, two, or one."""
    for abreast in (4, 2):
        if LEAST_COLUMN * abreast + divider * (abreast - 1) <= width:
            return abreast
    return 1


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
            told = "; ".join(
                f"{' and '.join(group)}: {audience(number, transcripts[group[0]][number])}"
                for group in groups
            )
            steps_of.setdefault(told, []).append(str(number + 1))
    for told, steps in steps_of.items():
        result.append(f"{'Steps' if len(steps) > 1 else 'Step'} {', '.join(steps)} - {told}.")
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
    if to_actor:
        return "the others are told too" if everybody_else else f"{_names(others)} is told too"
    if everybody_else:
        return "the others receive it, who sent it does not"
    return f"{_names(others)} alone receives it"


def _names(names: set[str]) -> str:
    return " and ".join(sorted(names))


def run() -> None:
    """Start all four, play, stop them, print. Raises DemoError or launcher.LaunchError."""
    transcripts = {}
    with contextlib.ExitStack() as servers:
        for version in launcher.VERSIONS:
            command = launcher.server_command(version)
            profile = launcher.PROFILES[version]
            server = servers.enter_context(launcher.launch(version, command, profile=profile))
            transcripts[version] = play(server)
    width = shutil.get_terminal_size((80, 24)).columns
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    try:
        "\u2502\u2500\u25c2".encode(sys.stdout.encoding or "ascii")
        plain = False
    except UnicodeEncodeError:
        plain = True
    print(render(transcripts, width, colour, plain))
