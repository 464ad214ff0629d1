"""The command ``lionheart inspect``, which lists the projections (weight matrices) of a network and their tiles.

For each projection that stays digital, the command prints the reason.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lionheart.cli.console import NameCell, RichProgress, make_table, print_json, stderr
from lionheart.cli.options import ExcludeRules, IncludeRules, JsonFlag, ModelName, PlatformName, TileSetFlags
from lionheart.errors import ConfigError
from lionheart.units import format_count, format_si

if TYPE_CHECKING:
    from lionheart.devices import TileSpec
    from lionheart.graph.nodes import OtherWeight
    from lionheart.system.inspection import CoverageAudit, CoverageTotals, ProjectionAudit, ProjectionGroup, ShapeCount

_MANY = 40  # projections; a longer table has one row for equal projections of repeated blocks


def inspect(
    model: ModelName,
    platform: PlatformName = "alpine-high-power",
    include: IncludeRules = None,
    exclude: ExcludeRules = None,
    rows: Annotated[int, typer.Option(metavar="N", help="Number of rows (inputs) of a crossbar.")] = 256,
    cols: Annotated[int, typer.Option(metavar="N", help="Number of columns (outputs) of a crossbar.")] = 256,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help=f"Show one row per projection, even for repeated blocks (grouped from {_MANY + 1} projections on).",
        ),
    ] = False,
    by_unit: Annotated[
        bool,
        typer.Option(
            "--units", help="Show one row per mapping unit, which is a part of a repeated block such as its attention."
        ),
    ] = False,
    settings: TileSetFlags = None,
    as_json: JsonFlag = False,
) -> None:
    """List the projections of a network: MACs, tiles, latencies, and why some cannot run analog.

    A projection is a product of activations and weights: a linear layer, a
    convolution, or a part of an attention or recurrent layer. Built-in tasks and
    Hugging Face models need neither trained weights nor data.
    """
    if every and by_unit:
        raise ConfigError(
            "--all, --units: got both flags, expected only one",
            hint="give only one of the flags; --json writes all projections with their units",
        )
    with _without_collection():
        from lionheart.cli.models import load_graph
        from lionheart.system.inspection import audit_coverage

        tile = _read_tile(rows, cols, settings or ())
        graph = load_graph(model, RichProgress())
        data = audit_coverage(graph, model, tile=tile, platform=platform, include=include or (), exclude=exclude or ())
    if as_json:
        print_json(data.to_json())
    else:
        show_inspection(data, every=every, by_unit=by_unit)


def _read_tile(rows: int, cols: int, assignments: Sequence[str]) -> TileSpec:
    """Return the tile of the given size with the settings in `assignments`, which have the form of ``--set``."""
    from lionheart.devices import TileSpec

    if not assignments:
        return TileSpec(rows=rows, cols=cols)
    from lionheart.jobs.assignments import assign
    from lionheart.jobs.settings import MapSettings

    given: dict[str, Any] = {"tile": {"rows": rows, "cols": cols}}
    assign(MapSettings, given, assignments)
    others = [name for name in given if name != "tile"]
    if others:
        raise ConfigError(
            f"--set: got a setting of {others[0]!r}, expected settings of the tile only",
            hint="for example --set tile.n_reads=4; settings of a search belong to `lionheart map`",
        )
    return TileSpec.from_json(given["tile"])


@contextmanager
def _without_collection() -> Iterator[None]:
    """Disable the garbage collection of Python within the context, in which modules are imported.

    The imports create many objects and free none. Garbage collection would take a sixth of the import time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def show_inspection(data: CoverageAudit, *, every: bool = False, by_unit: bool = False) -> None:
    """Print a table of the projections (weight matrices) of a network, and a summary.

    Args:
        data: Projections of the network with their MACs, tiles and latencies.
        every: Whether each projection has its own row; otherwise a long table has one row for equal projections of repeated
            blocks.
        by_unit: Whether each row is a mapping unit (part of a repeated block, such as its attention) instead of a projection.
    """
    if by_unit:
        _show_units(data)
    elif every or len(data.projections) <= _MANY:
        _show_projections(data)
    else:
        _show_groups(data)
    totals, n = data.totals, len(data.projections)
    stderr.print(
        f"{format_count(totals.macs)}MACs and {totals.weights:,} weights in {n} projections. {_describe_rest(totals)}"
        f"{_share(totals, totals.macs_mappable)} can run analog, on {totals.n_tiles_all_analog} tiles. "
        f"{_share(totals, totals.macs_by_choice)} stay digital by choice of the user. "
        f"{_share(totals, totals.macs_not_mappable + totals.macs_other)} cannot run analog. "
        f"Latencies are those of one inference on {data.platform}."
    )
    stderr.print(_describe_completeness(data))
    policies = [row.policy for row in data.projections if row.policy]
    if policies:
        stderr.print(
            f"Read policies of {len(policies)} projection{'' if len(policies) == 1 else 's'} add "
            f"{format_si(sum(each.latency_s for each in policies), 's', 2)} and "
            f"{format_si(sum(each.energy_j for each in policies), 'J', 2)} if all run analog."
        )
    for group in data.groups:
        if group.reason:
            count = f" ({group.n_projections})" if group.n_projections > 1 else ""
            stderr.print(f"  digital: {group.pattern}{count}: {group.reason}")
    for row in data.projections:
        if row.aliases:
            stderr.print(f"  shared weight: {row.fqn} = {', '.join(row.aliases)}")
    for line in _describe_others(data):
        stderr.print(line)
    for note in data.notes:
        stderr.print(f"  {note}")
    if data.unused:
        stderr.print(f"not used with the example inputs: {', '.join(data.unused)}")
    if totals.macs_dynamic:
        stderr.print(f"always digital, products of two activations: {format_count(totals.macs_dynamic)}MACs")
    others = ", ".join(f"{op.name} {format_count(op.n_elements)}" for op in data.other_ops if op.n_elements)
    if others:
        stderr.print(f"always digital, other operations (output elements): {others}")
    if data.unpriced_ops:
        stderr.print(f"not in the cost model of {data.platform}: {', '.join(data.unpriced_ops)}")


