"""Draw a Gantt chart of the work of each core over time, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from lionheart.report.svg import LinearScale, choose_ticks, element

_LEFT, _TOP, _BOTTOM = 58.0, 6.0, 40.0
_LANE, _BAR = 36.0, 17.0  # height of a core's row, and of its bars; the inference number is above the bar
_NUMBER_GAP = 15.0
_THIN = 0.35  # smallest width of a bar [px]
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


@final
@dataclass(frozen=True)
class GanttBar:
    """One bar of a Gantt chart: a period in which a core performs one kind of work.

    Args:
        lane: Index of the row of the core, counted from 0 at the top.
        number: Number of the inference, counted from 1. The number is written at the first bar of the inference in each row.
        start_s: Start time [s].
        end_s: End time [s].
        css_class: CSS class that sets the colour.
        tooltip: Text that browsers show as a tooltip.
    """

    lane: int
    number: int
    start_s: float
    end_s: float
    css_class: str
    tooltip: str


def draw_gantt(
    bars: Sequence[GanttBar], lanes: Sequence[str], *, end_s: float, label: str, width: float = 1040.0
) -> Markup:
    """Return a Gantt chart with one row for each name in `lanes`.

    Args:
        bars: Bars of all rows. Bars in the same row must not overlap.
        lanes: Names of the rows, from top to bottom.
        end_s: End of the time axis [s]. Charts with the same end have the same scale.
        label: Description of the chart for screen readers.
        width: Width of the drawing [px].
    """
    x = LinearScale(0.0, end_s if end_s > 0 else 1.0, _LEFT, width - 18)
    bottom = _TOP + _LANE * len(lanes)
    parts = _draw_axis(x, bottom)
    for lane, name in enumerate(lanes):
        y = _TOP + _LANE * (lane + 1) - _BAR / 2 - 2
        parts.append(element("text", name, class_="tick", x=_LEFT - 10, y=y + 4, text_anchor="end"))
    parts += [_draw_bar(bar, x) for bar in bars]
    parts += _draw_numbers(bars, x)
    return element(
        "svg",
        *parts,
        class_="chart gantt",
        viewBox=f"0 0 {width:g} {bottom + _BOTTOM:g}",
        role="img",
        aria_label=label,
    )


def _draw_axis(x: LinearScale, bottom: float) -> list[Markup]:
    size, unit = next(((size, unit) for size, unit in _UNITS if x.high >= size), _UNITS[-1])
    parts = []
    for tick in choose_ticks(0.0, x.high / size, 8):
        place = x(tick * size)
        parts.append(element("line", class_="grid", x1=place, x2=place, y1=_TOP, y2=bottom))
        parts.append(element("text", f"{tick:g}", class_="tick", x=place, y=bottom + 17, text_anchor="middle"))
    parts.append(element("line", class_="axis", x1=x.start, x2=x.end, y1=bottom, y2=bottom))
    middle = (x.start + x.end) / 2
    parts.append(element("text", f"time [{unit}]", class_="tick", x=middle, y=bottom + 34, text_anchor="middle"))
    return parts


def _draw_bar(bar: GanttBar, x: LinearScale) -> Markup:
    left = x(bar.start_s)
    return element(
        "rect",
        element("title", bar.tooltip),
        class_=bar.css_class,
        x=left,
        y=_TOP + _LANE * (bar.lane + 1) - _BAR - 2,
        width=max(x(bar.end_s) - left, _THIN),
        height=_BAR,
    )


def _draw_numbers(bars: Sequence[GanttBar], x: LinearScale) -> list[Markup]:
    """Return SVG elements that mark the start of each inference in each row.

    Each start has a line. The number of the inference is written at the line if there is enough space.
    """
    first: dict[tuple[int, int], float] = {}
    for bar in bars:
        key = (bar.lane, bar.number)
        first[key] = min(bar.start_s, first.get(key, bar.start_s))
    parts = []
    last: dict[int, float] = {}
    for (lane, number), start_s in sorted(first.items(), key=lambda item: (item[0][0], item[1])):
        place, bottom = x(start_s), _TOP + _LANE * (lane + 1) - 2
        parts.append(element("line", class_="begin", x1=place, x2=place, y1=bottom - _BAR - 5, y2=bottom))
        if place - last.get(lane, -_NUMBER_GAP) >= _NUMBER_GAP:
            parts.append(element("text", str(number), class_="tick number", x=place + 3, y=bottom - _BAR - 3))
            last[lane] = place
    return parts
