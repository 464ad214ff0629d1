"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lionheart.cli.console import make_table, stderr
from lionheart.constants import Constant
from lionheart.metrics import Measure
from lionheart.record import read_record
from lionheart.units import format_count, format_duration, format_elapsed, format_si

if TYPE_CHECKING:
    from lionheart.runs.costs import SystemRecord
    from lionheart.system.inspection import CoverageAudit, CoverageTotals, ProjectionAudit, ProjectionGroup, ShapeCount

_NOTES = 10  # reasons why a projection stays digital that are shown
_MANY = 40  # projections; more are shown together where blocks repeat


def show_inspection(data: CoverageAudit, *, every: bool = False, by_unit: bool = False) -> None:
    """Print the projections of a network, or with many of them and not `every` one line for those that blocks repeat.

    Args:
        data: The audit.
        every: Show each projection, also of many.
        by_unit: Show the mapping units instead.
    """
    if by_unit:
        _show_units(data)
    elif every or len(data.projections) <= _MANY:
        _show_projections(data)
    else:
        _show_groups(data)
    totals, n = data.totals, len(data.projections)
    stderr.print(
        f"{format_count(totals.macs)}MACs and {totals.weights:,} weights in {n} projections. "
        f"{_share(totals, totals.macs_mappable)} may go analog, on {totals.n_tiles_all_analog} tiles; "
        f"{_share(totals, totals.macs_by_choice)} stay digital by choice, "
        f"{_share(totals, totals.macs_not_mappable)} because they must. "
        f"Times: {data.platform}.",
        markup=False,
    )
    for group in data.groups:
        if group.reason:
            count = f" ({group.n_projections})" if group.n_projections > 1 else ""
            stderr.print(f"  digital: {group.pattern}{count}: {group.reason}", markup=False)
    for row in data.projections:
        if row.aliases:
            stderr.print(f"  one weight: {row.fqn} = {', '.join(row.aliases)}", markup=False)
    if data.idle:
        stderr.print(f"did not run on these inputs: {', '.join(data.idle)}", markup=False)
    if totals.macs_dynamic:
        stderr.print(f"products of activations, always digital: {format_count(totals.macs_dynamic)}MACs", markup=False)
    others = ", ".join(f"{op.name} {format_count(op.n_elements)}" for op in data.other_ops if op.n_elements)
    if others:
        stderr.print(f"always digital (elements written): {others}", markup=False)
    if data.unpriced_ops:
        stderr.print(f"without a price on {data.platform}: {', '.join(data.unpriced_ops)}", markup=False)


def _share(totals: CoverageTotals, macs: int) -> str:
    return f"{100 * macs / totals.macs:.1f} % of the MACs"


def _shape(row: ProjectionAudit | ProjectionGroup | ShapeCount) -> str:
    return f"{row.rows}×{row.cols}" + (f"×{row.groups}" if row.groups > 1 else "")


def _show_groups(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: projections, those of repeated blocks together (--all: each)",
        "projections", "number", "kind", "rows×cols", "MACs", "weights", "tiles",
        right=("number", "rows×cols", "MACs", "weights", "tiles"),
    )  # fmt: skip
    for row in data.groups:
        table.add_row(
            row.pattern,
            str(row.n_projections),
            row.kind,
            _shape(row),
            format_count(row.macs),
            format_count(row.weights),
            "-" if row.reason else str(row.n_tiles),
        )
    stderr.print(table)


def _show_units(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: {data.totals.n_units} units, the parts of repeated blocks",
        "unit", "number", "each holds", "MACs", "weights", "tiles",
        right=("number", "MACs", "weights", "tiles"),
    )  # fmt: skip
    for row in data.units:
        table.add_row(
            row.pattern,
            str(row.n_units),
            "\n".join(f"{shape.n_projections} {shape.kind} {_shape(shape)}" for shape in row.shapes),
            format_si(row.macs, "").strip(),
            format_si(row.weights, "").strip(),
            str(row.n_tiles_mappable) if row.n_mappable else "-",
        )
    stderr.print(table)


def _show_projections(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: projections in the network's order",
        "projection", "kind", "rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog",
        right=("rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog"),
    )  # fmt: skip
    for row in data.projections:
        analog = row.analog
        table.add_row(
            row.fqn,
            row.kind,
            _shape(row),
            f"{row.n_mvms}",
            format_count(row.macs),
            str(row.n_tiles) if row.mappable else "-",
            "-" if analog is None or row.tile_utilisation is None else f"{100 * row.tile_utilisation:.0f} %",
            format_si(row.digital.latency_s, "s", 2),
            format_si(analog.latency_s, "s", 2) if analog else "-",
        )
    stderr.print(table)


