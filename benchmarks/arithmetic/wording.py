"""Numbers in a sentence."""

from benchmarks.arithmetic.metrics import with_unit
from benchmarks.arithmetic.results import View


def best_and_worst(
    view: View, experiment: str, point: dict, metric: str, kinds: tuple[str, ...] = ("ours",)
) -> str:
    """`v1_threads 25.1 µs and v2_select 36.0 µs, 1.4 × (1.3 to 1.5)`.

    That is the best and the worst of those that may be compared, or nothing where they are fewer
    than two.
    """
    ranked = view.ranking(experiment, point, metric, kinds)
    if len(ranked) < 2:
        return ""
    labels = {entry["id"]: entry["label"] for entry in view.entries}
    best, worst = (
        f"{labels[cell.server]} {with_unit(metric, cell.median(metric))}"
        for cell in (ranked[0], ranked[-1])
    )
    apart = view.ratio(experiment, point, metric, ranked[-1].server, ranked[0].server)
    return f"{best} and {worst}, {apart.text}"
