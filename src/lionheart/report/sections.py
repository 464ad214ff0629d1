"""The sections of the page as plain values for the template; `costs` holds the one on time and energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lionheart.report.data import RunFacts, drop_pp
from lionheart.report.figures import Guide, TimePoint, draw_bullet, draw_sparkline, draw_time_chart, share_strip
from lionheart.report.text import (
    describe_duration,
    describe_gain,
    describe_tiles,
    flatten_settings,
    format_accuracy,
    format_interval,
    format_percent,
    format_pp,
)
from lionheart.units import format_count, format_elapsed, format_si

_STOPPED = {"flat": "loss stopped falling", "cap": "reached the cap", "budget": "ran out of budget"}


def list_key_figures(facts: RunFacts) -> list[dict[str, str]]:
    """Return the figures under the verdict: value, what it is, and a remark."""
    results, measure = facts.results, facts.measure
    figures = [
        _figure(
            format_percent(results["analog_mac_share"]),
            "MACs analog",
            f"{facts.n_analog} of {facts.n_projections} projections",
            "analog",
        ),
        _figure(
            format_percent(results["analog_weight_share"]),
            "weights analog",
            f"on {describe_tiles(results['n_tiles'], results['max_tiles'])}",
            "analog",
        ),
    ]
    if facts.test_point is not None:
        interval = format_interval(facts.test_point, measure)
        label = f"test {measure.name} at {facts.age}"
        remark = f"{interval} {measure.axis_unit}".rstrip() if interval else ""
        figures.append(_figure(measure.format_value(facts.test_point["mean"], 1), label, remark))
    elif results["validation"] is not None:
        remark = f"after {facts.age}, not tested yet"
        figures.append(
            _figure(measure.format_value(results["validation"]["mean"], 1), f"validation {measure.name}", remark)
        )
    if facts.test_drop_pp is not None:
        drop = format_pp(facts.test_drop_pp, facts.bound_pp, measure)
        tone = "alert" if facts.exceeds_bound else ""
        figures.append(_figure(drop, f"drop on {facts.name_samples('test', brief=True)}", f"bound {facts.bound}", tone))
    if results["system"]:
        system = results["system"][0]
        figures.append(
            _describe_gain_figure(system["speedup"], "faster than digital", "slower than digital", system["platform"])
        )
        figures.append(_describe_gain_figure(system["energy_gain"], "less energy", "more energy", system["platform"]))
    if results["elapsed_s"] is not None:
        steps = "" if results["n_steps"] is None else f"{format_count(results['n_steps'])} steps"
        figures.append(_figure(format_elapsed(results["elapsed_s"]), "search time", steps))
    return figures


def _figure(value: str, label: str, remark: str = "", tone: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "remark": remark, "tone": tone}


def _describe_gain_figure(factor: float, more: str, less: str, platform: str) -> dict[str, str]:
    value, _, label = describe_gain(factor, more, less).partition("× ")
    return _figure(f"{value}×", label, platform) if label else _figure("1.00×", f"neither {more} nor {less}", platform)


def list_layers(facts: RunFacts) -> list[dict[str, Any]]:
    """Return every projection in the network's order, with its place in the strip and why it is where it is."""
    nodes = facts.graph["projections"]
    candidates = {candidate["fqn"]: candidate for candidate in facts.graph["candidates"]}
    reasons = _explain_placements(facts)
    total = facts.graph["totals"]["macs"]
    layers = []
    for node, width in zip(nodes, share_strip([n["macs"] for n in nodes], minimum=8.0), strict=True):
        candidate, place = candidates[node["fqn"]], facts.placements[node["fqn"]]
        path, _, name = node["fqn"].rpartition(".")
        if name.isdigit():
            path, _, parent = path.rpartition(".")
            name = f"{parent}.{name}" if parent else name
        size = f"{node['rows']}×{node['cols']}" + (f"×{node['groups']}" if node["groups"] > 1 else "")
        layers.append(
            {
                **node,
                "name": name,
                "path": f"{path}." if path else "",
                "placement": place,
                "width": f"{0.999 * width:.3f}",
                "size": size,
                "macs_text": format_count(node["macs"]),
                "macs_short": format_si(node["macs"], "").rstrip(),
                "share": format_percent(node["macs"] / total if total else 0.0),
                "n_tiles": candidate["n_tiles"],
                "utilisation": candidate["tile_utilisation"],
                "refused": candidate["reason"],
                "reason": reasons[node["fqn"]],
            }
        )
    return layers


