"""The answer to "threads, select or asyncio?": a table, three sentences, and what each step costs.

All of it is made from the numbers of a result, and changes when they do.
"""

from dataclasses import dataclass

from benchmarks.arithmetic.metrics import METRICS, number, with_unit
from benchmarks.arithmetic.results import Cell, View
from benchmarks.experiments import module
from benchmarks.showing.tables import MARKS, Table, cell_text

TITLE = "Threads, select or asyncio?"
COMPETING = ("ours", "theirs")
STEPS = (("v1_threads", "v2_select"), ("v2_select", "v3_broadcast"), ("v3_broadcast", "v4_asyncio"))
MODELS = {
    "threads": ("threads",),
    "a select() loop": ("select", "broadcast"),
    "asyncio": ("asyncio",),
}
MOST_CLIENTS = "Most clients"
ECHO = (
    "Who only echoes (v1, v2) has no room that could be held up: somebody who stops reading holds"
    " up others where lines are passed on."
)
STEP = (
    "Bold: the better one, where a difference is shown. The last column is the newer one's number"
    " divided by the older one's, with its 95 % interval. That is done in each round, so it differs"
    " somewhat from what the two numbers beside it give. No difference shown: the interval holds 1,"
    " as the rounds are too unlike each other, or there were too few of them."
)
WAKE_UPS = "A wake-up: the server has slept, and is there again. One that never sleeps has none."
MOST_REASONS = 3  # in a sentence that is to be remembered


@dataclass(frozen=True)
class Row:
    """A question: what is asked, and where the answer is."""

    label: str
    phrase: str  # the same in the middle of a sentence
    experiment: str
    wanted: dict  # the point, or if a result does not have it the last one of its mode
    metric: str
    beside: str = "floor"  # the kind of server to compare with


CHAT = {"mode": "paced", "clients": 50, "rate": 5000}
ROWS = (
    Row("A message at chat load", "a message at chat load", "ping", CHAT, "server_cpu_us"),
    Row(
        "A message at saturation",
        "a message at saturation",
        "ping",
        {"mode": "saturated", "clients": 100},
        "server_cpu_us",
    ),
    Row(
        "A message of one client among the idle",
        "a message of one client among the idle",
        "idle",
        {"idle": 900, "active": 1},
        "server_cpu_us",
    ),
    Row(
        "Memory per idle connection",
        "memory per idle connection",
        "idle",
        {"idle": 900, "active": 1},
        "memory_kib",
    ),
    Row(
        "Somebody computes: p99 of the others",
        "the others' p99 while somebody computes",
        "work",
        {"workers": 1},
        "p99_ms",
        "tutorial",
    ),
    Row(
        "Somebody stops reading: longest delay of the others",
        "the others' longest delay when somebody stops reading",
        "stall",
        {},
        "worst_delay_ms",
        "tutorial",
    ),
    Row("A client comes and goes", "a client that comes and goes", "churn", {}, "server_cpu_us"),
    Row(
        "A rush: the last one is greeted", "the last one in a rush", "rush", {}, "last_greeting_ms"
    ),
    Row(
        "A line to a room, for each reader",
        "a line to a room",
        "fanout",
        {"mode": "paced", "readers": 100},
        "server_cpu_us",
        "tutorial",
    ),
)
MAIN_ROWS = ROWS[:2]
# What explains a step, and is nobody's gain or loss.
EXPLAINING = (
    Row("Wake-ups for a message at chat load", "", "ping", CHAT, "wakeups_per_message"),
    Row(
        "Wake-ups for a message at saturation",
        "",
        "ping",
        {"mode": "saturated", "clients": 100},
        "wakeups_per_message",
    ),
)


def answer(view: View) -> Table:
    """A row for each question, a column for each version, and one to compare them with."""
    entries = [entry for entry in view.entries if entry["kind"] in COMPETING]
    rows, marks = [], set()
    for row in ROWS:
        point = point_of(view, row)
        if point is None:
            continue
        best = view.best(row.experiment, point, row.metric, COMPETING)
        cells = [_label(row, point)]
        for entry in entries:
            if entry["id"] in best:
                marks.add((len(rows), len(cells)))
            cells.append(_cell_text(view, row, point, entry["id"], best))
        rows.append([*cells, _beside(view, row, point)])
    held = most_clients(view)
    if held and rows:
        most = max(held.values())
        texts = [_held(*held[e["id"]]) if e["id"] in held else "" for e in entries]
        if len({held[entry["id"]] for entry in entries if entry["id"] in held}) > 1:
            for column, entry in enumerate(entries, start=1):
                if held.get(entry["id"]) == most:
                    marks.add((len(rows), column))
        rows.append([MOST_CLIENTS, *texts, ""])
    headers = ["", *(entry["label"] for entry in entries), "For comparison"]
    notes = [
        "Bold: the best, and what is not told apart from it. Ratios are to the best, with their"
        " 95 % interval, from trials paired round by round."
    ]
    if {entry["profile"] for entry in entries} == {"echo", "chat"}:
        notes.append(ECHO)
    return Table(TITLE, headers, rows, notes, marks)