def _describe_rest(totals: CoverageTotals) -> str:
    """Return a sentence on the weights of two or more dimensions outside projections, or an empty string if there are none."""
    if not totals.weights_other:
        return ""
    macs = f", with {format_count(totals.macs_other)}MACs" if totals.macs_other else ""
    return f"{totals.weights_other:,} other weights{macs} are in no projection. "


def _describe_completeness(data: CoverageAudit) -> str:
    """Return a sentence that tells whether the number of MACs is known for every weight."""
    unknown = [each for each in data.other_weights if each.macs is None]
    if not unknown:
        return "The audit is complete: it contains every weight of two or more dimensions."
    names = ", ".join(each.name for each in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
    return f"The audit is NOT complete: the MACs with {names} are not known, and the percentages leave them out."


def _describe_others(data: CoverageAudit) -> list[str]:
    """Return lines on the weights outside projections. Equal weights of repeated blocks share a line."""
    from lionheart.graph.blocks import make_pattern

    groups: dict[tuple[str, str, tuple[int, ...]], list[OtherWeight]] = {}
    for each in data.other_weights:
        groups.setdefault((make_pattern(each.name), each.reason, each.shape), []).append(each)
    lines = []
    for (pattern, reason, shape), members in groups.items():
        known = [each.macs for each in members if each.macs is not None]
        macs = (
            "MACs not known"
            if len(known) < len(members)
            else f"{format_count(sum(known))}MACs"
            if any(known)
            else "no MACs"
        )
        name = f"{pattern} ({len(members)})" if len(members) > 1 else members[0].name
        size = f"{'×'.join(map(str, shape))}, " if shape else ""
        lines.append(f"  other weight: {name}: {size}{macs}: {reason}")
    return lines


def _share(totals: CoverageTotals, macs: int) -> str:
    return f"{100 * macs / max(totals.macs + totals.macs_other, 1):.1f} % of the MACs"


def _shape(row: ProjectionAudit | ProjectionGroup | ShapeCount) -> str:
    return f"{row.rows}×{row.cols}" + (f"×{row.groups}" if row.groups > 1 else "")


def _show_groups(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: projections, equal ones of repeated blocks in one row (--all: one row each)",
        "projections", "number", "type", "rows×cols", "MACs", "weights", "tiles",
        right=("number", "rows×cols", "MACs", "weights", "tiles"),
    )  # fmt: skip
    for row in data.groups:
        table.add_row(
            NameCell(row.pattern),
            str(row.n_projections),
            row.layer_type,
            _shape(row),
            format_count(row.macs),
            format_count(row.weights),
            "-" if row.reason else str(row.n_tiles),
        )
    stderr.print(table)


def _show_units(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: {data.totals.n_units} mapping units (parts of repeated blocks)",
        "unit", "number", "projections of each", "MACs", "weights", "tiles",
        right=("number", "MACs", "weights", "tiles"),
    )  # fmt: skip
    for row in data.units:
        table.add_row(
            NameCell(row.pattern),
            str(row.n_units),
            NameCell("\n".join(f"{shape.n_projections} {shape.layer_type} {_shape(shape)}" for shape in row.shapes)),
            format_si(row.macs, "").strip(),
            format_si(row.weights, "").strip(),
            str(row.n_tiles_mappable) if row.n_mappable else "-",
        )
    stderr.print(table)


def _show_projections(data: CoverageAudit) -> None:
    table = make_table(
        f"{data.task}: projections in execution order",
        "projection", "type", "rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog",
        right=("rows×cols", "MVMs", "MACs", "tiles", "used", "digital", "analog"),
    )  # fmt: skip
    for row in data.projections:
        analog = row.analog
        table.add_row(
            NameCell(row.fqn),
            row.layer_type,
            _shape(row),
            f"{row.n_mvms}",
            format_count(row.macs),
            str(row.n_tiles) if row.mappable else "-",
            "-" if analog is None or row.tile_utilisation is None else f"{100 * row.tile_utilisation:.0f} %",
            format_si(row.digital.latency_s, "s", 2),
            format_si(analog.latency_s, "s", 2) if analog else "-",
        )
    stderr.print(table)
    _show_policies(data)


def _show_policies(data: CoverageAudit) -> None:
    policies = [(row.fqn, row.policy) for row in data.projections if row.policy]
    if not policies:
        return
    columns = ("time added", "energy added")
    table = make_table("read policies on tiles", "projection", "read policy", *columns, right=columns)
    for fqn, each in policies:
        table.add_row(NameCell(fqn), each.policy, format_si(each.latency_s, "s", 2), format_si(each.energy_j, "J", 2))
    stderr.print(table)