def show_mapping(results: Mapping[str, Any], graph: Mapping[str, Any], elapsed_s: float) -> None:
    """Print the mapping, the accuracy, or what the task measures, over time and the cost."""
    from lionheart.report.text import describe_objective, describe_tiles
    from lionheart.runs.costs import SystemRecord

    measure = Measure.from_json(results.get("measure"), "results.json")
    tried = {row["fqn"]: row for row in results["decisions"]}
    in_groups = any(name not in results["mapping"]["placements"] for name in tried)
    total = graph["totals"]["macs"]
    table = make_table(
        "mapping, in the network's order", "projection", "rows×cols", "MACs", "share", "runs", measure.name, "drop",
        right=("rows×cols", "MACs", "share", measure.name, "drop"),
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
            measure.format_value(decision["accuracy"]["mean"]) if decision else "" if in_groups else "not tried",
            measure.format_drop(decision["drop_pp"], sign=True) if decision else "",
        )
    stderr.print(table)
    notes = list(results.get("notes", {}).items())
    for fqn, note in notes[:_NOTES]:
        stderr.print(f"  digital: {fqn}: {note}", markup=False)
    if len(notes) > _NOTES:
        stderr.print(f"  digital for their tiles or their cost: {len(notes) - _NOTES} more", markup=False)
    title = f"test {measure.name} over time, fresh chips"
    show_accuracy(results["test_over_time"], title, results["confidence"], measure)
    show_system(read_record(tuple[SystemRecord, ...], results["system"], "results.system"))
    n_analog = sum(place == "analog" for place in results["mapping"]["placements"].values())
    validation, baseline = results["validation"], results["baseline"]
    tiles = describe_tiles(results["n_tiles"], results.get("max_tiles"))
    aim = describe_objective(results.get("objective"), results["system"][0]["platform"] if results["system"] else None)
    some = "" if results.get("final_samples") is None else f" (first {results['final_samples']:,} samples)"
    verdict = {"infeasible": "No layer could be mapped within the bound. ", "budget": "The budget ended the search. "}
    stderr.print(
        f"\n{verdict.get(results['outcome'], '')}{n_analog} of {len(graph['projections'])} projections, "
        f"{100 * results['analog_mac_share']:.1f} % of the MACs, run analog on {tiles}.{f' {aim}' if aim else ''}\n"
        f"Validation{some} after {format_duration(results['t_inference'])}: {measure.format_value(validation['mean'])} "
        f"{measure.format_interval(validation['low'], validation['high'])}, drop {measure.format_drop(validation['drop_pp'])} "
        f"(bound {results['max_drop_pp']:g}). {_describe_certificate(results, measure)}"
        f"{_describe_aftermath(results, n_analog, measure)}"
        f"Digital test {measure.name}{some}: {measure.format_value(baseline['test_accuracy'])}.\n"
        f"Search {format_elapsed(results['elapsed_s'])}, everything {format_elapsed(elapsed_s)}.",
        markup=False,
        style="bold",
    )


def _describe_aftermath(results: Mapping[str, Any], n_analog: int, measure: Measure) -> str:
    from lionheart.report.text import describe_corrections, describe_reprogramming

    found = describe_corrections(results.get("tiles"), n_analog)
    age = describe_reprogramming(results.get("reprogramming"), results["max_drop_pp"], measure)
    return "".join(f"{text} " for text in (found, age) if text)


def _describe_certificate(results: Mapping[str, Any], measure: Measure) -> str:
    tests = results.get("certificate")
    if not tests:
        return ""
    last = tests[-1]
    return (
        f"Held-out samples: drop {measure.format_drop(last['drop_pp'])}, "
        f"with {100 * last['confidence']:g} % confidence at most "
        f"{measure.format_drop(last['limit_pp'])} ({len(tests)} mapping{'s' if len(tests) > 1 else ''} tested). "
    )


def show_accuracy(rows: Sequence[Mapping[str, Any]], title: str, confidence: float, measure: Measure) -> None:
    """Print accuracy, or what the task measures, at each time."""
    table = make_table(
        title, "time", measure.name, f"{100 * confidence:g} % interval", "chip to chip", "worst chip", "chips",
        right=(measure.name, "chip to chip", "worst chip", "chips"),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            format_duration(row["t_inference"]),
            measure.format_value(row["mean"]),
            measure.format_interval(row["low"], row["high"]).replace("[", r"\["),
            f"± {measure.format_drop(100 * row['std'])}",
            measure.format_value(min(row["scores"])),
            str(row["n_chips"]),
        )
    stderr.print(table)
    if measure.rises_with_drop:
        stderr.print(measure.explain_drop(), markup=False)


