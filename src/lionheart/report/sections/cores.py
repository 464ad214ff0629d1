"""Section of the report page that shows schedules on several cores.

For each platform, Gantt charts compare the all-digital network with the mapped network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.gantt import GanttBar, draw_gantt
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs.costs import PipelineRecord, ScheduleEvent, ScheduleRecord, WorkKind
from lionheart.runs.text import describe_gain, describe_shared_tiles, format_percent
from lionheart.units import format_si

_MOST_BARS = 1200  # in a chart; if there are more, fewer inferences are drawn
_COLOURS = {
    WorkKind.DIGITAL: ("products on the core", "digital"),
    WorkKind.OTHER: ("other operations", "digital shade-2"),
    WorkKind.NETWORK_IO: ("network input and output", "rest"),
    WorkKind.SUPPORT: ("core work for tiles", "analog shade-2"),
    WorkKind.TILE: ("tiles computing", "analog"),
    WorkKind.PROGRAM: ("programming of tiles", "program"),
}


def describe(data: ReportData) -> dict[str, Any] | None:
    """Return the template values of this section: one entry for each platform with a simulated schedule.

    Return None if there is no simulated schedule.
    """
    schedules = [_describe_pipeline(pipeline) for pipeline in data.pipelines]
    return {"schedules": schedules} if schedules else None


def _describe_pipeline(pipeline: PipelineRecord) -> dict[str, Any]:
    sides = (("all digital", pipeline.all_digital), ("mapped", pipeline.mapped))
    n_shown = min(_count_inferences(side.events) for _, side in sides)
    shown = [[event for event in side.events if event.inference < n_shown] for _, side in sides]
    end_s = max((event.end_s for events in shown for event in events), default=0.0)
    charts = []
    for (title, side), events in zip(sides, shown, strict=True):
        lanes = [f"core {number + 1}" for number in range(len(side.cores))]
        label = f"Work of each core over time, {title}"
        charts.append((title, draw_gantt([_make_bar(each) for each in _join(events)], lanes, end_s=end_s, label=label)))
    drawn = {event.kind for events in shown for event in events}
    n, schedules = pipeline.n_inferences, [side for _, side in sides]
    return {
        "platform": pipeline.platform,
        "n_cores": pipeline.n_cores,
        "shown": f"{n} inference{'s' if n > 1 else ''}" + ("" if n_shown >= n else f", the first {n_shown} drawn"),
        "quantities": _list_quantities(pipeline),
        "charts": charts,
        "legend": [colour for work, colour in _COLOURS.items() if work in drawn],
        "cores": [_describe_cores(number, schedules) for number in range(max(len(side.cores) for side in schedules))],
        "tiles": describe_shared_tiles(pipeline),
        "notes": pipeline.notes,
    }


def _list_quantities(pipeline: PipelineRecord) -> list[tuple[str, str, str, str]]:
    """Return the table rows for latency, interval between results, and energy.

    A row contains the name of the quantity, the value of the all-digital network, the value of the mapped network, and the gain
    in words.
    """
    digital, mapped = pipeline.all_digital, pipeline.mapped
    energies = (digital.energy_per_inference_j, mapped.energy_per_inference_j)
    rows = (
        ("first result after", (digital.latency_s, mapped.latency_s), "s", pipeline.latency_gain, ("sooner", "later")),
        (
            "then one result every",
            (digital.interval_s, mapped.interval_s),
            "s",
            pipeline.throughput_gain,
            ("more results", "fewer results"),
        ),
        ("energy of an inference", energies, "J", pipeline.energy_gain, ("less", "more")),
    )
    return [
        (name, format_si(all_digital_value, unit), format_si(mapped_value, unit), describe_gain(gain, *words))
        for name, (all_digital_value, mapped_value), unit, gain, words in rows
    ]


def _count_inferences(events: Sequence[ScheduleEvent]) -> int:
    """Return the number of inferences whose bars fit in one chart, counted from the first inference.

    The number is at least 1 unless `events` is empty.
    """
    counts = Counter(event.inference for event in events)
    n_shown = n_bars = 0
    for inference in sorted(counts):
        n_bars += counts[inference]
        if n_shown and n_bars > _MOST_BARS:
            break
        n_shown += 1
    return n_shown


def _join(events: Sequence[ScheduleEvent]) -> list[ScheduleEvent]:
    """Return the schedule events to draw, sorted by core and start time.

    Consecutive events on a core are joined if their layer, inference and kind of work are equal. Handovers of results
    between cores are left out.
    """
    joined: list[ScheduleEvent] = []
    for event in sorted(events, key=lambda each: (each.core, each.start_s)):
        if event.kind not in _COLOURS:
            continue
        if joined and _identify(joined[-1]) == _identify(event):
            joined[-1] = replace(joined[-1], end_s=event.end_s)
        else:
            joined.append(event)
    return joined


def _identify(event: ScheduleEvent) -> tuple[int, int, str, WorkKind]:
    return event.core, event.inference, event.layer, event.kind


def _make_bar(event: ScheduleEvent) -> GanttBar:
    name, css_class = _COLOURS[event.kind]
    times = f"{format_si(event.start_s, 's')} to {format_si(event.end_s, 's')}"
    number = event.inference + 1
    tooltip = f"{event.layer}: {name}; inference {number}, {times}"
    return GanttBar(event.core, number, event.start_s, event.end_s, css_class, tooltip)


def _describe_cores(number: int, schedules: Sequence[ScheduleRecord]) -> list[str]:
    cells = [f"{number + 1}"]
    for schedule in schedules:
        if number < len(schedule.cores):
            core = schedule.cores[number]
            cells += [format_percent(core.utilisation, 0), ", ".join(core.layers)]
        else:
            cells += ["off", ""]
    return cells


SECTIONS.add("cores", Section(40, describe))
