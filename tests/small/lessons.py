"""What each rule is about, and what in server.py keeps those that a small.py breaks."""

from harness.launcher import VERSIONS

# What a rule is about, in a few words.
TITLES = {
    "H1": "a greeting",
    "H2": "what a name may be",
    "H3": "a name is accepted",
    "H4": "a bad or taken name is refused",
    "H5": "a name for an empty line",
    "H6": "no room for web pages",
    "F1": "lines of UTF-8, ended by LF",
    "F2": "a line that is too long",
    "F3": "bytes after the last LF",
    "F4": "bytes that are no text",
    "F5": "lines that come split or glued",
    "F6": "white space and empty lines",
    "F7": "bounded turns",
    "C1": "`/help`",
    "C2": "`/list`",
    "C3": "`/ping`",
    "C4": "`/quit`, and all its answers",
    "C5": "an unknown command",
    "C6": "`/work`",
    "C7": "`/pm`",
    "D1": "an echo to the sender",
    "D2": "a line to everyone else",
    "D3": "who has joined and left",
    "D4": "one order for all",
    "L1": "idle clients",
    "L2": "too many clients",
    "L3": "clients that do not read",
    "L4": "an orderly stop",
    "L5": "the end of input",
    "L6": "a reset",
    "L7": "idle costs nothing, nothing leaks",
    "launch": "options, log and errors at the start",
}


V1, V2, V3, V4 = VERSIONS

# The functions and methods of server.py that keep a rule which a small.py breaks, by version. Those
# under "" stand for every version that has none of its own.
MENDED_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "H2": {"": ("choose_name",)},
    "H4": {"": ("choose_name",)},
    "H5": {"": ("choose_name",)},
    "H6": {"": ("on_line",)},
    "F2": {"": ("split_lines", "decode_line")},
    "F3": {"": ("split_lines",)},
    "F4": {"": ("decode_line",)},
    "F7": {"": ("receive", "wait_for_turn")},
    "C1": {"": ("answer_command",)},
    "C4": {"": ("finish",)},
    "C5": {"": ("answer_command",)},
    "C6": {"": ("parse_work", "do_work")},
    "C7": {
        "": ("on_private_message",),
        V1: ("answer_command",),
        V2: ("answer_command",),
    },
    "L1": {
        "": ("on_tick", "on_idle"),
        V1: ("receive", "on_idle"),
        V4: ("take_turns_until_idle", "on_idle"),
    },
    "L2": {
        "": ("accept_clients", "refuse", "on_accept_failed"),
        V4: ("accept", "refuse", "on_accept_failed"),
    },
    "L3": {
        V1: ("flush",),
        V2: ("on_congested", "on_output_taken", "on_stalled"),
        V3: ("hold", "on_output_taken", "on_stalled"),
        V4: ("hold", "wait_until_read", "on_stalled"),
    },
    "L4": {"": ("catch_stop_signals", "stop", "finish")},
    "L5": {"": ("receive", "split_lines")},
    "launch": {"": ("parse_options", "open_listener", "log_to_stderr", "announce")},
}


def mends(rule: str, version: str) -> tuple[str, ...]:
    """The names in one version's server.py that keep a rule."""
    by_version = MENDED_BY[rule]
    return by_version.get(version, by_version.get("", ()))
