"""The page: one HTML file that opens offline, in which the schedules can be zoomed and asked."""

import dataclasses
import html
import json
from pathlib import Path

from benchmarks.timeline.schedule import Lane, Schedule
from benchmarks.timeline.svg import (
    CLIENT_COLOURS,
    COLOURS,
    LEGEND_ENTRIES,
    Figure,
    Window,
    heading_of,
)

PAGE, STYLE, SCRIPT = (
    Path(__file__).with_name(f"page.{suffix}") for suffix in ("html", "css", "js")
)
PAPER = ("#ffffff", "#0d1117")


def page_of(figure: Figure) -> str:
    """The whole page. It asks for nothing from any network; its content policy forbids it."""
    panels = [
        _panel(schedule, window, said)
        for schedule, window, said in zip(
            figure.schedules, figure.windows, figure.said, strict=True
        )
    ]
    data = json.dumps({"unit": figure.unit, "panels": panels}, ensure_ascii=False)
    return PAGE.read_text(encoding="utf-8").format(
        title=html.escape(figure.title),
        style=_colours() + STYLE.read_text(encoding="utf-8"),
        # Nothing in it may begin or end anything of the page's own.
        data=data.replace("<", "\\u003c"),
        script=SCRIPT.read_text(encoding="utf-8"),
        legend="".join(
            f'<li><i class="{look}"></i>{html.escape(text)}</li>' for look, text in LEGEND_ENTRIES
        ),
        notes="".join(f'<p class="quiet">{html.escape(note)}</p>' for note in figure.notes),
    )


def _panel(schedule: Schedule, window: Window, said: str) -> dict:
    return {
        "name": schedule.name,
        "heading": heading_of(schedule),
        "said": said,
        "window": [window.start, window.end],
        "zero": window.zero,
        "lanes": [_lane(lane) for lane in schedule.lanes],
        "clients": schedule.clients,
        "deaf": schedule.deaf,
        "ways": [
            {
                "client": way.message.client,
                "text": way.message.text,
                "at": way.at,
                "deliveries": way.deliveries,
                "blocks": way.blocks,
            }
            for way in schedule.ways
        ],
    }


def _lane(lane: Lane) -> dict:
    return {"name": lane.name, "blocks": [dataclasses.asdict(block) for block in lane.blocks]}


def _colours() -> str:
    """The colours as variables, for light and for dark, and a rule for each client."""
    rules = []
    for place in (0, 1):
        pairs = {**COLOURS, "paper": PAPER}
        pairs |= {f"client{number}": pair for number, pair in enumerate(CLIENT_COLOURS)}
        values = "".join(f"--{name}: {pair[place]};" for name, pair in pairs.items())
        rules.append(
            f"@media (prefers-color-scheme: dark) {{:root {{{values}}}}}"
            if place
            else f":root {{{values}}}"
        )
    for number in range(len(CLIENT_COLOURS)):
        colour = f"var(--client{number})"
        rules.append(
            f".c{number} {{fill: {colour}; background: {colour}}} .s{number} {{stroke: {colour}}}"
        )
    return "\n".join(rules) + "\n"