def show_system(estimates: Sequence[SystemRecord]) -> None:
    """Print time and energy of each platform."""
    table = make_table(
        "one inference", "platform", "digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles",
        right=("digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles"),
    )  # fmt: skip
    for row in estimates:
        table.add_row(
            row.platform,
            format_si(row.all_digital.latency_s, "s"),
            format_si(row.mapped.latency_s, "s"),
            f"{row.speedup:.2f}×",
            format_si(row.all_digital.energy_j, "J"),
            format_si(row.mapped.energy_j, "J"),
            f"{row.energy_gain:.2f}×",
            str(row.n_tiles),
        )
    stderr.print(table)
    for row in estimates:
        for line in _describe_programming(row):
            stderr.print(line, markup=False)


def _describe_programming(row: SystemRecord) -> list[str]:
    """Return what programming takes and when it is paid for, and tiles that are missing; older results have neither."""
    lines, cost = [], row.programming
    if row.tiles_missing:
        lines.append(f"{row.platform}: {row.tiles_missing} of these tiles are more than it has")
    if cost is not None and cost.n_devices:
        text = cost.reason_unknown
        if cost.time_s is not None and cost.energy_j is not None:
            after = cost.break_even_energy
            paid = (
                "its energy is never saved" if after is None else f"energy saved after {format_count(after)} inferences"
            )
            text = f"{format_si(cost.time_s, 's')}, {format_si(cost.energy_j, 'J')}; {paid}"
        lines.append(f"programming, {row.platform}: {text}")
    return lines


def show_sources(data: Mapping[str, Mapping[str, Constant]]) -> None:
    """Print every constant."""
    for file, constants in data.items():
        stderr.print(f"\n{file}", style="bold")
        for name, entry in constants.items():
            stderr.print(f"{name} = {entry.value} [{entry.unit}] ({entry.kind})", markup=False)
            stderr.print(f"    {entry.source}", markup=False)


def show_front(results: Mapping[str, Any]) -> None:
    """Print the front of accuracy against cost, cheapest first, and the best mapping for each bound."""
    measure = Measure.from_json(results.get("measure"), "pareto.json")
    rows = {row["number"]: row for row in results["mappings"]}
    table = make_table(
        f"{results['task']}: the front of {measure.name} against {results['objective']}",
        "trial", "analog", "MACs", "drop", "fresh chips", "time", "energy", "tiles", "within",
        right=("trial", "analog", "MACs", "drop", "fresh chips", "time", "energy", "tiles"),
    )  # fmt: skip
    for row in (rows[number] for number in results["front"]):
        fresh = row["fresh"]
        table.add_row(
            str(row["number"]),
            f"{row['n_analog']}/{results['n_projections']}",
            f"{100 * row['analog_mac_share']:.1f} %",
            f"{row['drop_pp']:+.2f}",
            "" if fresh is None else f"{fresh['drop_pp']:+.2f} ± {50 * (fresh['high'] - fresh['low']):.2f}",
            "" if row["latency_s"] is None else format_si(row["latency_s"], "s"),
            "" if row["energy_j"] is None else format_si(row["energy_j"], "J"),
            str(row["n_tiles"]),
            " ".join(f"{bound['max_drop_pp']:g}" for bound in results["bounds"] if bound["number"] == row["number"]),
        )
    stderr.print(table)
    baseline, samples = results["baseline"], results["validation_samples"]
    stderr.print(
        f"{len(rows)} mappings measured in {format_elapsed(results['elapsed_s'])}"
        f"{'' if results['complete'] else ', stopped early'}. Drops in {measure.drop_unit} of validation {measure.name} "
        f"{format_duration(results['t_inference'])} after programming. The front was chosen by "
        f"{results['n_chips']} chips on {'all' if samples is None else f'the first {samples}'} samples "
        f"(digital {measure.format_value(baseline['decision'])}); fresh: {results['n_chips_final']} other chips, all samples "
        f"(digital {measure.format_value(baseline['validation'])}). Time and energy: {results['platform'] or 'no platform'}.",
        markup=False,
    )
    for bound in results["bounds"]:
        _show_bound(bound, rows, measure)


def _show_bound(bound: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]], measure: Measure) -> None:
    first = bound["first_choice"]
    if bound["number"] is None:
        text = "no mapping is within this bound"
    else:
        text = f"{100 * rows[bound['number']]['analog_mac_share']:.1f} % of the MACs analog, {bound['file']}"
        text += "" if bound["is_confirmed"] else " (not confirmed on fresh chips yet)"
    if first != bound["number"]:
        text += f"; trial {first} did not hold on fresh chips"
    stderr.print(f"{bound['max_drop_pp']:g} {measure.drop_unit}: {text}", markup=False, style="bold")
