"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lionheart.cli.console import make_table, stderr
from lionheart.units import format_count, format_duration, format_elapsed, format_si


def show_inspection(data: Mapping[str, Any]) -> None:
    """Print the projections of a network."""
    title = f"{data['task']}: projections in the network's order"
    table = make_table(
        title, "projection", "kind", "rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog",
        right=("rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog"),
    )  # fmt: skip
    reasons = []
    for row in data["projections"]:
        analog = row.get("analog")
        if not row["mappable"]:
            reasons.append(f"{row['fqn']}: {row['reason']}")
        table.add_row(
            row["fqn"],
            row["kind"],
            f"{row['rows']}×{row['cols']}" + (f"×{row['groups']}" if row["groups"] > 1 else ""),
            f"{row['n_mvms']}",
            format_count(row["macs"]),
            str(row["n_tiles"]) if row["mappable"] else "-",
            f"{100 * row['tile_utilisation']:.0f} %" if row["mappable"] else "-",
            format_si(row["digital"]["latency_s"], "s", 2),
            format_si(analog["latency_s"], "s", 2) if analog else "-",
        )
    stderr.print(table)
    totals = data["totals"]
    stderr.print(
        f"{format_count(totals['macs'])}MACs and {totals['weights']:,} weights in {len(data['projections'])} projections; "
        f"{100 * totals['macs_mappable'] / totals['macs']:.1f} % of the MACs may go analog, "
        f"on {totals['n_tiles_all_analog']} tiles. Times: {data['platform']}.",
        markup=False,
    )
    for reason in reasons:
        stderr.print(f"  digital: {reason}", markup=False)
    others = ", ".join(f"{op['name']} {format_count(op['n_elements'])}" for op in data["other_ops"] if op["n_elements"])
    if others:
        stderr.print(f"always digital (elements written): {others}", markup=False)


def show_mapping(results: Mapping[str, Any], graph: Mapping[str, Any], elapsed_s: float) -> None:
    """Print the mapping, the accuracy over time and the cost."""
    tried = {row["fqn"]: row for row in results["decisions"]}
    total = graph["totals"]["macs"]
    table = make_table(
        "mapping, in the network's order", "projection", "rows×cols", "MACs", "share", "runs", "accuracy", "drop",
        right=("rows×cols", "MACs", "share", "accuracy", "drop"),
    )  # fmt: skip
    for row in graph["projections"]:
        decision = tried.get(row["fqn"])
        placement = results["mapping"]["placements"][row["fqn"]]
        table.add_row(
            row["fqn"],
            f"{row['rows']}×{row['cols']}",
            format_count(row["macs"]),
            f"{100 * row['macs'] / total:.1f} %",
            f"[bold cyan]{placement}[/]" if placement == "analog" else placement,
            f"{100 * decision['accuracy']['mean']:.2f} %" if decision else "not tried",
            f"{decision['drop_pp']:+.2f} pp" if decision else "",
        )
    stderr.print(table)
    show_accuracy(results["test_over_time"], "test accuracy over time, fresh chips", results["confidence"])
    show_system(results["system"])
    n_analog = sum(place == "analog" for place in results["mapping"]["placements"].values())
    validation, baseline = results["validation"], results["baseline"]
    verdict = {"infeasible": "No layer could be mapped within the bound. ", "budget": "The budget ended the search. "}
    stderr.print(
        f"\n{verdict.get(results['outcome'], '')}{n_analog} of {len(graph['projections'])} projections, "
        f"{100 * results['analog_mac_share']:.1f} % of the MACs, run analog on {results['n_tiles']} tiles.\n"
        f"Validation after {format_duration(results['t_inference'])}: {100 * validation['mean']:.2f} % "
        f"[{100 * validation['low']:.2f}, {100 * validation['high']:.2f}], drop {validation['drop_pp']:.2f} pp "
        f"(bound {results['max_drop_pp']:g}). Digital test accuracy: {100 * baseline['test_accuracy']:.2f} %.\n"
        f"Search {format_elapsed(results['elapsed_s'])}, everything {format_elapsed(elapsed_s)}.",
        markup=False,
        style="bold",
    )


def show_accuracy(rows: Sequence[Mapping[str, Any]], title: str, confidence: float) -> None:
    """Print accuracy at each time."""
    table = make_table(
        title, "time", "accuracy", f"{100 * confidence:g} % interval", "chip to chip", "worst chip", "chips",
        right=("accuracy", "chip to chip", "worst chip", "chips"),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            format_duration(row["t_inference"]),
            f"{100 * row['mean']:.2f} %",
            f"[{100 * row['low']:.2f}, {100 * row['high']:.2f}]".replace("[", r"\["),
            f"± {100 * row['std']:.2f} pp",
            f"{100 * min(row['scores']):.2f} %",
            str(row["n_chips"]),
        )
    stderr.print(table)


def show_system(estimates: Sequence[Mapping[str, Any]]) -> None:
    """Print time and energy of each platform."""
    table = make_table(
        "one inference", "platform", "digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles",
        right=("digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles"),
    )  # fmt: skip
    for row in estimates:
        table.add_row(
            row["platform"],
            format_si(row["all_digital"]["latency_s"], "s"),
            format_si(row["mapped"]["latency_s"], "s"),
            f"{row['speedup']:.2f}×",
            format_si(row["all_digital"]["energy_j"], "J"),
            format_si(row["mapped"]["energy_j"], "J"),
            f"{row['energy_gain']:.2f}×",
            str(row["n_tiles"]),
        )
    stderr.print(table)


def show_sources(data: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print every constant."""
    for file, constants in data.items():
        stderr.print(f"\n{file}", style="bold")
        for name, entry in constants.items():
            stderr.print(f"{name} = {entry['value']} [{entry['unit']}] ({entry['kind']})", markup=False)
            stderr.print(f"    {entry['source']}", markup=False)
