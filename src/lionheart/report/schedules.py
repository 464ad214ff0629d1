"""The section on several cores: what each core does when, all digital and mapped, for each platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lionheart.report.data import RunFacts
from lionheart.report.gantt import GanttBar, draw_gantt
from lionheart.report.text import describe_gain, format_percent
from lionheart.units import format_si

_MOST_BARS = 1200  # of a chart; with more, fewer inferences are drawn
_COLOURS = {
    "digital": ("products on the core", "digital"),
    "other ops": ("other operations", "digital shade-2"),
    "network io": ("network input and output", "rest"),
    "tile support": ("core's work around tiles", "analog shade-2"),
    "tile": ("tiles at work", "analog"),
    "program": ("programming of tiles", "program"),
}
_QUANTITIES = (
    ("first result after", "latency_s", "s", "latency_gain", "sooner", "later"),
    ("then one result every", "interval_s", "s", "throughput_gain", "more results", "fewer results"),
    ("energy of an inference", "energy_per_inference_j", "J", "energy_gain", "less", "more"),
)


def list_schedules(facts: RunFacts) -> list[dict[str, Any]]:
    """Return the figures, charts and cores of each platform that was simulated on several cores or with few tiles."""
    return [_describe(pipeline) for pipeline in facts.results["pipelines"] or []]


def _describe(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    sides = (("all digital", pipeline["all_digital"]), ("mapped", pipeline["mapped"]))
    n_shown = min(_count_inferences(side["events"]) for _, side in sides)
    shown = [[event for event in side["events"] if event["inference"] < n_shown] for _, side in sides]
    end_s = max((event["end_s"] for events in shown for event in events), default=0.0)
    charts = []
    for (title, side), events in zip(sides, shown, strict=True):
        lanes = [f"core {number + 1}" for number in range(len(side["cores"]))]
        label = f"What each core does over time, {title}"
        charts.append((title, draw_gantt([_make_bar(each) for each in _join(events)], lanes, end_s=end_s, label=label)))
    kinds = {event["kind"] for events in shown for event in events}
    n = pipeline["n_inferences"]
    return {
        "platform": pipeline["platform"],
        "n_cores": pipeline["n_cores"],
        "shown": f"{n} inference{'s' if n > 1 else ''}" + ("" if n_shown >= n else f", the first {n_shown} drawn"),
        "quantities": [
            (name, *(format_si(side[key], unit) for _, side in sides), describe_gain(pipeline[gain], more, less))
            for name, key, unit, gain, more, less in _QUANTITIES
        ],
        "charts": charts,
        "legend": [colour for kind, colour in _COLOURS.items() if kind in kinds],
        "cores": [_describe_cores(number, sides) for number in range(max(len(side["cores"]) for _, side in sides))],
        "tiles": describe_tiles(pipeline),
        "notes": pipeline["notes"],
    }


def _count_inferences(events: Sequence[Mapping[str, Any]]) -> int:
    """Return how many inferences can be drawn, at least one."""
    counts: dict[int, int] = {}
    for event in events:
        counts[event["inference"]] = counts.get(event["inference"], 0) + 1
    n_shown = n_bars = 0
    for inference in sorted(counts):
        n_bars += counts[inference]
        if n_shown and n_bars > _MOST_BARS:
            break
        n_shown += 1
    return n_shown


def _join(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the events to draw: neighbours of one layer and colour as one, pauses for a handover left out."""
    joined: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda each: (each["core"], each["start_s"])):
        last = joined[-1] if joined else None
        if event["kind"] not in _COLOURS:
            continue
        if last and all(last[key] == event[key] for key in ("core", "inference", "layer", "kind")):
            last["end_s"] = event["end_s"]
        else:
            joined.append(dict(event))
    return joined


def _make_bar(event: Mapping[str, Any]) -> GanttBar:
    name, css_class = _COLOURS[event["kind"]]
    times = f"{format_si(event['start_s'], 's')} to {format_si(event['end_s'], 's')}"
    number = event["inference"] + 1
    return GanttBar(
        event["core"],
        number,
        event["start_s"],
        event["end_s"],
        css_class,
        f"{event['layer']}: {name}; inference {number}, {times}",
    )


def _describe_cores(number: int, sides: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    cells = [f"{number + 1}"]
    for _, side in sides:
        if number < len(side["cores"]):
            core = side["cores"][number]
            cells += [format_percent(core["utilisation"], 0), ", ".join(core["layers"])]
        else:
            cells += ["off", ""]
    return cells


def describe_tiles(pipeline: Mapping[str, Any]) -> str:
    """Return in words how many tiles there are, which layers share them, and which have none."""
    wanted, packed, used = (pipeline[key] for key in ("n_tiles_wanted", "n_tiles_packed", "n_tiles"))
    limit = "" if pipeline["max_tiles"] is None else f" of {pipeline['max_tiles']}"
    text = f"{used}{limit} tile{'' if used == 1 else 's'} in use; all analog layers would take {wanted}"
    text += f", or {packed} if they shared them." if packed < wanted else "."
    sharing = {fqn for layers in pipeline["sharing"] for fqn in layers} - set(pipeline["reprogrammed"])
    text += f" {len(sharing)} layers share tiles; those in one tile take turns." if sharing else ""
    if pipeline["without_tiles"]:
        text += f" Digital for want of tiles: {', '.join(pipeline['without_tiles'])}."
    if pipeline["reprogrammed"]:
        text += f" Programmed again for every inference: {', '.join(pipeline['reprogrammed'])}."
    return text
