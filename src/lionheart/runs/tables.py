"""Tables of accuracies and of costs, which the command line and ``print`` show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lionheart.tables import Table
from lionheart.units import format_count, format_duration, format_si

if TYPE_CHECKING:
    from lionheart.metrics import Metric
    from lionheart.runs.costs import ProgrammingRecord, SystemRecord
    from lionheart.runs.records import Accuracy


def tabulate_accuracy(points: Sequence[Accuracy], confidence: float, metric: Metric) -> Table:
    """Return a table with one row for each time after programming.

    The columns are the mean score over chips, its confidence interval, the standard deviation over chips, the score of the
    worst chip and the number of chips.

    Args:
        points: Scores over chips, one object for each time.
        confidence: Coverage probability of the confidence intervals, 0 to 1, for the heading.
        metric: Metric of the scores.
    """
    rows = [
        (
            format_duration(point.t_inference),
            metric.format_value(point.mean),
            metric.format_interval(point.low, point.high),
            f"± {metric.format_spread(point.std)}",
            metric.format_value(metric.worst(point.scores)),
            str(point.n_chips),
        )
        for point in points
    ]
    columns = ("time", metric.name, f"{100 * confidence:g} % interval", "std. dev.", "worst chip", "chips")
    return Table(columns, tuple(rows), right=(metric.name, "std. dev.", "worst chip", "chips"))


def tabulate_systems(estimates: Sequence[SystemRecord]) -> Table:
    """Return a table with one row for each platform.

    The columns are time and energy of one inference for the all-digital and for the mapped network, the ratios
    all-digital / mapped of time and energy, and the number of tiles.
    """
    rows = [
        (
            row.platform,
            format_si(row.all_digital.latency_s, "s"),
            format_si(row.mapped.latency_s, "s"),
            f"{row.speedup:.2f}×",
            format_si(row.all_digital.energy_j, "J"),
            format_si(row.mapped.energy_j, "J"),
            f"{row.energy_gain:.2f}×",
            str(row.n_tiles),
        )
        for row in estimates
    ]
    columns = ("platform", "digital", "mapped", "faster", "digital ", "mapped ", "saving", "tiles")
    return Table(columns, tuple(rows), right=columns[1:])


def tabulate_policies(system: SystemRecord) -> Table | None:
    """Return a table of the projections (weight matrices) with a read policy that is not default; None if there are none.

    The columns are the policy, the time and energy of one inference that it adds, and the energy of all reads of the tiles.
    """
    rows = [
        (
            row.fqn,
            row.policy.policy,
            format_si(row.policy.latency_s, "s", 2),
            format_si(row.policy.energy_j, "J", 2),
            format_si(row.policy.reads_j, "J", 2),
        )
        for row in system.layers
        if row.policy is not None
    ]
    columns = ("projection", "read policy", "time added", "energy added", "all reads")
    return Table(columns, tuple(rows), right=columns[2:]) if rows else None


def describe_policies(system: SystemRecord) -> str:
    """Return a sentence with the cost of all read policies of a mapping together; empty if all policies are default."""
    found = [row.policy for row in system.layers if row.policy is not None]
    if not found:
        return ""
    latency_s, energy_j = sum(each.latency_s for each in found), sum(each.energy_j for each in found)
    reads_j = sum(
        joules for name, joules in (system.mapped.energy_breakdown_j or {}).items() if name.startswith("tile_")
    )
    return (
        f"Read policies of {len(found)} projection{'' if len(found) == 1 else 's'} add {format_si(latency_s, 's', 2)} and "
        f"{format_si(energy_j, 'J', 2)} on {system.platform}; all reads of tiles take {format_si(reads_j, 'J', 2)}, "
        f"{100 * reads_j / system.mapped.energy_j:.2g} % of the energy."
    )


def describe_missing_tiles(platform: str, tiles_missing: int) -> str:
    """Return a sentence without full stop on tiles that a mapping needs in excess of those of the platform; empty if none."""
    plural = "" if tiles_missing == 1 else "s"
    return f"{platform} has {tiles_missing} tile{plural} too few for this mapping" if tiles_missing else ""


def describe_programming(platform: str, cost: ProgrammingRecord | None, tiles_missing: int = 0) -> list[str]:
    """Return lines of text: one on missing tiles, and one on the time and energy of programming and when they are repaid.

    Args:
        platform: Name of the platform.
        cost: Cost of programming the tiles once; None = return no line on programming.
        tiles_missing: Number of tiles that the mapping needs in excess of the tiles that the platform has; 0 = return no line
            on missing tiles.
    """
    missing = describe_missing_tiles(platform, tiles_missing)
    lines = [missing] if missing else []
    if cost is not None and cost.n_devices:
        text = cost.reason_unknown
        if cost.time_s is not None and cost.energy_j is not None:
            n_inferences = cost.break_even_energy
            paid = (
                "the mapping saves no energy"
                if n_inferences is None
                else f"repaid by the energy saved in {format_count(n_inferences)} inferences"
            )
            text = f"{format_si(cost.time_s, 's')}, {format_si(cost.energy_j, 'J')}; {paid}"
        lines.append(f"programming the tiles once, {platform}: {text}")
    return lines
