"""Header of the report page, which states the outcome of the run in one sentence and lists the most important results."""

from __future__ import annotations

from typing import Any

from lionheart.metrics import is_within
from lionheart.report.data import ReportData
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.report.text import (
    describe_compensation,
    describe_gain,
    describe_objective,
    describe_refresh,
    describe_tiles,
    format_accuracy,
    format_interval,
    format_percent,
)
from lionheart.runs import SearchOutcome
from lionheart.units import format_count, format_elapsed


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section: sentences and badges about the outcome, a warning, and results."""
    return {
        "summary": write_summary(data),
        "badges": list_badges(data),
        "objective": write_objective(data),
        "post_search": write_post_search(data),
        "confidence_level": write_confidence_level(data),
        "warning": write_warning(data),
        "key_figures": list_key_figures(data),
    }


def write_summary(data: ReportData) -> str:
    """Return a sentence that states the outcome of a run.

    The sentence also states if the accuracy drop exceeds the bound, or if the search used up its time budget.
    """
    accuracy = _describe_test(data) or _describe_validation(data)
    if data.results.outcome is SearchOutcome.INFEASIBLE:
        return f"{_describe_infeasible(data)}; {accuracy}." if data.n_analog else f"{_describe_infeasible(data)}."
    if data.results.outcome is SearchOutcome.BUDGET:
        n_untried = len(data.untried)
        left = f", with {_count(n_untried, 'projection')} not tried" if n_untried else ""
        return f"The search used up its time budget{left}: so far {_describe_mapping(data)}; {accuracy}."
    return f"{_describe_mapping(data)}; {accuracy}."


def list_badges(data: ReportData) -> list[tuple[str, str]]:
    """Return pairs of a short label for the outcome of a run and the style of the label: ``good``, ``alert`` or ``plain``."""
    badges = []
    if data.results.outcome is SearchOutcome.INFEASIBLE:
        badges.append(("no mapping within the bound", "alert"))
    if data.results.outcome is SearchOutcome.BUDGET:
        badges.append(("search used up its time budget", "alert"))
    if data.exceeds_bound:
        badges.append(("test drop exceeds the bound", "alert"))
    elif data.test_drop_pp is not None and data.n_analog:
        badges.append((f"within the bound on {data.name_samples('test')}", "good"))
    elif data.test_point is None and data.n_analog:
        badges.append(("not tested yet", "plain"))
    return badges


def write_confidence_level(data: ReportData) -> str:
    """Return a sentence with the result of the hold-out tests, which measure mappings on held-out validation samples.

    Return an empty string if the settings of the run contain no confidence level.
    """
    level, tests = data.settings.search.confidence_level, data.results.holdout_tests
    if level is None:
        return ""
    if not tests:
        return "No projection runs analog, so the bound cannot be exceeded."
    last, n_failed = tests[-1], sum(not test.accepted for test in tests)
    before = f" {_count(n_failed, 'larger mapping')} failed this test before." if n_failed and last.accepted else ""
    chips = _count(last.accuracy.n_chips, "fresh chip")
    if not last.accepted:
        return f"Confidence level {format_percent(level, 0)}: no mapping met the bound in a hold-out test."
    sure = "" if last.drop.confidence is None else f"with {format_percent(last.drop.confidence, 1)} confidence "
    return (
        f"Confidence level {format_percent(level, 0)}: on held-out validation samples and {chips}, the drop is "
        f"{data.write_drop(last.drop.drop_pp)}, and {sure}at most {data.write_drop(last.drop.drop_ucb_pp)}.{before}"
    )


def write_post_search(data: ReportData) -> str:
    """Return up to two sentences with the results of the steps after the search.

    The first sentence names the analog layers that need fewer error corrections than the tile settings specify. The second
    sentence states for how long after programming simulated chips meet the accuracy bound. A sentence is left out if its step
    was not requested. The first sentence is also left out if all layers need the specified corrections.
    """
    found = describe_compensation(data.results.tiles, data.n_analog)
    return f"{found} {describe_refresh(data.results.refresh, data.bound)}".strip()


def write_objective(data: ReportData) -> str:
    """Return up to two sentences about the objective of the search.

    The first sentence names the quantity that the search minimised, unless this quantity is the default, digital MACs. The
    second sentence states how many projections (weight matrices) stay digital because of the tile limit or the cost, unless
    there are none.
    """
    systems, notes = data.results.system, data.results.notes
    objective = describe_objective(data.results.objective, systems[0].platform if systems else None)
    left = f"Digital because of the tile limit or the cost: {_count(len(notes), 'projection')}." if notes else ""
    return f"{objective} {left}".strip()


def write_warning(data: ReportData) -> str:
    """Return a warning if the mean test accuracy is within the bound but one end of its confidence interval is not.

    Return an empty string otherwise.
    """
    point, baseline = data.test_point, data.results.baseline.test_accuracy
    if point is None or baseline is None or data.exceeds_bound:
        return ""
    if is_within(data.metric.largest_drop(baseline, (point.low, point.high)), data.bound_pp):
        return ""
    end = "upper" if data.metric.rises_with_drop else "lower"
    return (
        f"The mean is within the bound of {data.bound}, but the {end} end of its interval is not; evaluate more chips."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_mapping(data: ReportData) -> str:
    return f"{_describe_share(data)}, {'runs' if data.n_analog == 1 else 'run'} analog"


def _describe_share(data: ReportData) -> str:
    share = format_percent(data.results.analog_mac_share)
    return f"{data.n_analog} of {_count(data.n_projections, 'projection')}, {share} of the MACs"


def _describe_infeasible(data: ReportData) -> str:
    start = f"No mapping was found that stays within {data.bound} of the digital network {data.age} after programming"
    if data.n_analog:
        return f"{start}; the best one puts {_describe_share(data)}, on tiles"
    tried = len(data.results.decisions)
    rolled_back = f"all {tried} attempts were rolled back and " if tried > 1 else ""
    return f"{start}: {rolled_back}all {_count(data.n_projections, 'projection')} stay digital"


def _describe_against(drop: float, baseline: float, data: ReportData) -> str:
    side = "below" if (drop >= 0) != data.metric.rises_with_drop else "above"
    return f"{data.write_drop(abs(drop))} {side} the digital network ({data.metric.format_value(baseline, 1)}"


def _describe_test(data: ReportData) -> str:
    """Return the test accuracy, its drop against the digital network and the largest allowed drop, in words.

    Return an empty string if the test accuracy was not measured at the time for which the mapping was selected.
    """
    point, drop, baseline = data.test_point, data.test_drop_pp, data.results.baseline.test_accuracy
    if point is None:
        return ""
    measured = (
        f"on {data.name_samples('test')} {data.metric.name} {data.age} after programming is "
        f"{format_accuracy(point, data.metric)} over {_count(point.n_chips, 'fresh chip')}"
    )
    if drop is None or baseline is None:
        return f"{measured}; the digital network was not tested, so the drop is unknown"
    against = f"{measured}, {_describe_against(drop, baseline, data)}"
    held = f"on validation: {data.write_drop(data.results.validation_drop_pp)}"
    if data.exceeds_bound:
        return f"{against}), which exceeds the bound of {data.bound} ({held})"
    return f"{against}; bound {data.bound}, {held})"


def _describe_validation(data: ReportData) -> str:
    validation, drop = data.results.validation, data.results.validation_drop_pp
    against = _describe_against(drop, data.results.baseline.validation_accuracy, data)
    end = f"), which exceeds the bound of {data.bound}" if data.exceeds(drop) else f"; bound {data.bound})"
    when = "at this time" if data.results.test_over_time else "yet"
    return (
        f"on {data.name_samples('validation')} {data.metric.name} {data.age} after programming is "
        f"{format_accuracy(validation, data.metric)} over {_count(validation.n_chips, 'fresh chip')}, {against}{end}; "
        f"the test set has not been evaluated {when}"
    )


def list_key_figures(data: ReportData) -> list[dict[str, str]]:
    """Return the most important results of a run. Each result is a dict with a value, a label, a remark and a CSS class."""
    results, metric = data.results, data.metric
    projections = f"{data.n_analog} of {data.n_projections} projections"
    tiles = f"on {describe_tiles(results.n_tiles, results.max_tiles)}"
    figures = [
        _figure(format_percent(results.analog_mac_share), "MACs analog", projections, "analog"),
        _figure(format_percent(results.analog_weight_share), "weights analog", tiles, "analog"),
    ]
    if data.test_point is not None:
        remark = f"{format_interval(data.test_point, metric)} {metric.axis_unit}".rstrip()
        figures.append(
            _figure(metric.format_value(data.test_point.mean, 1), f"test {metric.name} at {data.age}", remark)
        )
    else:
        remark = f"after {data.age}, not tested yet"
        figures.append(_figure(metric.format_value(results.validation.mean, 1), f"validation {metric.name}", remark))
    if data.test_drop_pp is not None:
        label, tone = f"drop on {data.name_samples('test', brief=True)}", "alert" if data.exceeds_bound else ""
        figures.append(_figure(data.write_drop(data.test_drop_pp), label, f"bound {data.bound}", tone))
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