def point_of(view: View, row: Row) -> dict | None:
    """Where a question was asked in this result; of another size it may be elsewhere."""
    mode = {name: value for name, value in row.wanted.items() if isinstance(value, str)}
    exact = view.points(row.experiment, **row.wanted)
    return next(iter(exact or view.points(row.experiment, **mode)[-1:]), None)


def most_clients(view: View) -> dict[str, tuple[int, bool]]:
    """For each server how many it held, and whether it would have taken more."""
    held: dict[str, tuple[int, bool]] = {}
    for row in view.result["refusals"]:
        if row["held"] is not None:
            known = held.get(row["server"], (row["held"], False))
            held[row["server"]] = min(known, (row["held"], False))
    for trial in view.result["trials"]:
        server, count = trial["server"], module(trial["experiment"]).clients_needed(trial["point"])
        if trial["status"] not in ("failed", "error") and held.get(server, (0, True))[1]:
            held[server] = max(held.get(server, (0, True)), (count, True))
    return held


def _held(count: int, more: bool) -> str:
    return f"at least {count:,}" if more else f"{count:,}"


def _label(row: Row, point: dict) -> str:
    """`A message at chat load (clients 50, rate 5,000), µs of CPU`."""
    unit = METRICS[row.metric].unit
    what = f", {unit} of CPU" if row.metric == "server_cpu_us" else f", {unit}" if unit else ""
    asked = [
        f"{point[name]:,} {name}" if name != "rate" else f"{point[name]:,}/s"
        for name in row.wanted
        if isinstance(point.get(name), int) and name not in ("active", "workers")
    ]
    where = f" ({', '.join(asked)})" if asked else ""
    return f"{row.label}{where}{what}"


def _cell_text(view: View, row: Row, point: dict, server: str, best: list[str]) -> str:
    """A number, and under it how many times the best it is."""
    cell = view.cell(row.experiment, point, server)
    if cell is None:
        return ""
    if cell.refused:
        return "server full" if "full" in cell.refused[1] else "not tried"
    value = cell.median(row.metric)
    if value is None or cell.status in ("failed", "error"):
        return cell.status
    text = number(value)
    if not cell.ranks(row.metric):
        return f"{text}\n{cell.status}"
    if server in best:
        return text
    if timeout := _timeout(cell, row.metric):
        return f"{text}\n{timeout}"
    return f"{text}\n{view.ratio(row.experiment, point, row.metric, server, best[0]).text}"


def _timeout(cell: Cell, metric: str) -> str | None:
    """`the configured 1 s`, where a number is a timeout that ran out."""
    dropped, value = cell.median("dropped_after_s"), cell.median(metric)
    if not METRICS[metric].configured or dropped is None or value is None:
        return None
    near = abs(value / 1000 - dropped) <= 0.25 * dropped
    return f"the configured {dropped:.1g} s" if near else None


def _beside(view: View, row: Row, point: dict) -> str:
    """The best floor in C, or the tutorials' server: what the model costs without the rest."""
    for cell in view.ranking(row.experiment, point, row.metric, (row.beside,)):
        entry = next(entry for entry in view.entries if entry["id"] == cell.server)
        return f"{number(cell.median(row.metric))}\n{entry['label']}"
    return ""


# Which to choose when


def sentences(view: View) -> list[str]:
    """One for each model: what it is best at, and what it costs most dearly."""
    return [
        sentence for model, names in MODELS.items() if (sentence := _sentence(view, model, names))
    ]


def _sentence(view: View, model: str, names: tuple[str, ...]) -> str:
    """The questions at which a model wins by most, and the one at which it loses by most.

    Where it wins at what a message costs, that comes first. Each question is answered by the best
    server of the model. One that a timeout decides which somebody chose is left out.
    """
    ours = {entry["id"]: entry["model"] for entry in view.entries if entry["kind"] == "ours"}
    mine = {server for server, its_model in ours.items() if its_model in names}
    won, lost, winners = [], [], []
    for row in ROWS:
        point = None if METRICS[row.metric].configured else point_of(view, row)
        ranked = view.ranking(row.experiment, point, row.metric, ("ours",)) if point else []
        best = view.best(row.experiment, point, row.metric, ("ours",)) if point else []
        chosen = next((cell for cell in ranked if cell.server in mine), None)
        others = [cell for cell in ranked if cell.server not in mine]
        if not chosen or not others:
            continue
        rival = others[0].server
        ratio = view.ratio(row.experiment, point, row.metric, chosen.server, rival)
        apart = max(ratio.value, 1 / ratio.value) if ratio.value else 1.0
        if chosen.server not in best:
            lost.append((apart, f"{row.phrase}, {ratio.text} that of {rival}"))
        elif rival not in best:
            text = f"{row.phrase} ({with_unit(row.metric, chosen.median(row.metric))})"
            won.append((row not in MAIN_ROWS, -apart, text))
            winners.append(chosen.server)
    held = {server: count for server, count in most_clients(view).items() if server in ours}
    own = max((held[server] for server in mine & held.keys()), default=(0, True))
    others = [count for server, count in held.items() if server not in mine]
    if others and own >= max(others) and not min(others)[1]:
        won.append((True, -own[0] / min(others)[0], f"many clients ({_held(*own)})"))
    elif others and not own[1]:
        text = f"more than {own[0]:,} clients, where another holds {_held(*max(others))}"
        lost.append((max(others)[0] / own[0], text))
    return _worded(model, list(dict.fromkeys(winners)) or sorted(mine & held.keys()), won, lost)


