"""Section of the report page that shows the test accuracy over time since programming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from lionheart.report.data import ReportData
from lionheart.report.figures import ChartStyle, Guide, TimePoint, draw_time_chart
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs import Accuracy
from lionheart.runs.text import describe_duration, format_accuracy, format_interval, format_percent
from lionheart.runs.wording import find_test_point

_SIZES = (("wide", 1040.0, 340.0), ("narrow", 440.0, 300.0))  # of the drawings [px]


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section: charts of the test accuracy over time, and one table row for each time.

    The lists of charts and rows are empty if the test set has not been evaluated.
    """
    points = sorted(data.results.test_over_time, key=lambda point: point.t_inference)
    retrained = data.results.retrained_test_accuracy
    return {
        "confidence": format_percent(data.results.confidence, 0),
        "retrained_digital": "" if retrained is None else data.metric.format_value(retrained, 1),
        "trained_with": _describe_training(data),
        "charts": draw_charts(data, points) if points else [],
        "rows": [_describe_row(data, point) for point in points],
        "n_chips": max((point.n_chips for point in points), default=0),
    }


def _describe_training(data: ReportData) -> str:
    """Return what the retraining injected, such as ``noise and converters``, or an empty string without a retraining."""
    if data.results.n_steps == 0:
        return ""
    return "noise and converters" if data.settings.tile.hwa.converters else "noise"


def _describe_row(data: ReportData, point: Accuracy) -> dict[str, Any]:
    metric, drop = data.metric, data.test_drop_of(point.mean)
    return {
        "time": describe_duration(point.t_inference),
        "decided": point == find_test_point(data.results),
        "mean": metric.format_value(point.mean, 1),
        "interval": format_interval(point, metric),
        "std": metric.format_spread(point.std),
        "n_chips": point.n_chips,
        "drop": "–" if drop is None else data.write_drop(drop),
        "exceeds": data.exceeds(drop),
    }


def draw_charts(data: ReportData, points: Sequence[Accuracy]) -> list[Markup]:
    """Return two charts of the accuracy over time: one for wide and one for narrow browser windows.

    Args:
        data: Records of the run.
        points: Accuracies to draw, in ascending order of time.
    """
    metric, guides = data.metric, _list_guides(data)
    marks = [
        TimePoint(
            point.t_inference,
            metric.plot_value(point.mean),
            metric.plot_value(point.low),
            metric.plot_value(point.high),
            f"{describe_duration(point.t_inference)}: {format_accuracy(point, metric)} over {point.n_chips} chips",
            tuple(metric.plot_value(score) for score in point.scores),
        )
        for point in points
    ]
    return [
        draw_time_chart(
            marks,
            guides,
            t_marked=data.results.t_inference,
            style=ChartStyle(
                width=width,
                height=height,
                label_width=112.0 if guides else 16.0,
                css_class=css_class,
                title=metric.title,
                unit=metric.axis_unit,
            ),
        )
        for css_class, width, height in _SIZES
    ]


def _list_guides(data: ReportData) -> list[Guide]:
    """Return reference lines at the test accuracy of the digital network and at the lowest accuracy that the run allows.

    Return an empty list if the test accuracy of the digital network was not measured.
    """
    metric, baseline = data.metric, data.results.baseline.test_accuracy
    if baseline is None:
        return []
    limit = metric.score_after(baseline, data.bound_pp)
    return [
        Guide(metric.plot_value(baseline), f"digital {metric.format_value(baseline, 1)}", "digital"),
        Guide(metric.plot_value(limit), f"bound {metric.format_value(limit, 1)}", "bound"),
    ]


SECTIONS.add("accuracy", Section(20, describe))
