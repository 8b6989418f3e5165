"""Whether a Mermaid diagram is well-formed, as far as can be told without drawing it.

It knows the kinds of diagram that the chapters use, and what breaks them most often: a label with
brackets and without quotes, a block without its end, a semicolon in a message.
"""

import re

BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r'"[^"]*"')
# The shapes of a node, with nothing in them that would have to be quoted.
SHAPES = [
    (r"\(\[", r"\]\)"),
    (r"\[\[", r"\]\]"),
    (r"\[\(", r"\)\]"),
    (r"\(\(", r"\)\)"),
    (r"\{\{", r"\}\}"),
    (r"\[", r"\]"),
    (r"\(", r"\)"),
    (r"\{", r"\}"),
    (r">", r"\]"),
]
SHAPE = re.compile("|".join(rf"(?<=\w){begin}[^\[\](){{}}]+{end}" for begin, end in SHAPES))
# A label of an arrow with a bracket in it, and not in quotation marks.
LABEL = re.compile(r'\|[^"|]*[\[\](){}][^|]*\|')
EDGE = re.compile(r"<?(--+|==+|-\.+-|~~~+)[->ox]?|-\.->|==>")
SEQUENCE = re.compile(
    r"sequenceDiagram|autonumber.*|(create )?(participant|actor) \S.*|destroy \S+|title:? .*"
    r"|(de)?activate \S+|note (over|left of|right of) [^:]+:.+"
    r"|[^-:+]+?\s*(<<)?--?(>>|>|x|\))[+-]?\s*[^:]+:.*"
    r"|(loop|alt|else|opt|par|and|critical|option|break|rect|box)\b.*|end",
    re.IGNORECASE,
)
OPENS = {
    "flowchart": re.compile(r"subgraph\b"),
    "sequenceDiagram": re.compile(r"(loop|alt|opt|par|critical|break|rect|box)\b"),
    "stateDiagram-v2": re.compile(r"state .*\{$|note (left|right) of [^:]+$"),
}
CLOSES = {
    "flowchart": re.compile(r"end$"),
    "sequenceDiagram": re.compile(r"end$"),
    "stateDiagram-v2": re.compile(r"\}$|end note$"),
}
STATE = re.compile(
    r"stateDiagram-v2|direction (LR|RL|TB|BT)|(\S+) --> (\S+)(\s*:.+)?|state .+|\}|\w+\s*:.+|--"
    r"|note (left|right) of \S+.*|end note"
)


class Malformed(AssertionError):
    """What is wrong with a diagram, and in which of its lines."""


def diagrams(text: str) -> list[str]:
    """The Mermaid blocks of a Markdown text."""
    return BLOCK.findall(text)


def assert_well_formed(diagram: str) -> None:
    """Raises Malformed."""
    lines = [line.strip() for line in diagram.splitlines()]
    lines = [line for line in lines if line and not line.startswith("%%")]
    kind = lines[0].split()[0] if lines else ""
    if kind not in OPENS:
        raise Malformed(f"the first line must name one of {', '.join(OPENS)}: {lines[:1]}")
    if len(lines) < 3:
        raise Malformed("there is nothing in it")
    check = {
        "flowchart": _check_flowchart,
        "sequenceDiagram": _check_sequence,
        "stateDiagram-v2": _check_state,
    }[kind]
    depth, in_a_note = 0, False
    for number, line in enumerate(lines):
        if line.count('"') % 2:
            raise Malformed(f"a quotation mark is missing: {line}")
        if not in_a_note or CLOSES[kind].match(line):
            check(line, first=number == 0)
        if number and OPENS[kind].match(line):
            depth += 1
            in_a_note = line.startswith("note ")
        elif CLOSES[kind].match(line):
            depth -= 1
            in_a_note = False
        if depth < 0:
            raise Malformed(f"more is ended than was begun: {line}")
    if depth:
        raise Malformed(f"{depth} of its blocks have no end")


def _check_flowchart(line: str, first: bool) -> None:
    if first:
        if not re.fullmatch(r"flowchart (TD|TB|LR|RL|BT)", line):
            raise Malformed(f"flowchart takes one of TD, TB, LR, RL, BT: {line}")
        return
    bare = SHAPE.sub("", QUOTED.sub("Q", line))
    if re.search(r"[\[\](){}]", bare) or LABEL.search(QUOTED.sub("", line)):
        raise Malformed(f"a label with brackets must stand in quotation marks: {line}")
    words = re.match(r"(subgraph|end|direction|style|classDef|class|linkStyle|click)\b", line)
    if words or EDGE.search(bare):
        return
    if not re.fullmatch(r"[\w-]+(:::\w+)?;?", bare):
        raise Malformed(f"neither a node nor an arrow: {line}")


def _check_sequence(line: str, first: bool) -> None:
    if first and line != "sequenceDiagram":
        raise Malformed(f"sequenceDiagram stands alone in its line: {line}")
    if not SEQUENCE.fullmatch(line):
        raise Malformed(f"neither a message nor a note nor a block: {line}")
    if ";" in re.sub(r"#\w+;|&\w+;", "", line):
        raise Malformed(f"a semicolon ends a message; write #59; : {line}")


def _check_state(line: str, first: bool) -> None:
    if not STATE.fullmatch(line):
        raise Malformed(f"neither a state nor a transition: {line}")
