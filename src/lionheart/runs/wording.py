"""The words of the summary of a mapping run: headline, remarks, conclusion and cautions; see `lionheart.runs.summary`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lionheart.metrics import is_within
from lionheart.runs.tables import describe_missing_tiles
from lionheart.runs.text import (
    describe_compensation,
    describe_duration,
    describe_gain,
    describe_objective,
    describe_refresh,
    describe_tiles,
    format_accuracy,
    format_percent,
    format_pp,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lionheart.runs.records import Accuracy, Results
    from lionheart.runs.summary import PlatformSummary, SplitSummary

_FEW_CHIPS = 5  # with fewer chips, the interval of a mean is wider than three standard deviations
_LARGE_MARGIN = 0.5  # share of the bound: with a larger margin, most of the bound cannot be used
_MOST_NAMES = 6  # layers that a sentence names


def list_required_times(results: Results) -> list[float]:
    """Return the times after programming at which the bound must hold [s]."""
    return [point.t_inference for point in results.validation_over_time or (results.validation,)]


def find_test_point(results: Results) -> Accuracy | None:
    """Return the test score with the largest drop at the times at which the bound must hold; None if there is none."""
    found = find_required(results.test_over_time, list_required_times(results))
    return min(found, key=lambda point: results.metric.rank(point.mean), default=None)


def name_samples(results: Results, split: str, *, brief: bool = False) -> str:
    """Return a phrase for those samples of a split that the final measurements used, such as ``"the test set"``.

    Args:
        results: Results of the run.
        split: Name of the split: ``"validation"`` or ``"test"``.
        brief: Whether to return a short form, such as ``"test, first 1,000"``, if only the first samples were used.
    """
    number = results.final_samples
    if brief and number is not None:
        return f"{split}, first {number:,}"
    return f"the {split} set" if number is None else f"the first {number:,} {split} samples"


def is_required(t_inference: float, required: Sequence[float]) -> bool:
    """Return whether `t_inference` [s] is one of the times at which the bound must hold, which `required` lists."""
    return any(math.isclose(t_inference, t, rel_tol=1e-6) for t in required)


def find_required(points: Iterable[Accuracy], required: Sequence[float]) -> list[Accuracy]:
    """Return the scores that were measured at a time at which the bound must hold."""
    return [point for point in points if is_required(point.t_inference, required)]


# -- words -------------------------------------------------------------------------------------------------------------


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _write_drop(results: Results, drop: float) -> str:
    return format_pp(drop, results.max_drop_pp, results.metric)


def write_headline(results: Results) -> str:
    """Return a sentence that states the outcome of a run: what is analog, and the score and the drop on the test set."""
    n_analog = len(results.mapping.analog)
    score = _describe_test(results) or _describe_validation(results)
    if results.outcome == "infeasible":
        return f"{_describe_infeasible(results)}; {score}." if n_analog else f"{_describe_infeasible(results)}."
    if results.outcome == "budget":
        n_untried = len(results.untried or ())
        left = f", with {_count(n_untried, 'projection')} not tried" if n_untried else ""
        return f"The search used up its time budget{left}: so far {_describe_mapping(results)}; {score}."
    return f"{_describe_mapping(results)}; {score}."


def _describe_share(results: Results) -> str:
    n_analog, n_projections = len(results.mapping.analog), len(results.mapping.placements)
    share = format_percent(results.analog_mac_share)
    return f"{n_analog} of {_count(n_projections, 'projection')}, {share} of the MACs"


def _describe_mapping(results: Results) -> str:
    if not results.mapping.analog:
        return f"all {_count(len(results.mapping.placements), 'projection')} stay digital"
    return f"{_describe_share(results)}, run analog"


def _describe_infeasible(results: Results) -> str:
    age, n_projections = describe_duration(results.t_inference), len(results.mapping.placements)
    start = f"No mapping was found that stays within {results.bound} of the digital network {age} after programming"
    if results.mapping.analog:
        return f"{start}; the best one puts {_describe_share(results)}, on tiles"
    tried = len(results.decisions)
    rolled_back = f"all {tried} attempts were rolled back and " if tried > 1 else ""
    return f"{start}: {rolled_back}all {_count(n_projections, 'projection')} stay digital"


def _describe_against(results: Results, drop: float, baseline: float) -> str:
    side = "below" if (drop >= 0) != results.metric.rises_with_drop else "above"
    digital = results.metric.format_value(baseline, 1)
    return f"{_write_drop(results, abs(drop))} {side} the digital network ({digital}"


def _describe_score(results: Results, split: str, point: Accuracy) -> str:
    return (
        f"on {name_samples(results, split)} {results.metric.name} {describe_duration(point.t_inference)} after programming is "
        f"{format_accuracy(point, results.metric)} over {_count(point.n_chips, 'fresh chip')}"
    )


def _describe_test(results: Results) -> str:
    """Return the test score and its drop against the digital network in words; empty if the score was not measured."""
    point, baseline = find_test_point(results), results.baseline.test_accuracy
    if point is None:
        return ""
    measured = _describe_score(results, "test", point)
    if baseline is None:
        return f"{measured}; the digital network was not tested, so the drop is unknown"
    drop, bound = results.metric.report_drop(baseline, point.mean), results.bound
    against = f"{measured}, {_describe_against(results, drop, baseline)}"
    held = f"on validation: {_write_drop(results, results.validation_drop_pp)}"
    if is_within(drop, results.max_drop_pp):
        return f"{against}; bound {bound}, {held})"
    return f"{against}), which exceeds the bound of {bound} ({held})"


def _describe_validation(results: Results) -> str:
    drop, bound = results.validation_drop_pp, results.bound
    against = _describe_against(results, drop, results.baseline.validation_accuracy)
    end = f"; bound {bound})" if is_within(drop, results.max_drop_pp) else f"), which exceeds the bound of {bound}"
    when = "at this time" if results.test_over_time else "yet"
    score = _describe_score(results, "validation", results.validation)
    return f"{score}, {against}{end}; the test set has not been evaluated {when}"


def write_remarks(results: Results) -> list[str]:
    """Return sentences about the tile limit, the objective, rescaled channels, later steps and the hold-out test."""
    notes, systems = results.notes, results.system
    on_tiles = describe_tiles(results.n_tiles, results.max_tiles)
    left = f"Digital because of the tile limit or the cost: {_count(len(notes), 'projection')}." if notes else ""
    found = [
        f"The mapping needs {on_tiles}." if results.max_tiles is not None and results.mapping.analog else "",
        describe_objective(results.objective, systems[0].platform if systems else None),
        left,
        "" if results.rescaling is None else f"{results.rescaling.describe().capitalize()}.",
        describe_compensation(results.tiles, len(results.mapping.analog)),
        describe_refresh(results.refresh, results.bound),
        _describe_guarantee(results) if results.guarantee is not None else _describe_holdout(results),
    ]
    return [text for text in found if text]


def _describe_holdout(results: Results) -> str:
    """Return a sentence with the result of the hold-out tests, which measure mappings on held-out validation samples."""
    tests = results.holdout_tests
    if not tests:
        return ""
    last, n_failed = tests[-1], sum(not test.accepted for test in tests)
    first = tests[0].drop.confidence  # the first test has half of the permitted error probability
    level = "" if first is None else f"Confidence level {format_percent(2 * first - 1, 0)}: "
    if not last.accepted:
        return f"{level}no mapping met the bound in a hold-out test."
    before = f" {_count(n_failed, 'larger mapping')} failed this test before." if n_failed else ""
    sure = "" if last.drop.confidence is None else f"with {format_percent(last.drop.confidence, 1)} confidence "
    return (
        f"{level}on held-out validation samples and {_count(last.accuracy.n_chips, 'fresh chip')}, the drop is "
        f"{_write_drop(results, last.drop.drop_pp)}, and {sure}at most {_write_drop(results, last.drop.drop_ucb_pp)}.{before}"
    )


def _describe_guarantee(results: Results) -> str:
    """Return a sentence on whether the bound was confirmed, with what probability, and on how many chips and samples."""
    found, n_analog = results.guarantee, len(results.mapping.analog)
    if found is None or found.reason:
        return ""
    level = f"a probability of {format_percent(found.probability, 0)}"
    tested = _count(found.n_tests, "mapping")
    if not n_analog:
        return f"No mapping was confirmed to keep the bound with {level} ({tested} tested)." if found.n_tests else ""
    if not found.confirmed or found.drop_pp is None or found.drop_ucb_pp is None:
        return ""
    data = f"{_count(found.n_chips, 'fresh chip')} and {_count(found.n_samples, 'sample')} that decided nothing"
    drop, most = _write_drop(results, found.drop_pp), _write_drop(results, found.drop_ucb_pp)
    weights = " The weights are those before the search." if found.original_weights else ""
    return f"The bound is confirmed with {level} on {data}: drop {drop}, at most {most} ({tested} tested).{weights}"


def write_conclusion(
    results: Results, validation: SplitSummary, test: SplitSummary | None, platforms: Sequence[PlatformSummary]
) -> str:
    """Return the closing sentences: whether the test drop is within the bound, and time and energy against all digital."""
    if not results.mapping.analog:
        return "No projection runs analog, so the bound cannot be exceeded."
    kept = {True: "kept", False: "exceeded"}
    on_validation = _write_drop(results, validation.drop_pp)
    split, check = ("validation", validation) if test is None else ("test", test)
    bound = (
        f"Bound of {results.bound} {kept[check.within_bound]} on {name_samples(results, split)} "
        f"{describe_duration(check.t_inference)} after programming: drop {_write_drop(results, check.drop_pp)}"
    )
    bound += (
        "; test drop unknown." if test is None else f" (validation: {on_validation}, {kept[validation.within_bound]})."
    )
    costs = [
        f"{each.platform} {_describe_gain(each.speedup, 'faster', 'slower')}, "
        f"{_describe_gain(each.energy_gain, 'less energy', 'more energy')}"
        for each in platforms
    ]
    return f"{bound} Against all digital: {'; '.join(costs)}." if costs else bound


def _describe_gain(factor: float, more: str, less: str) -> str:
    text = describe_gain(factor, more, less)
    return f"as {'fast' if more == 'faster' else 'much energy'}" if text == "the same" else text


# -- cautions ----------------------------------------------------------------------------------------------------------


def write_cautions(
    results: Results, test: SplitSummary | None, platforms: Sequence[PlatformSummary]
) -> list[tuple[str, str]]:
    """Return the cautions that follow from the results, as pairs of a code and a sentence."""
    if not results.mapping.analog:
        return []
    found = [
        ("undecided", _describe_undecided(results, test)),
        ("later_times", _describe_later_times(results, test)),
        ("few_chips", _describe_few_chips(results, test)),
        ("unconfirmed", _describe_unconfirmed(results)),
        ("few_samples", _describe_few_samples(results)),
        ("retrained_weights", _describe_retrained(results, test)),
    ]
    for each in platforms:
        if each.slower_on_tiles:
            names = _list_factors(each.slower_on_tiles)
            found.append(("slower_on_tiles", f"Slower on tiles than on the core of {each.platform}: {names}."))
    missing = [describe_missing_tiles(system.platform, system.tiles_missing) for system in results.system]
    found += [("tiles_missing", f"{text}." if text else "") for text in missing]
    return [(code, text) for code, text in found if text]


def _list_factors(factors: Mapping[str, float]) -> str:
    ordered = sorted(factors.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{fqn} ({factor:.2f}×)" for fqn, factor in ordered[:_MOST_NAMES])
    return shown if len(ordered) <= _MOST_NAMES else f"{shown} and {_count(len(ordered) - _MOST_NAMES, 'other layer')}"


def _describe_undecided(results: Results, test: SplitSummary | None) -> str:
    """Return a sentence if the interval of the test drop contains the bound."""
    if test is None:
        return ""
    worse, better = ("upper", "lower") if results.metric.rises_with_drop else ("lower", "upper")
    bound = f"the bound of {results.bound}"
    if test.within_bound and not is_within(test.drop_high_pp, results.max_drop_pp):
        return f"The mean is within {bound}, but the {worse} end of its interval is not; evaluate more chips."
    if not test.within_bound and is_within(test.drop_low_pp, results.max_drop_pp):
        return f"The mean exceeds {bound}, but the {better} end of its interval does not; evaluate more chips."
    return ""


def _describe_later_times(results: Results, test: SplitSummary | None) -> str:
    if test is None or not test.within_bound:
        return ""
    later = [check for check in test.over_time if check.t_inference > test.t_inference and not check.within_bound]
    if not later:
        return ""
    first = min(later, key=lambda check: check.t_inference)
    return (
        f"The bound need not hold {describe_duration(first.t_inference)} after programming; the test drop is then "
        f"{_write_drop(results, first.drop_pp)}, which exceeds it."
    )


def _describe_few_chips(results: Results, test: SplitSummary | None) -> str:
    n_chips = results.validation.n_chips if test is None else test.n_chips
    if n_chips >= _FEW_CHIPS:
        return ""
    return f"The final results are measured on {_count(n_chips, 'chip')} only; evaluate more chips."


def _describe_unconfirmed(results: Results) -> str:
    """Return a sentence if the run asked for a guarantee and could test no mapping."""
    found = results.guarantee
    if found is None or found.confirmed:
        return ""
    return (
        f"The bound is not confirmed: {found.reason}. On other chips and samples, about every second such mapping exceeds its "
        "bound."
    )


def _describe_few_samples(results: Results) -> str:
    """Return a sentence if the held-out samples are so few that the test needs a drop far below the bound."""
    found = results.guarantee
    if found is None or found.margin_pp is None or found.margin_pp <= _LARGE_MARGIN * results.max_drop_pp:
        return ""
    return (
        f"The hold-out samples are few: the drop must be about {_write_drop(results, found.margin_pp)} below the bound of "
        f"{results.bound} to be confirmed, which keeps layers digital; give more validation samples."
    )


def _describe_retrained(results: Results, test: SplitSummary | None) -> str:
    """Return a sentence if the retrained network without analog layers is beyond the bound and worse than with them."""
    retrained, baseline = results.retrained_test_accuracy, results.baseline.test_accuracy
    if retrained is None or baseline is None or test is None:
        return ""
    drop = results.metric.report_drop(baseline, retrained)
    if is_within(drop, results.max_drop_pp) or drop <= test.drop_pp:
        return ""
    return (
        f"The retrained network without tiles, run digitally, reaches {results.metric.format_value(retrained, 1)} on "
        f"{name_samples(results, 'test')}, {_describe_against(results, drop, baseline)}): its weights need the converters of "
        "the tiles."
    )
