"""Section of the report page that shows the steps in which the search found the mapping."""

from __future__ import annotations

from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.figures import draw_bullet, draw_sparkline
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs import Decision, TrainTrace
from lionheart.runs.text import format_interval, format_percent
from lionheart.units import format_count, format_elapsed

_STOPPED = {"flat": "loss stopped falling", "cap": "reached the cap", "budget": "ran out of budget"}


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section.

    The values are one entry for each step of the search, and the names of the projections (weight matrices) that the search
    never tried.
    """
    full = 1.15 * max([data.bound_pp, *(decision.drop_pp for decision in data.results.decisions)])
    return {
        "decisions": [_describe_decision(decision, data, full) for decision in data.results.decisions],
        "untried": data.untried,
    }


def _describe_decision(decision: Decision, data: ReportData, full: float) -> dict[str, Any]:
    accuracy, drop, total = decision.accuracy, data.write_drop(decision.drop_pp), data.graph.macs
    colour = "analog" if decision.accepted else "digital"
    label = f"drop {drop}, bound {data.bound}"
    return {
        "step": decision.index + 1,
        "fqn": decision.fqn,
        "note": decision.note,
        "share": format_percent(decision.macs / total if total else 0.0),
        "placement": colour,
        "outcome": "accepted" if decision.accepted else "rolled back",
        "mean": data.metric.format_value(accuracy.mean, 1),
        "interval": format_interval(accuracy, data.metric),
        "n_chips": accuracy.n_chips,
        "drop": drop,
        "bullet": draw_bullet(decision.drop_pp, data.bound_pp, full=full, css_class=colour, label=label),
        **_describe_training(decision.train),
        "elapsed": format_elapsed(decision.elapsed_s),
    }


def _describe_training(train: TrainTrace) -> dict[str, Any]:
    losses = train.losses
    stopped = _STOPPED.get(train.outcome, train.outcome)
    if train.kept_epoch is not None:
        stopped += f"; weights {f'after epoch {train.kept_epoch}' if train.kept_epoch else 'before it'} kept"
    label = f"training loss {losses[0]:.3g} to {losses[-1]:.3g}; {stopped}" if losses else stopped
    return {
        "epochs": len(losses),
        "steps": format_count(train.n_steps),
        "spark": draw_sparkline(losses, label=label),
        "stopped": stopped,
    }


SECTIONS.add("search", Section(50, describe))
