"""Pictures as far as they need no matplotlib: which there are, and which server looks how.

Each server looks the same in all pictures. The colours are those of Okabe and Ito, told apart with
any common colour blindness (https://jfly.uni-koeln.de/color/).
"""

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.figure import Picture
from benchmarks.result.view import View

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
# A colour and a marker for each server.
STYLES = {
    "v1_threads": ("#d55e00", "o"),
    "v2_select": ("#0072b2", "s"),
    "v3_broadcast": ("#cc79a7", "D"),
    "v4_asyncio": ("#009e73", "^"),
    "tutorial": ("#e69f00", "v"),
    "c_threads": ("#656d76", "<"),
    "c_select": ("#868e96", ">"),
    "c_epoll": ("#a3abb3", "P"),
}
# For students' servers and other interpreters, whose version's colour gets paler.
FURTHER_COLOURS = ("#56b4e9", "#b5a300", "#8e6bbf")
FURTHER_MARKERS = ("X", "p", "*", "h", "d")
FOR_PHONES = "-narrow"  # in the name of the file whose panels are below each other


def pictures_available() -> str | None:
    """None when pictures can be drawn, otherwise one line that says what to do."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        return f"no pictures: {error} (python3 -m pip install matplotlib, in a virtual environment)"
    return None


def picture_of(view: View, name: str) -> Picture | None:
    """The picture of an experiment, if there is something in it."""
    picture = EXPERIMENTS[name].picture(view)
    return picture if picture and picture.drawn_panels else None


def looks(servers: list[dict]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each server id, the same whoever else takes part."""
    styles: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    further = 0
    for server in servers:
        name = server["version"] or server["id"]
        is_known = server["kind"] != "theirs" and name in STYLES
        again = names.count(name)
        names.append(name)
        if is_known and not again:
            styles[server["id"]] = STYLES[name]
            continue
        colour = FURTHER_COLOURS[further % len(FURTHER_COLOURS)]
        if is_known:
            parts = (int(STYLES[name][0][at : at + 2], 16) for at in (1, 3, 5))
            colour = "#" + "".join(f"{255 - round((255 - p) * 0.6**again):02x}" for p in parts)
        styles[server["id"]] = (colour, FURTHER_MARKERS[further % len(FURTHER_MARKERS)])
        further += 1
    return styles