def _explain_placements(facts: RunFacts) -> dict[str, str]:
    left = "not within the bound" if facts.tries_groups else "not tried"
    reasons = {c["fqn"]: c["reason"] or left for c in facts.graph["candidates"]}
    present: set[str] = set()
    for decision in facts.results["decisions"]:
        step = decision["index"] + 1
        if decision["accepted"]:
            names = set(decision.get("analog") or [decision["fqn"]])
            reasons |= {name: f"accepted in step {step}" for name in names - present}
            present |= names
        elif decision["drop_pp"] is None:
            reasons[decision["fqn"]] = f"rolled back in step {step}"
        else:
            drop = format_pp(decision["drop_pp"], facts.bound_pp, facts.measure)
            reasons[decision["fqn"]] = f"rolled back in step {step}: drop {drop}"
    notes = facts.results["notes"] or {}
    reasons |= {name: note for name, note in notes.items() if facts.placements.get(name) == "digital"}
    if facts.results["certificate"]:
        returned = [name for name in present if facts.placements.get(name) == "digital"]
        reasons |= dict.fromkeys(returned, "taken back: held-out samples")
    return reasons


def list_other_ops(facts: RunFacts) -> str:
    """Return the operations without a weight matrix in one line, ``"relu (9 calls), add (3 calls)"``."""
    sums: dict[str, tuple[int, int]] = {}
    for op in facts.graph["other_ops"]:
        calls, macs = sums.get(op["name"], (0, 0))
        sums[op["name"]] = (calls + op["n_calls"], macs + op["macs"])
    return ", ".join(
        f"{name} ({calls} call{'' if calls == 1 else 's'}" + (f", {format_count(macs)} MACs)" if macs else ")")
        for name, (calls, macs) in sums.items()
    )


def describe_accuracy(facts: RunFacts) -> dict[str, Any] | None:
    """Return the chart and the table of test accuracy over time, or None when the test set was not evaluated."""
    points = sorted(facts.results["test_over_time"] or [], key=lambda point: point["t_inference"])
    if not points:
        return None
    baseline, measure = facts.results["baseline"]["test_accuracy"], facts.measure
    rows = []
    for point in points:
        drop = None if baseline is None else drop_pp(baseline, point["mean"])
        rows.append(
            {
                "time": describe_duration(point["t_inference"]),
                "decided": point == facts.test_point,
                "mean": measure.format_value(point["mean"], 1),
                "interval": format_interval(point, measure) or "–",
                "std": "–" if point["std"] is None else measure.format_drop(100 * point["std"]),
                "n_chips": point["n_chips"],
                "drop": "–" if drop is None else format_pp(drop, facts.bound_pp, measure),
                "exceeds": drop is not None and drop > facts.bound_pp,
            }
        )
    charts = [
        _draw_accuracy(points, facts, "wide", 1040.0, 340.0),
        _draw_accuracy(points, facts, "narrow", 440.0, 300.0),
    ]
    return {"charts": charts, "rows": rows, "n_chips": max(point["n_chips"] for point in points)}


