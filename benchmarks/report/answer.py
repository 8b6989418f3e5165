"""The answer to "threads, select or asyncio?": a table, three sentences, and what each step costs.

All of it is made from the numbers of a result, and changes when they do.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.metrics import METRICS, Metric, number, with_unit
from benchmarks.result.statistics import Ratio
from benchmarks.result.status import Refusal, Status
from benchmarks.result.table import Table, cell_text, compared, note_on_errors, notes_on
from benchmarks.result.view import Cell, MeasuredPoint, View
from harness.launcher import VERSIONS

TITLE = "Threads, select or asyncio?"
LOSSES_TITLE = "Where the newer model loses"
COMPETING = ("ours", "theirs")
MODELS = {
    "threads": ("threads",),
    "a select() loop": ("select", "broadcast"),
    "asyncio": ("asyncio",),
}
MOST_CLIENTS = "Most clients"
BEST = (
    "Bold: the best, and what is not told apart from it. Ratios are to the best, with their 95 %"
    " interval. The servers of a row were measured side by side, round by round, and all of them"
    " together show how much a number varies by chance (a block design; Tukey's intervals)."
)
ECHO = (
    "The echo servers (v1, v2) have no room: a client that stops reading can hold up others only"
    " where lines are passed on."
)
STEP = (
    "Bold: the better one, where a difference is shown. The last column is the newer one's number"
    " divided by the older one's, with its 95 % interval. It comes from all rounds, so it differs"
    " somewhat from the ratio of the two medians beside it. No difference shown: the interval holds"
    " 1, because the rounds differ too much, or there were too few of them."
)
WAKE_UPS = "A wake-up: the server slept, and runs again. A server that never sleeps has none."
MOST_REASONS = 3  # in a sentence that is to be remembered


# How some of the questions read in the middle of a sentence, by their experiment.
PHRASES = {
    "work": "the others' p99 while somebody computes",
    "stall": "the others' longest delay when somebody stops reading",
    "churn": "a client that comes and goes",
    "rush": "the last one in a rush",
    "fanout": "a line to a room",
}


@dataclass(frozen=True)
class Question:
    """A question, and the experiment, point and metric that answer it."""

    label: str
    experiment: str
    wanted: dict
    metric: str

    @property
    def in_a_sentence(self) -> str:
        """Its phrase, or the label with a small letter."""
        return PHRASES.get(self.experiment, self.label[0].lower() + self.label[1:])

    @property
    def about(self) -> Metric:
        """What is known of its metric."""
        return METRICS[self.metric]

    def label_at(self, point: MeasuredPoint) -> str:
        """`A message at chat load (50 clients, 5,000/s), µs of CPU`."""
        unit = self.about.unit + (" of CPU" if self.metric == "server_cpu_us" else "")
        values = [
            f"{point[name]:,} {name}" if name != "rate" else f"{point[name]:,}/s"
            for name in self.wanted
            if isinstance(point.get(name), int) and name not in ("active", "workers")
        ]
        where = f" ({', '.join(values)})" if values else ""
        return f"{self.label}{where}{f', {unit}' if unit else ''}"

    def number_of(self, cell: Cell) -> str:
        """The number of a cell that ranks, with its unit."""
        return with_unit(self.metric, cell.number(self.metric))

    def is_better(self, ratio: Ratio) -> bool:
        """Whether the first of the two compared is the better one."""
        return ratio.is_less == self.about.lower_is_better


CHAT = {"mode": "paced", "clients": 50, "rate": 5000}
SATURATED = {"mode": "saturated", "clients": 100}
AMONG_IDLE = {"idle": 900, "active": 1}
ROOM = {"mode": "paced", "readers": 100}
MAIN_QUESTIONS = (
    Question("A message at chat load", "ping", CHAT, "server_cpu_us"),
    Question("A message at saturation", "ping", SATURATED, "server_cpu_us"),
)
QUESTIONS = (
    *MAIN_QUESTIONS,
    Question("A message of one client among the idle", "idle", AMONG_IDLE, "server_cpu_us"),
    Question("Memory per idle connection", "idle", AMONG_IDLE, "memory_kib"),
    Question("Somebody computes: p99 of the others", "work", {"workers": 1}, "p99_ms"),
    Question("Somebody stops reading: longest delay of the others", "stall", {}, "worst_delay_ms"),
    Question("A client comes and goes", "churn", {}, "server_cpu_us"),
    Question("A rush: the last one is greeted", "rush", {}, "last_greeting_ms"),
    Question("A line to a room, for each reader", "fanout", ROOM, "server_cpu_us"),
)
# What explains a step, and is nobody's gain or loss.
EXPLAINING = (
    Question("Wake-ups for a message at chat load", "ping", CHAT, "wakeups_per_message"),
    Question("Wake-ups for a message at saturation", "ping", SATURATED, "wakeups_per_message"),
)


def asked(
    view: View, questions: tuple[Question, ...] = QUESTIONS
) -> Iterator[tuple[Question, MeasuredPoint]]:
    """The questions that a result answers, each with its point.

    A result of another size may not have the point; then it is the last one of the same mode.
    """
    for question in questions:
        mode = {name: value for name, value in question.wanted.items() if isinstance(value, str)}
        exact = view.points(question.experiment, **question.wanted)
        for point in exact[:1] or view.points(question.experiment, **mode)[-1:]:
            yield question, point


def answer(view: View) -> Table:
    """A row for each question, a column for each version, and one to compare them with."""
    entries = [entry for entry in view.entries if entry["kind"] in COMPETING]
    headers = ["", *(entry["label"] for entry in entries), "For comparison"]
    table = Table(TITLE, headers, [], [BEST])
    for question, point in asked(view):
        row = [question.label_at(point)]
        if note := note_on_errors(point, question.metric, question.label):
            table.notes.append(note)
        for entry in entries:
            cell = point.cells.get(entry["id"])
            text, is_best = compared(point, cell, question.metric, COMPETING, in_words=True)
            if is_best:
                table.marks.add((len(table.rows), len(row)))
            elif cell and cell.ranks(question.metric) and (timeout := _timeout(cell, question)):
                text = f"{text.splitlines()[0]}\n{timeout}"
            row.append(text)
        # What the model costs without the rest: the best floor in C, where floors take part.
        beside = "floor" if "floor" in EXPERIMENTS[question.experiment].kinds else "tutorial"
        best = point.ranking(question.metric, (beside,))[:1]
        texts = [f"{number(c.number(question.metric))}\n{c.entry['label']}" for c in best]
        table.rows.append([*row, *(texts or [""])])
    capacities = most_clients(view)
    if capacities and table.rows:
        known = [capacities.get(entry["id"]) for entry in entries]
        if len({*known} - {None}) > 1:
            most = max(capacities.values())
            columns = enumerate(known, start=1)
            table.marks.update((len(table.rows), at) for at, held in columns if held == most)
        table.rows.append([MOST_CLIENTS, *(str(capacity or "") for capacity in known), ""])
    if len({entry["profile"] for entry in entries}) > 1:
        table.notes.append(ECHO)
    return table


@dataclass(frozen=True, order=True)
class Capacity:
    """How many clients a server held, and whether it would have taken more."""

    count: int
    more: bool

    def __str__(self) -> str:
        return f"at least {self.count:,}" if self.more else f"{self.count:,}"


def most_clients(view: View) -> dict[str, Capacity]:
    """How many clients each server held."""
    capacities: dict[str, Capacity] = {}
    for row in view.result["refusals"]:
        if Refusal.of_row(row) is Refusal.SERVER_FULL:
            held = Capacity(row["held"], False)
            capacities[row["server"]] = min(held, capacities.get(row["server"], held))
    for trial in view.result["trials"]:
        count = EXPERIMENTS[trial["experiment"]].clients_needed(trial["point"])
        known = capacities.get(trial["server"], Capacity(0, True))
        if Status(trial["status"]).has_numbers and known.more:
            capacities[trial["server"]] = max(known, Capacity(count, True))
    return capacities


def _timeout(cell: Cell, question: Question) -> str | None:
    """`the configured 1 s`, where a number is a timeout that ran out."""
    dropped, value = cell.median("dropped_after_s"), cell.median(question.metric)
    if not question.about.configured or dropped is None or value is None:
        return None
    near = abs(value / 1000 - dropped) <= 0.25 * dropped
    return f"the configured {dropped:.1g} s" if near else None


# Which to choose when


@dataclass(frozen=True)
class Reason:
    """What speaks for a model or against it, and how many times apart the numbers are."""

    times: float
    text: str
    is_main: bool = False


def sentences(view: View) -> list[str]:
    """One for each model: what it is best at, and what it costs most dearly."""
    return list(filter(None, (_sentence(view, *model) for model in MODELS.items())))


def _sentence(view: View, model: str, names: tuple[str, ...]) -> str:
    """The questions at which a model wins by most, and the one at which it loses by most.

    Each question is answered by the best server of the model, and none by a configured timeout.
    """
    ours = {entry["id"]: entry["model"] for entry in view.entries if entry["kind"] == "ours"}
    mine = {server for server, its_model in ours.items() if its_model in names}
    gains: list[Reason] = []
    losses: list[Reason] = []
    winners = []
    for question, point in asked(view):
        ranked = [] if question.about.configured else point.ranking(question.metric, ("ours",))
        chosen = next((cell for cell in ranked if cell.server in mine), None)
        rival = next((cell for cell in ranked if cell.server not in mine), None)
        if not (chosen and rival):
            continue
        ratio = chosen.ratio_to(rival, question.metric)
        times = max(ratio.value, 1 / ratio.value) if ratio.value else 1.0
        if ratio.shown and not question.is_better(ratio):
            text = f"{question.in_a_sentence}, {ratio.text} that of {rival.server}"
            losses.append(Reason(times, text))
        elif ratio.shown:
            text = f"{question.in_a_sentence} ({question.number_of(chosen)})"
            gains.append(Reason(times, text, question in MAIN_QUESTIONS))
            winners.append(chosen.server)
    held = {server: one for server, one in most_clients(view).items() if server in ours}
    own = max((held[server] for server in mine & held.keys()), default=Capacity(0, True))
    others = [capacity for server, capacity in held.items() if server not in mine]
    if others and own >= max(others) and not min(others).more:
        gains.append(Reason(own.count / min(others).count, f"many clients ({own})"))
    elif others and not own.more:
        text = f"more than {own.count:,} clients, where another holds {max(others)}"
        losses.append(Reason(max(others).count / own.count, text))
    servers = list(dict.fromkeys(winners)) or sorted(mine & held.keys())
    return _worded(f"{model} ({_listed(servers)})", gains, losses) if servers else ""


def _worded(name: str, gains: list[Reason], losses: list[Reason]) -> str:
    gains = sorted(gains, key=lambda gain: (not gain.is_main, -gain.times, gain.text))
    texts = [gain.text for gain in gains[:MOST_REASONS]]
    text = f"Choose {name} for {_listed(texts)}" if gains else f"Nothing here speaks for {name}"
    if losses:
        dearest = max(losses, key=lambda loss: (loss.times, loss.text))
        return f"{text}; {'not' if gains else 'least of all it is not'} for {dearest.text}."
    return f"{text}; at nothing here is another model shown to be better."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# What each step costs


@dataclass(frozen=True)
class Step:
    """From one version to the next, and what is worse then, a line each."""

    older: str
    newer: str
    losses: list[str]


def losses(view: View) -> list[Step]:
    """Each step that was measured. A configured timeout is no loss against another one."""
    servers = {entry["version"]: entry["id"] for entry in reversed(view.entries)}
    return [
        Step(servers[older], servers[newer], _lost(view, servers[older], servers[newer]))
        for older, newer in itertools.pairwise(VERSIONS)
        if older in servers and newer in servers
    ]


def _lost(view: View, older: str, newer: str) -> list[str]:
    lines = []
    for question, point in asked(view):
        before, after = point.cells.get(older), point.cells.get(newer)
        if not (before and after):
            continue
        ratio = after.ratio_to(before, question.metric)
        timeout = _timeout(after, question)
        if not ratio.shown or question.is_better(ratio) or (timeout and _timeout(before, question)):
            continue
        change = timeout or f"{question.number_of(after)}, {ratio.text}"
        lines.append(f"{question.in_a_sentence}: {question.number_of(before)} → {change}")
    held = most_clients(view)
    if older in held and newer in held and not held[newer].more and held[newer] < held[older]:
        lines.append(f"it holds {held[newer].count:,} clients, then says `! server full`")
    return lines


def step(view: View, newer: str, older: str | None) -> Table:
    """What two servers cost, each row with how many times the older one's number the newer's is.

    Without `older` there is one column. What neither of them was asked is left out.
    """
    servers = [older, newer] if older else [newer]
    labels = [view.entry_of[server]["label"] for server in servers]
    table = Table("", ["", *labels], [])
    statuses: list[Status] = []
    explained = False
    for question, point in asked(view, (*QUESTIONS, *EXPLAINING)):
        cells = [point.cells.get(server) for server in servers]
        if not any(cell and question.metric in cell.values for cell in cells):
            continue
        statuses += [cell.status for cell in cells if cell]
        row = [question.label_at(point), *(_alone_text(cell, question) for cell in cells)]
        if question in EXPLAINING:
            explained = True
            row += [""] if older else []
        elif older:
            ranked = [cell for cell in cells if cell and cell.ranks(question.metric)]
            ratio = ranked[-1].ratio_to(ranked[0], question.metric) if len(ranked) == 2 else None
            row.append(ratio.text if ratio else "not compared")
            if ratio and ratio.shown:
                table.marks.add((len(table.rows), 2 if question.is_better(ratio) else 1))
        table.rows.append(row)
    capacities = most_clients(view)
    if any(server in capacities for server in servers):
        texts = [str(capacities.get(server, "")) for server in servers]
        table.rows.append([MOST_CLIENTS, *texts, *([""] if older else [])])
    if older:
        table.headers.append(f"{labels[1]} / {labels[0]}")
        table.notes.append(STEP)
    table.notes.extend(notes_on(statuses))
    if explained:
        table.notes.append(WAKE_UPS)
    if len({entry["profile"] for entry in view.entries if entry["id"] in servers}) > 1:
        table.notes.append(ECHO)
    return table


def _alone_text(cell: Cell | None, question: Question) -> str:
    """A number, with its mark where it does not rank, or the timeout that it is."""
    text = cell_text(cell, question.metric)
    timeout = cell and _timeout(cell, question)
    return f"{text}\n{timeout}" if timeout else text
