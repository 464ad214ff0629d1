"""Write the HTML page of a Pareto front: a chart of accuracy against cost, and a table of the mappings on the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from markupsafe import Markup

from lionheart.errors import ArtifactError
from lionheart.experimental.pareto.files import read_front
from lionheart.experimental.pareto.records import FrontResults, FrontRow
from lionheart.files import write_text
from lionheart.mapping import Placement
from lionheart.metrics import Metric
from lionheart.report.figures import Guide
from lionheart.report.page import environment
from lionheart.report.svg import LinearScale, choose_ticks, element, spread_labels
from lionheart.runs import Accuracy, RunDescription, RunDirectory
from lionheart.runs.text import describe_duration, format_percent
from lionheart.text import escape_controls
from lionheart.units import format_si

_WIDTH, _HEIGHT = 1040.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 150.0, 24.0, 46.0
_LABEL_GAP = 15.0
_BELOW = 1.0  # distance from the last bound to the lower end of the chart, as a share of that bound


@final
@dataclass(frozen=True)
class _Axis:
    """Horizontal axis of the chart for one objective of the search.

    The function `value_of` returns the position of a mapping on the axis, and the function `write` formats a position as
    text.
    """

    name: str
    value_of: Callable[[FrontRow], float]
    write: Callable[[float], str]


def _require(value: float | None) -> float:
    if value is None:
        raise ArtifactError(
            "pareto.json: mappings: got a mapping without 'latency_s' or 'energy_j', expected both values for "
            "the objective 'time' or 'energy'",
            hint="restore the file from a backup, or run the search again",
        )
    return value


_AXES = {
    "macs": _Axis("analog share of the MACs", lambda row: 100 * row.analog_mac_share, lambda value: f"{value:g} %"),
    "weights": _Axis(
        "analog share of the weights", lambda row: 100 * row.analog_weight_share, lambda value: f"{value:g} %"
    ),
    "time": _Axis("time of one inference", lambda row: _require(row.latency_s), lambda value: format_si(value, "s")),
    "energy": _Axis("energy of one inference", lambda row: _require(row.energy_j), lambda value: format_si(value, "J")),
}


def report_front(run_dir: Path | str, out: Path | None = None) -> Path:
    """Write the HTML page of a search for a Pareto front. The search may be unfinished.

    Args:
        run_dir: Run directory that `lionheart pareto` has written.
        out: Path of the HTML file; None for ``pareto.html`` in the run directory.

    Returns:
        Path of the written HTML file.

    Raises:
        ArtifactError: The run was started by another command than `lionheart pareto`, or ``pareto.json`` is missing or damaged.
    """
    run = RunDirectory.open(Path(run_dir))
    run.require_job("pareto")
    page = out or run.file("pareto.html")
    write_text(page, escape_controls(render_front(run.description(), read_front(run))))
    return page


def render_front(run: RunDescription, results: FrontResults) -> str:
    """Return the HTML page of a search for a Pareto front, without references to other files."""
    return (
        environment(__package__)
        .get_template("front.html.j2")
        .render(
            run=run,
            results=results,
            metric=results.metric,
            age=describe_duration(results.t_inference),
            confidence=format_percent(results.confidence, 0),
            chart=draw_front(results),
            rows=[_describe(row, results) for row in results.front_rows],
        )
    )


def draw_front(results: FrontResults) -> Markup:
    """Return a chart of accuracy against the objective of the search, as SVG.

    The vertical axis shows the difference between the accuracy of a mapping and the accuracy of the digital network, in
    the drop unit of the metric (pp for an accuracy). Mappings are dots, the front is a step line, and
    measurements on newly programmed simulated chips are rings.
    """
    axis, rows, metric = _AXES[results.objective], results.mappings, results.metric
    if not rows:
        return Markup("")
    front = sorted((row for row in rows if row.on_front), key=axis.value_of)
    guides = [Guide(0.0, f"digital {metric.format_value(results.baseline.decision, 1)}", "digital")]
    guides += [
        Guide(-bound.max_drop_pp, f"−{metric.format_bound(bound.max_drop_pp)}", "bound") for bound in results.bounds
    ]
    x = _scale([axis.value_of(row) for row in rows], _LEFT + 10, _WIDTH - _RIGHT - 10)
    shown = [-measured.drop_pp for row in front for measured in (row, row.fresh) if measured is not None]
    lowest = (1 + _BELOW) * min(guide.value for guide in guides)
    heights = [*(max(value, lowest) for value in shown), *(guide.value for guide in guides)]
    y = _scale(heights, _HEIGHT - _BOTTOM, _TOP)
    others = [row for row in rows if not row.on_front and -row.drop_pp >= y.low]
    parts = [
        *_draw_axes(x, y, axis, metric.drop_unit),
        *_draw_guides(guides, y),
        *(_draw_mark(row, x(axis.value_of(row)), y, "other", 2.6, metric) for row in others),
        element("polyline", class_="mean-line", points=_steps(front, x, y, axis)),
    ]
    for row in front:
        parts += _draw_member(row, x(axis.value_of(row)), y, metric)
    return element(
        "svg",
        *parts,
        class_="chart",
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
        aria_label=f"{metric.title} against {axis.name}",
    )


def _describe(row: FrontRow, results: FrontResults) -> dict[str, Any]:
    """Return the table row of a mapping on the front, as a dict from names of columns to values."""
    fresh, metric = row.fresh, results.metric
    digital = [fqn for fqn, place in row.mapping.placements.items() if place is Placement.DIGITAL]
    bounds = [
        metric.format_bound(each.max_drop_pp, each.max_drop) for each in results.bounds if each.number == row.number
    ]
    return {
        "number": row.number,
        "n_analog": f"{row.n_analog} of {results.n_projections}",
        "digital": ", ".join(digital) or "none",
        "macs": format_percent(row.analog_mac_share),
        "weights": format_percent(row.analog_weight_share),
        "accuracy": _write_accuracy(row.accuracy, metric),
        "drop": metric.format_drop(row.drop_pp),
        "fresh": "" if fresh is None else _write_accuracy(fresh.accuracy, metric),
        "fresh_drop": "" if fresh is None else metric.format_drop(fresh.drop_pp),
        "time": "–" if row.latency_s is None else format_si(row.latency_s, "s"),
        "energy": "–" if row.energy_j is None else format_si(row.energy_j, "J"),
        "n_tiles": row.n_tiles,
        "bounds": ", ".join(bounds),
    }


def _write_accuracy(accuracy: Accuracy, metric: Metric) -> str:
    return f"{metric.format_value(accuracy.mean)} {metric.format_interval(accuracy.low, accuracy.high)}"


def _scale(values: Sequence[float], start: float, end: float) -> LinearScale:
    pad = 0.05 * (max(values) - min(values)) or max(abs(values[0]) * 0.05, 1e-12)
    return LinearScale(min(values) - pad, max(values) + pad, start, end)


def _steps(front: Sequence[FrontRow], x: LinearScale, y: LinearScale, axis: _Axis) -> str:
    """Return the points of a step line for the front, in the format of the attribute ``points`` of an SVG polyline.

    At each cost, the line shows the best accuracy of all mappings that cost at most as much.
    """
    points = [(x(axis.value_of(row)), min(y(-row.drop_pp), y.start)) for row in front]
    path = points[:1]
    for place, height in points[1:]:
        falls = height > path[-1][1]  # coordinates grow downwards
        path += [(path[-1][0], height) if falls else (place, path[-1][1]), (place, height)]
    return " ".join(f"{a:.2f},{b:.2f}" for a, b in path)


def _draw_axes(x: LinearScale, y: LinearScale, axis: _Axis, unit_y: str) -> list[Markup]:
    right, bottom, parts = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, []
    for tick in choose_ticks(y.low, y.high):
        parts.append(element("line", class_="grid", x1=_LEFT, x2=right, y1=y(tick), y2=y(tick)))
        parts.append(element("text", f"{tick:g}", class_="tick", x=_LEFT - 8, y=y(tick) + 4, text_anchor="end"))
    parts.append(element("text", unit_y, class_="tick", x=_LEFT - 8, y=_TOP - 8, text_anchor="end"))
    unit = (
        10.0**-9 if x.high < 1e-3 else 1.0
    )  # choose_ticks rounds to ten digits, so small values are converted to small units
    for tick in choose_ticks(x.low / unit, x.high / unit, 8):
        place = x(tick * unit)
        parts.append(element("line", class_="axis", x1=place, x2=place, y1=bottom, y2=bottom + 5))
        parts.append(
            element("text", axis.write(tick * unit), class_="tick", x=place, y=bottom + 19, text_anchor="middle")
        )
    parts.append(element("line", class_="axis", x1=_LEFT, x2=right, y1=bottom, y2=bottom))
    middle = (x.start + x.end) / 2
    parts.append(element("text", axis.name, class_="tick", x=middle, y=bottom + 38, text_anchor="middle"))
    return parts


def _draw_guides(guides: Sequence[Guide], y: LinearScale) -> list[Markup]:
    right, parts = _WIDTH - _RIGHT, []
    for guide, place in zip(guides, spread_labels([y(g.value) for g in guides], _LABEL_GAP), strict=True):
        height = y(guide.value)
        parts.append(element("line", class_=f"guide {guide.css_class}", x1=_LEFT, x2=right, y1=height, y2=height))
        parts.append(element("text", guide.label, class_=f"label {guide.css_class}", x=right + 8, y=place + 4))
    return parts


def _draw_member(row: FrontRow, place: float, y: LinearScale, metric: Metric) -> list[Markup]:
    """Return the SVG elements that show both accuracies of a mapping on the front.

    One accuracy was measured in the search, and the other was measured again on newly programmed simulated chips. Elements
    that would be below the chart are left out.

    Args:
        row: Mapping to draw.
        place: Horizontal coordinate of the mapping.
        y: Scale of the vertical axis.
        metric: Metric of the scores.
    """
    parts, fresh = [], row.fresh
    if fresh is not None:
        found = fresh.accuracy
        high, low = (-end - fresh.drop_pp for end in metric.drops_between(found.mean, found.low, found.high))
        if high > y.low:
            low, high = min(y(low), y.start), max(y(high), y.end)
            parts.append(element("line", class_="fresh-whisker", x1=place, x2=place, y1=low, y2=high))
        if -fresh.drop_pp >= y.low:
            parts.append(_draw_mark(row, place, y, "fresh", 4.0, metric))
    return parts + ([_draw_mark(row, place, y, "mean", 4.2, metric)] if -row.drop_pp >= y.low else [])


def _draw_mark(row: FrontRow, place: float, y: LinearScale, css_class: str, radius: float, metric: Metric) -> Markup:
    measured = row.fresh if css_class == "fresh" and row.fresh is not None else row
    share, value = format_percent(row.analog_mac_share), _write_accuracy(measured.accuracy, metric)
    text = f"trial {row.number}, {share} of the MACs analog: {value}"
    if css_class == "fresh":
        text += " on fresh chips"
    return element("circle", element("title", text), class_=css_class, cx=place, cy=y(-measured.drop_pp), r=radius)