def _worded(model: str, servers: list[str], won: list[tuple], lost: list[tuple]) -> str:
    if not servers:
        return ""
    name = f"{model} ({_listed(servers)})"
    reasons = [text for *_, text in sorted(won)[:MOST_REASONS]]
    text = f"Choose {name} for {_listed(reasons)}" if reasons else f"Nothing here speaks for {name}"
    if lost:
        _, dearest = max(lost)
        return f"{text}; {'not' if reasons else 'least of all it is not'} for {dearest}."
    return f"{text}; at nothing here is another model shown to be better."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# What each step costs


def losses(view: View) -> list[tuple[str, str, list[str]]]:
    """(older, newer, what is worse) for each step of the study that was measured.

    Worse is what a paired interval says. A timeout that somebody chose is no loss against another.
    """
    of_version = {
        entry["version"]: entry["id"] for entry in reversed(view.entries) if entry["version"]
    }
    return [
        (of_version[older], of_version[newer], _lost(view, of_version[older], of_version[newer]))
        for older, newer in STEPS
        if older in of_version and newer in of_version
    ]


def _lost(view: View, older: str, newer: str) -> list[str]:
    found = []
    for row in ROWS:
        point = point_of(view, row)
        ratio = point and view.ratio(row.experiment, point, row.metric, newer, older)
        if not ratio or not ratio.shown or (ratio.value > 1) != _lower_is_better(row):
            continue
        before, after = (view.cell(row.experiment, point, name) for name in (older, newer))
        timeout = _timeout(after, row.metric)
        if timeout and _timeout(before, row.metric):
            continue
        was, now = (with_unit(row.metric, cell.median(row.metric)) for cell in (before, after))
        found.append(f"{row.phrase}: {was} → {timeout or f'{now}, {ratio.text}'}")
    held = most_clients(view)
    if older in held and newer in held and not held[newer][1] and held[newer] < held[older]:
        found.append(f"it holds {held[newer][0]:,} clients, then says `! server full`")
    return found


def _lower_is_better(row: Row) -> bool:
    return METRICS[row.metric].better == "lower"


def step(view: View, newer: str, older: str | None) -> Table:
    """What two servers cost, each row with how many times the older one's number the newer's is.

    Without `older` there is one column. What neither of them was asked is left out.
    """
    servers = [older, newer] if older else [newer]
    labels = {entry["id"]: entry["label"] for entry in view.entries}
    rows, marks, statuses = [], set(), {}
    for row in (*ROWS, *EXPLAINING):
        point = point_of(view, row)
        cells = [point and view.cell(row.experiment, point, server) for server in servers]
        if not any(cell and row.metric in cell.values for cell in cells):
            continue
        texts = [_alone_text(cell, row.metric) for cell in cells]
        statuses |= dict.fromkeys(cell.status for cell in cells if cell and cell.status in MARKS)
        if older and METRICS[row.metric].aside:
            texts.append("")
        elif older:
            ratio = view.ratio(row.experiment, point, row.metric, newer, older)
            texts.append(ratio.text if ratio else "not compared")
            if ratio and ratio.shown:
                newer_wins = (ratio.value < 1) == _lower_is_better(row)
                marks.add((len(rows), 2 if newer_wins else 1))
        rows.append([_label(row, point), *texts])
    held = most_clients(view)
    if any(server in held for server in servers):
        texts = [_held(*held[server]) if server in held else "" for server in servers]
        rows.append([MOST_CLIENTS, *texts, *([""] if older else [])])
    headers = ["", *(labels[server] for server in servers)]
    notes = [" ".join(MARKS[status]) for status in statuses]
    if older:
        headers.append(f"{labels[newer]} / {labels[older]}")
        notes.insert(0, STEP)
    if any(label.startswith("Wake-ups") for label, *_ in rows):
        notes.append(WAKE_UPS)
    if len({entry["profile"] for entry in view.entries if entry["id"] in servers}) > 1:
        notes.append(ECHO)
    return Table("", headers, rows, notes, marks)


def _alone_text(cell: Cell | None, metric: str) -> str:
    """A number, with its mark where it does not rank, or the timeout that it is."""
    if cell is None:
        return ""
    timeout = _timeout(cell, metric)
    return f"{cell_text(cell, metric)}\n{timeout}" if timeout else cell_text(cell, metric)
