"""The page: sections and style sheet put together by one template."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lionheart.files import write_text
from lionheart.report import costs, schedules, sections
from lionheart.report import summary as verdict
from lionheart.report.data import read_facts
from lionheart.report.text import format_percent, tie_units


def _break_dots(name: str) -> Markup:
    """Let a line end after the dots of a name, but not before an index."""
    return Markup(".<wbr>").join(escape(part) for part in re.split(r"\.(?!\d)", name))


@cache
def environment(package: str = "lionheart.report") -> Environment:
    """Return what finds and fills the templates of a package; those of the report are found too."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys([package, "lionheart.report"])]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tie"] = tie_units
    environment.filters["break_dots"] = _break_dots
    return environment


def render_report(run_json: dict[str, Any], graph_json: dict[str, Any], results_json: dict[str, Any]) -> str:
    """Return the page of a run as HTML that loads nothing from elsewhere.

    Args:
        run_json: What was asked: task, settings, seed, versions, command.
        graph_json: The network: projections, other operations, candidates.
        results_json: What came out: mapping, accuracies, decisions, time and energy.

    Raises:
        ArtifactError: Keys are missing or of the wrong type; all of them are named.
    """
    facts = read_facts(run_json, graph_json, results_json)
    digital = facts.results["test_digital_accuracy"]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=facts.run,
            results=facts.results,
            age=facts.age,
            measure=facts.measure,
            bound=facts.bound,
            confidence=format_percent(facts.results["confidence"], 0),
            verdict=verdict.write_verdict(facts),
            badges=verdict.list_badges(facts),
            caution=verdict.write_caution(facts),
            promise=verdict.write_promise(facts),
            aim=verdict.write_aim(facts),
            aftermath=verdict.write_aftermath(facts),
            key_figures=sections.list_key_figures(facts),
            layers=sections.list_layers(facts),
            other_ops=sections.list_other_ops(facts),
            accuracy=sections.describe_accuracy(facts),
            retrained_digital="" if digital is None else facts.measure.format_value(digital, 1),
            systems=costs.list_systems(facts),
            schedules=schedules.list_schedules(facts),
            decisions=sections.list_decisions(facts),
            untried=facts.untried,
            settings=sections.list_settings(facts),
        )
    )


def write_report(run_json: dict[str, Any], graph_json: dict[str, Any], results_json: dict[str, Any], out: Path) -> Path:
    """Write the page of a run to `out`, atomically.

    Args:
        run_json: What was asked: task, settings, seed, versions, command.
        graph_json: The network: projections, other operations, candidates.
        results_json: What came out: mapping, accuracies, decisions, time and energy.
        out: The HTML file.

    Returns:
        `out`.

    Raises:
        ArtifactError: Keys are missing or of the wrong type, or the file cannot be written.
    """
    write_text(out, render_report(run_json, graph_json, results_json))
    return out
