"""The verdict: what came out, in one sentence."""

from __future__ import annotations

from lionheart.report.data import RunFacts
from lionheart.report.text import (
    describe_corrections,
    describe_objective,
    describe_reprogramming,
    format_accuracy,
    format_percent,
    format_pp,
)


def write_verdict(facts: RunFacts) -> str:
    """Return the outcome of a run in one sentence that hides neither a missed bound nor an unfinished search."""
    accuracy = _describe_test(facts) if facts.test_point else _describe_validation(facts)
    if facts.results["outcome"] == "infeasible":
        return f"{_describe_infeasible(facts)}; {accuracy}." if facts.n_analog else f"{_describe_infeasible(facts)}."
    if facts.results["outcome"] == "budget":
        n_untried = len(facts.untried)
        left = f", with {_count(n_untried, 'projection')} not tried" if n_untried else ""
        return f"The search ended on its budget{left}: so far {_describe_mapping(facts)}; {accuracy}."
    return f"{_describe_mapping(facts)}; {accuracy}."


def list_badges(facts: RunFacts) -> list[tuple[str, str]]:
    """Return the outcome in a few words, each with ``good``, ``alert`` or ``plain``."""
    badges = []
    if facts.results["outcome"] == "infeasible":
        badges.append(("no mapping within the bound", "alert"))
    if facts.results["outcome"] == "budget":
        badges.append(("search ended on its budget", "alert"))
    if facts.exceeds_bound:
        badges.append(("test drop exceeds the bound", "alert"))
    elif facts.test_drop_pp is not None and facts.n_analog:
        badges.append((f"within the bound on {facts.name_samples('test')}", "good"))
    elif facts.test_point is None and facts.n_analog:
        badges.append(("not tested yet", "plain"))
    return badges


def write_promise(facts: RunFacts) -> str:
    """Return what held-out samples said to the promise of the run, or nothing where none was asked for."""
    promise, tests = facts.promise, facts.results["certificate"]
    if promise is None:
        return ""
    if not tests:
        return "Nothing runs analog, so the promised bound cannot be broken."
    last, n_failed = tests[-1], sum(not test["accepted"] for test in tests)
    before = f" {_count(n_failed, 'larger mapping')} failed before." if n_failed and last["accepted"] else ""
    chips = _count(last["accuracy"]["n_chips"], "fresh chip")
    if not last["accepted"]:
        return f"Promise of {format_percent(promise, 0)}: no mapping kept the bound on the held-out samples."
    drop, limit = (format_pp(last[name], facts.bound_pp, facts.measure) for name in ("drop_pp", "limit_pp"))
    return (
        f"Promise of {format_percent(promise, 0)}: on held-out validation samples and {chips} the drop is "
        f"{drop}, and with {format_percent(last['confidence'], 1)} confidence at most {limit}.{before}"
    )


def write_aftermath(facts: RunFacts) -> str:
    """Return what was found after the search: layers with less correction, and the age up to which the bound is kept."""
    found = describe_corrections(facts.results["tiles"], facts.n_analog)
    return f"{found} {describe_reprogramming(facts.results['reprogramming'], facts.bound_pp, facts.measure)}".strip()


def write_aim(facts: RunFacts) -> str:
    """Return what the search made small where it was not digital MACs, and the projections that tiles or cost kept digital."""
    systems, notes = facts.results["system"] or [], facts.results["notes"] or {}
    aim = describe_objective(facts.results["objective"], systems[0]["platform"] if systems else None)
    left = f"Left digital for their tiles or their cost: {_count(len(notes), 'projection')}." if notes else ""
    return f"{aim} {left}".strip()


def write_caution(facts: RunFacts) -> str:
    """Return what a reader of the verdict should not overlook, or nothing."""
    point, drop, baseline = facts.test_point, facts.test_drop_pp, facts.results["baseline"]["test_accuracy"]
    if point is None or drop is None or point["low"] is None or facts.exceeds_bound:
        return ""
    if 100 * (baseline - point["low"]) > facts.bound_pp:
        end = "upper" if facts.measure.rises_with_drop else "lower"
        return (
            f"The mean is within the bound of {facts.bound}, but the {end} end of its interval is not: "
            "more chips would tell."
        )
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_mapping(facts: RunFacts) -> str:
    return f"{_describe_share(facts)}, {'runs' if facts.n_analog == 1 else 'run'} analog"


def _describe_share(facts: RunFacts) -> str:
    share = format_percent(facts.results["analog_mac_share"])
    return f"{facts.n_analog} of {_count(facts.n_projections, 'projection')}, {share} of the MACs"


def _describe_infeasible(facts: RunFacts) -> str:
    start = f"No mapping was found that stays within {facts.bound} of the digital network {facts.age} after programming"
    if facts.n_analog:
        return f"{start}; the best one puts {_describe_share(facts)}, on tiles"
    tried = len(facts.results["decisions"])
    rolled_back = f"all {tried} attempts were rolled back and " if tried > 1 else ""
    return f"{start}: {rolled_back}all {_count(facts.n_projections, 'projection')} stay digital"


def _describe_against(drop_pp: float, baseline: float, facts: RunFacts) -> str:
    measure = facts.measure
    side = "below" if (drop_pp >= 0) != measure.rises_with_drop else "above"
    drop = format_pp(abs(drop_pp), facts.bound_pp, measure)
    return f"{drop} {side} the digital network ({measure.format_value(baseline, 1)}"


def _describe_test(facts: RunFacts) -> str:
    point, drop, validation = facts.test_point, facts.test_drop_pp, facts.results["validation"]
    if point is None:
        return ""
    measured = (
        f"on {facts.name_samples('test')} {facts.measure.name} {facts.age} after programming is "
        f"{format_accuracy(point, facts.measure)} over {_count(point['n_chips'], 'fresh chip')}"
    )
    if drop is None:
        return f"{measured}; the digital network was not tested, so the drop is unknown"
    against = f"{measured}, {_describe_against(drop, facts.results['baseline']['test_accuracy'], facts)}"
    held = f"on validation: {format_pp(validation['drop_pp'], facts.bound_pp, facts.measure)}" if validation else ""
    if facts.exceeds_bound:
        return f"{against}), which exceeds the bound of {facts.bound}{f' ({held})' if held else ''}"
    return f"{against}; bound {facts.bound}{f', {held}' if held else ''})"


def _describe_validation(facts: RunFacts) -> str:
    validation = facts.results["validation"]
    if validation is None:
        return f"the {facts.measure.name} of this mapping has not been measured on fresh chips yet"
    baseline = facts.results["baseline"]["validation_accuracy"]
    exceeds = f", which exceeds the bound of {facts.bound}"
    against = _describe_against(validation["drop_pp"], baseline, facts)
    end = f"){exceeds}" if validation["drop_pp"] > facts.bound_pp else f"; bound {facts.bound})"
    when = "at this time" if facts.results["test_over_time"] else "yet"
    return (
        f"on {facts.name_samples('validation')} {facts.measure.name} {facts.age} after programming is "
        f"{format_accuracy(validation, facts.measure)} "
        f"over {_count(validation['n_chips'], 'fresh chip')}, {against}{end}; "
        f"the test set has not been evaluated {when}"
    )