def _draw_accuracy(points: list[Any], facts: RunFacts, css_class: str, width: float, height: float) -> Any:
    baseline, measure = facts.results["baseline"]["test_accuracy"], facts.measure
    guides = []
    if baseline is not None:
        guides.append(Guide(measure.plot_value(baseline), f"digital {measure.format_value(baseline, 1)}", "digital"))
        limit = baseline - facts.bound_pp / 100
        guides.append(Guide(measure.plot_value(limit), f"bound {measure.format_value(limit, 1)}", "bound"))
    return draw_time_chart(
        [
            TimePoint(
                point["t_inference"],
                measure.plot_value(point["mean"]),
                measure.plot_value(point["mean"] if point["low"] is None else point["low"]),
                measure.plot_value(point["mean"] if point["high"] is None else point["high"]),
                f"{describe_duration(point['t_inference'])}: {format_accuracy(point, measure)} over {point['n_chips']} chips",
                tuple(measure.plot_value(score) for score in point["scores"] or ()),
            )
            for point in points
        ],
        guides,
        t_marked=facts.results["t_inference"],
        width=width,
        height=height,
        label_width=112.0 if guides else 16.0,
        css_class=css_class,
        title=measure.title,
        unit=measure.axis_unit,
    )


def list_decisions(facts: RunFacts) -> list[dict[str, Any]]:
    """Return the search trace in the order in which projections were tried."""
    decisions = facts.results["decisions"]
    drops = [d["drop_pp"] for d in decisions if d["drop_pp"] is not None]
    full = 1.15 * max([facts.bound_pp, *drops])
    total = facts.graph["totals"]["macs"]
    return [_describe_decision(decision, facts, full, total) for decision in decisions]


def _describe_decision(decision: Mapping[str, Any], facts: RunFacts, full: float, total: int) -> dict[str, Any]:
    bound_pp, measure = facts.bound_pp, facts.measure
    accuracy, drop, train = decision["accuracy"], decision["drop_pp"], decision["train"]
    colour = "analog" if decision["accepted"] else "digital"
    bullet = ""
    if drop is not None:
        label = f"drop {format_pp(drop, bound_pp, measure)}, bound {facts.bound}"
        bullet = draw_bullet(drop, bound_pp, full=full, css_class=colour, label=label)
    return {
        "step": decision["index"] + 1,
        "fqn": decision["fqn"],
        "note": decision["note"] or "",
        "share": format_percent(decision["macs"] / total if total else 0.0),
        "placement": colour,
        "verdict": "accepted" if decision["accepted"] else "rolled back",
        "mean": measure.format_value(accuracy["mean"], 1) if accuracy else "–",
        "interval": format_interval(accuracy, measure) if accuracy else "",
        "n_chips": accuracy["n_chips"] if accuracy else "–",
        "drop": "–" if drop is None else format_pp(drop, bound_pp, measure),
        "bullet": bullet,
        **_describe_training(train),
        "elapsed": format_elapsed(decision["elapsed_s"]),
    }


def _describe_training(train: Mapping[str, Any] | None) -> dict[str, Any]:
    if train is None:
        return {"epochs": "–", "steps": "–", "spark": "", "stopped": ""}
    losses = train["losses"]
    stopped = _STOPPED.get(train["outcome"], train["outcome"])
    label = f"training loss {losses[0]:.3g} to {losses[-1]:.3g}; {stopped}" if losses else stopped
    return {
        "epochs": len(losses),
        "steps": format_count(train["n_steps"]),
        "spark": draw_sparkline(losses, label=label),
        "stopped": stopped,
    }


def list_settings(facts: RunFacts) -> list[dict[str, Any]]:
    """Return the groups of settings, each a title and pairs of name and value; empty groups are left out."""
    run = facts.run
    first = {"task": run["task"], "seed": run["seed"], "created": run["created"], "lionheart": run["lionheart_version"]}
    groups = [
        ("Run", first),
        ("Software and hardware", run["environment"]),
        ("Search", run["search_spec"]),
        ("Tile, device and hardware-aware training", run["tile_spec"]),
        ("Training", run["train_spec"]),
    ]
    return [{"title": title, "pairs": flatten_settings(settings)} for title, settings in groups if settings]
