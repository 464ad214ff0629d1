"""Draw figures as inline SVG. The style sheet of the page sets the colours.

The drawing functions have no side effects and return SVG elements. Points, bars and reference lines have a ``<title>`` element,
which browsers show as a tooltip. The widths of bars are percentages of the width of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from lionheart.report.svg import LinearScale, TimeScale, choose_ticks, element, spread_labels
from lionheart.units import format_duration

_LEFT, _TOP, _BOTTOM = 46.0, 22.0, 38.0
_TICK_GAP, _LABEL_GAP = 34.0, 15.0


@final
@dataclass(frozen=True)
class TimePoint:
    """The scores of all simulated chips at one time since programming. A score is an accuracy in percent or a perplexity.

    Args:
        t_inference: Time since programming [s].
        mean: Mean score over chips.
        low: Lower end of the confidence interval of the mean.
        high: Upper end of the confidence interval of the mean.
        tooltip: Text that browsers show as a tooltip.
        scores: Score of each chip.
    """

    t_inference: float
    mean: float
    low: float
    high: float
    tooltip: str
    scores: tuple[float, ...] = ()


@final
@dataclass(frozen=True)
class Guide:
    """A horizontal reference line across a chart.

    Args:
        value: Value at which the line is drawn, in the unit of the vertical axis.
        label: Text at the right end of the line.
        css_class: CSS class of the line: ``digital`` or ``bound``.
    """

    value: float
    label: str
    css_class: str


@final
@dataclass(frozen=True)
class BarPart:
    """One segment of a stacked bar.

    Args:
        label: Name and value of the segment, which browsers show as a tooltip.
        value: Length of the segment, at least 0. All segments of a bar have the same unit.
        css_class: CSS class that sets the colour.
    """

    label: str
    value: float
    css_class: str


@final
@dataclass(frozen=True)
class ChartStyle:
    """Size and labels of a chart over time.

    Args:
        width: Width of the drawing [px].
        height: Height of the drawing [px].
        label_width: Space at the right for the labels of reference lines [px].
        css_class: Additional CSS class of the drawing; empty for none.
        title: Name of the quantity on the vertical axis.
        unit: Unit of the vertical axis.
    """

    width: float = 1040.0
    height: float = 340.0
    label_width: float = 132.0
    css_class: str = ""
    title: str = "Accuracy"
    unit: str = "%"


def draw_time_chart(
    points: Sequence[TimePoint],
    guides: Sequence[Guide],
    *,
    t_marked: float | None = None,
    style: ChartStyle = ChartStyle(),
) -> Markup:
    """Return a chart of scores over time since programming, with a logarithmic time axis.

    A line shows the mean score over chips, a band shows its confidence interval, and dots show the scores of the chips.

    Args:
        points: Scores at one or more times, in ascending order of time.
        guides: Horizontal reference lines.
        t_marked: Time since programming for which the mapping was selected [s]. The chart has a vertical line at this time.
            None for no line.
        style: Size and labels of the chart.
    """
    times = [p.t_inference for p in points] + ([] if t_marked is None else [t_marked])
    right = style.width - style.label_width
    x = TimeScale.over(times, _LEFT + 14, right - 14)
    low, high = _value_range(points, guides)
    y = LinearScale(low, high, style.height - _BOTTOM, _TOP)
    parts = [*_draw_grid(y, right, style.unit), *_draw_time_axis(x, times, y.start)]
    if t_marked is not None:
        parts.append(_draw_marked_time(x(t_marked), y))
    parts += _draw_guides(guides, y, right)
    parts += _draw_points(points, x, y)
    return element(
        "svg",
        *parts,
        class_=f"chart {style.css_class}".rstrip(),
        viewBox=f"0 0 {style.width:g} {style.height:g}",
        role="img",
        aria_label=f"{style.title} over time since programming",
    )


def _value_range(points: Sequence[TimePoint], guides: Sequence[Guide]) -> tuple[float, float]:
    values = [v for p in points for v in (p.low, p.high, p.mean, *p.scores)] + [g.value for g in guides]
    pad = max(0.08 * (max(values) - min(values)), 0.1)
    return min(values) - pad, max(values) + pad


def _draw_grid(y: LinearScale, right: float, unit: str) -> list[Markup]:
    ticks = choose_ticks(y.low, y.high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for tick in ticks:
        parts.append(element("line", class_="grid", x1=_LEFT, x2=right, y1=y(tick), y2=y(tick)))
        parts.append(
            element("text", f"{tick:.{digits}f}", class_="tick", x=_LEFT - 8, y=y(tick) + 4, text_anchor="end")
        )
    parts.append(element("text", unit, class_="tick", x=_LEFT - 8, y=_TOP - 8, text_anchor="end"))
    return parts


def _draw_time_axis(x: TimeScale, times: Sequence[float], bottom: float) -> list[Markup]:
    parts, last = [], -math.inf
    for seconds in sorted(set(times)):
        place = x(seconds)
        parts.append(element("line", class_="axis", x1=place, x2=place, y1=bottom, y2=bottom + 5))
        if place - last >= _TICK_GAP:
            label = format_duration(seconds)
            parts.append(element("text", label, class_="tick", x=place, y=bottom + 19, text_anchor="middle"))
            last = place
    parts.append(element("line", class_="axis", x1=_LEFT, x2=x.end + 14, y1=bottom, y2=bottom))
    middle = (x.start + x.end) / 2
    parts.append(
        element("text", "time since programming", class_="tick", x=middle, y=bottom + 34, text_anchor="middle")
    )
    return parts


def _draw_marked_time(place: float, y: LinearScale) -> Markup:
    return element(
        "g",
        element("title", "time for which the mapping was decided"),
        element("line", class_="marked", x1=place, x2=place, y1=y.start, y2=y.end),
        element("text", "decided here", class_="tick", x=place, y=y.end - 8, text_anchor="middle"),
    )


def _draw_guides(guides: Sequence[Guide], y: LinearScale, right: float) -> list[Markup]:
    parts = []
    places = spread_labels([y(guide.value) for guide in guides], _LABEL_GAP)
    for guide, place in zip(guides, places, strict=True):
        parts.append(
            element(
                "g",
                element("title", guide.label),
                element(
                    "line", class_=f"guide {guide.css_class}", x1=_LEFT, x2=right, y1=y(guide.value), y2=y(guide.value)
                ),
                element("text", guide.label, class_=f"label {guide.css_class}", x=right + 8, y=place + 4),
            )
        )
    return parts


def _draw_points(points: Sequence[TimePoint], x: TimeScale, y: LinearScale) -> list[Markup]:
    def path(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(t):.2f},{y(v):.2f}" for t, v in values)

    upper = [(p.t_inference, p.high) for p in points]
    lower = [(p.t_inference, p.low) for p in reversed(points)]
    dots = [
        element("circle", class_="chip", cx=x(p.t_inference), cy=y(score), r=2.2) for p in points for score in p.scores
    ]
    marks = [
        element(
            "g",
            element("title", p.tooltip),
            element("line", class_="whisker", x1=x(p.t_inference), x2=x(p.t_inference), y1=y(p.low), y2=y(p.high)),
            element("circle", class_="mean", cx=x(p.t_inference), cy=y(p.mean), r=4.2),
            element("circle", class_="target", cx=x(p.t_inference), cy=y(p.mean), r=14.0),
        )
        for p in points
    ]
    band = element("polygon", class_="band", points=path(upper + lower))
    line = element("polyline", class_="mean-line", points=path([(p.t_inference, p.mean) for p in points]))
    return [band, *dots, line, *marks]


def draw_stacked_bar(parts: Sequence[BarPart], *, full: float, height: float = 22.0) -> Markup:
    """Return a horizontal stacked bar.

    Args:
        parts: Segments from left to right.
        full: Value that corresponds to the whole width of the drawing, in the unit of the segments.
        height: Height of the bar [px].
    """
    left, drawn = 0.0, []
    for part in parts:
        share = 100 * part.value / full if full > 0 else 0.0
        if share > 0:
            title = element("title", part.label)
            drawn.append(
                element("rect", title, class_=part.css_class, x=f"{left:.3f}%", width=f"{share:.3f}%", height=height)
            )
        left += share
    label = "; ".join(part.label for part in parts)
    return element("svg", *drawn, class_="bar", width="100%", height=height, role="img", aria_label=label)


def draw_bullet(value: float, bound: float, *, full: float, css_class: str, label: str, height: float = 10.0) -> Markup:
    """Return a horizontal bar that shows a value, with a tick mark at a bound.

    Args:
        value: Length of the bar. A negative value is drawn as zero.
        bound: Position of the tick mark, in the unit of `value`.
        full: Value that corresponds to the whole width of the drawing. A bar with a larger value also has the whole width.
        css_class: CSS class that sets the colour of the bar.
        label: Text that browsers show as a tooltip.
        height: Height of the bar [px].
    """

    def place(number: float) -> float:
        return 100 * min(max(number / full, 0.0), 1.0) if full > 0 else 0.0

    return element(
        "svg",
        element("title", label),
        element("rect", class_="track", x="0", width="100%", height=height),
        element("rect", class_=css_class, x="0", width=f"{place(value):.2f}%", height=height),
        element("line", class_="tickmark", x1=f"{place(bound):.2f}%", x2=f"{place(bound):.2f}%", y1=0.0, y2=height),
        class_="bullet",
        width="100%",
        height=height,
        role="img",
        aria_label=label,
    )


def draw_sparkline(values: Sequence[float], *, label: str, width: float = 96.0, height: float = 24.0) -> Markup:
    """Return a small line chart of `values` with a dot at the last value, or empty markup if `values` is empty.

    Args:
        values: Values at equal distances, from left to right.
        label: Text that browsers show as a tooltip.
        width: Width of the drawing [px].
        height: Height of the drawing [px].
    """
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    y = LinearScale(low, high if high > low else low + 1.0, height - 4, 4.0)
    x = LinearScale(0.0, max(len(values) - 1.0, 1.0), 4.0, width - 4)
    points = [(x(float(index)), y(value)) for index, value in enumerate(values)]
    return element(
        "svg",
        element("title", label),
        element("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points)),
        element("circle", cx=points[-1][0], cy=points[-1][1], r=2.4),
        class_="spark",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def share_strip(work: Sequence[float], *, per_row: int = 10, minimum: float = 7.0) -> list[float]:
    """Return the width of each layer in a drawing of the network, in which the layers are boxes in several rows.

    The width of a layer is proportional to the square root of its number of MACs, unless this width is below `minimum`.

    Args:
        work: Number of multiply-accumulate operations (MACs) of each layer, in the order of the network.
        per_row: Average number of layers in a row, from which the number of rows is computed.
        minimum: Smallest width of a layer [% of a row].

    Returns:
        Widths in the order of `work` [% of a row], at most 100. Widths are below `minimum` only if there are so many layers
        that layers of this width would not fit in the rows.
    """
    roots = [math.sqrt(max(value, 0.0)) for value in work]
    left = 100.0 * math.ceil(len(roots) / per_row)
    minimum = min(minimum, left / max(len(roots), 1))
    small: set[int] = set()
    while True:
        rest = sum(root for index, root in enumerate(roots) if index not in small)
        available = left - minimum * len(small)
        new = {i for i, root in enumerate(roots) if i not in small and (rest <= 0 or available * root / rest < minimum)}
        if not new:
            break
        small |= new
    return [minimum if i in small else min(available * root / rest, 100.0) for i, root in enumerate(roots)]
