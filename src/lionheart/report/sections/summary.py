"""Header of the report page: the summary of the run in its own words, badges, and the most important results."""

from __future__ import annotations

from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs import SearchOutcome
from lionheart.runs.text import describe_duration, describe_gain, describe_tiles, format_interval, format_percent
from lionheart.runs.wording import find_test_point, name_samples
from lionheart.units import format_count, format_elapsed


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section: the words of the summary, badges about the outcome, and results."""
    summary = data.summary
    return {
        "summary": summary.headline,
        "badges": list_badges(data),
        "remarks": summary.remarks,
        "cautions": [caution.text for caution in summary.cautions],
        "conclusion": summary.conclusion,
        "key_figures": list_key_figures(data),
    }


def list_badges(data: ReportData) -> list[tuple[str, str]]:
    """Return pairs of a short label for the outcome of a run and the style of the label: ``good``, ``alert`` or ``plain``."""
    badges, test, outcome = [], data.summary.test, data.results.outcome
    if outcome is SearchOutcome.INFEASIBLE:
        badges.append(("no mapping within the bound", "alert"))
    if outcome is SearchOutcome.BUDGET:
        badges.append(("search used up its time budget", "alert"))
    if test is not None and not test.within_bound:
        badges.append(("test drop exceeds the bound", "alert"))
    elif test is not None and data.n_analog:
        badges.append((f"within the bound on {name_samples(data.results, 'test')}", "good"))
    elif find_test_point(data.results) is None and data.n_analog:
        badges.append(("not tested yet", "plain"))
    if data.n_analog:
        badges += [
            (f"slower than digital on {each.platform}", "alert")
            for each in data.summary.platforms
            if describe_gain(each.speedup, "faster", "slower").endswith("slower")
        ]
    return badges


def list_key_figures(data: ReportData) -> list[dict[str, str]]:
    """Return the most important results of a run. Each result is a dict with a value, a label, a remark and a CSS class."""
    results, metric = data.results, data.metric
    projections = f"{data.n_analog} of {data.n_projections} projections"
    tiles = f"on {describe_tiles(results.n_tiles, results.max_tiles)}"
    figures = [
        _figure(format_percent(results.analog_mac_share), "MACs analog", projections, "analog"),
        _figure(format_percent(results.analog_weight_share), "weights analog", tiles, "analog"),
    ]
    point, test = find_test_point(results), data.summary.test
    if point is not None:
        remark = f"{format_interval(point, metric)} {metric.axis_unit}".rstrip()
        label = f"test {metric.name} at {describe_duration(point.t_inference)}"
        figures.append(_figure(metric.format_value(point.mean, 1), label, remark))
    else:
        remark = f"after {data.age}, not tested yet"
        figures.append(_figure(metric.format_value(results.validation.mean, 1), f"validation {metric.name}", remark))
    if test is not None:
        label, tone = f"drop on {name_samples(results, 'test', brief=True)}", "" if test.within_bound else "alert"
        figures.append(_figure(data.write_drop(test.drop_pp), label, f"bound {data.bound}", tone))
    for system in results.system[:1]:
        figures.append(_gain_figure(system.speedup, "faster than digital", "slower than digital", system.platform))
        figures.append(_gain_figure(system.energy_gain, "less energy", "more energy", system.platform))
    if results.elapsed_s is not None:
        figures.append(
            _figure(format_elapsed(results.elapsed_s), "search time", f"{format_count(results.n_steps)} steps")
        )
    return figures


def _figure(value: str, label: str, remark: str = "", tone: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "remark": remark, "tone": tone}


def _gain_figure(factor: float, more: str, less: str, platform: str) -> dict[str, str]:
    value, _, label = describe_gain(factor, more, less).partition("× ")
    return _figure(f"{value}×", label, platform) if label else _figure("1.00×", f"neither {more} nor {less}", platform)


SECTIONS.add("summary", Section(0, describe, in_header=True))
