"""Question: what does a connection cost that says nothing?

Method: 10 active clients play closed-loop `/ping` while 0 to 10,000 others are connected and
silent; server CPU time per message against their number, and what the server's memory (RSS, and
for threads the kernel's stacks) grew by per idle connection. The idle ones are greeted but give no
name: in a chat room 10,000 names would first be announced to 10,000 others.

Expect: the cost of select() to rise with the number of connections it is handed on every call, and
the others to stay flat (the picture of libev's benchmark); a thread to take by far the most memory;
v2 and v3 to say `! server full` about where FD_SETSIZE (1024) ends select().
"""

from benchmarks import summary
from benchmarks.load import Load, ask_in_turn
from benchmarks.measure import kernel_stack_kib

TITLE = "Idle: the cost of connections that say nothing"
QUESTION = "What does a silent connection cost, in CPU time per message of others and in memory?"
PROFILES = ("echo", "chat")
ACTIVE = 10
SIZES = {
    "smoke": {"seconds": 0.05, "warmup": 0.02, "idle": [0, 20]},
    "quick": {"seconds": 0.3, "warmup": 0.1, "idle": [0, 400, 900]},
    "full": {"seconds": 1.0, "warmup": 0.3, "idle": [0, 100, 300, 600, 900, 5000, 10_000]},
}


def points(parameters: dict) -> list[dict]:
    """Numbers of idle connections."""
    return [{"idle": idle, "active": ACTIVE} for idle in parameters["idle"]]


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    active = load.connect(point["active"])
    load.join(active)
    for _ in range(5):  # so that what the active ones need is there before memory is read
        load.settle(active)
    probe = load.probe
    rss_before, threads_before = probe.rss_bytes(), probe.threads()
    load.connect(point["idle"])
    load.settle(active)
    memory: dict[str, float] = {"threads": probe.threads()}
    if point["idle"]:
        threads = probe.threads() - threads_before
        memory["rss_kib"] = (probe.rss_bytes() - rss_before) / 1024 / point["idle"]
        memory["kernel_stack_kib"] = threads * kernel_stack_kib() / point["idle"]
    metrics = ask_in_turn(load, active, "x", parameters["warmup"], parameters["seconds"])
    return {"metrics": metrics | memory}


def tables(result: dict) -> list[summary.Table]:
    """CPU time per message and memory per connection, by idle connections."""

    def idle(point: dict) -> str:
        return f"{point['idle']}"

    def some(point: dict) -> bool:
        return point["idle"] > 0

    return [
        summary.pivot(result, "idle", "server_cpu_us", "idle", idle),
        summary.pivot(result, "idle", "replies_per_s", "idle", idle),
        summary.pivot(result, "idle", "rss_kib", "idle", idle, some),
        summary.pivot(result, "idle", "kernel_stack_kib", "idle", idle, some),
    ]


def growth(result: dict, server: str) -> tuple[int, summary.Difference] | None:
    """(idle connections, how much more a message costs with them than with none)."""
    cells = [
        cell
        for cell in summary.cells(result, "idle")
        if cell.server == server and "server_cpu_us" in cell.summaries
    ]
    if len(cells) < 2 or cells[0].point["idle"]:
        return None
    first, last = cells[0], cells[-1]
    floor = summary.floor(result, "idle", last.point, "server_cpu_us")
    change = summary.difference(first.values["server_cpu_us"], last.values["server_cpu_us"], floor)
    return last.point["idle"], change


def conclusion(result: dict) -> str:
    """How much idle connections add to a message, and what each keeps in memory."""
    parts = []
    for entry in summary.servers(result, "idle"):
        found = growth(result, entry["id"])
        if found:
            parts.append(f"{entry['id']} with {found[0]:,} idle: {found[1].text}")
    sentences = []
    if parts:
        sentences.append(f"CPU time per message against no idle clients: {'; '.join(parts)}.")
    some = [point for point in summary.points(result, "idle") if point["idle"]]
    shared = summary.last_shared(result, "idle", some, "rss_kib")
    if shared:
        chain = summary.chain(result, "idle", shared, "rss_kib")
        sentences.append(f"Memory per idle connection, at {shared['idle']}: {chain}.")
    full = summary.first_refusals(result, "idle")
    if full:
        told = ", ".join(f"{server} at {held:,} clients" for server, held in full.items())
        sentences.append(f"Server full: {told}.")
    return " ".join(sentences)
