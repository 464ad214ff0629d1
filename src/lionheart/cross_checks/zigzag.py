"""Cross-check of the system model with ZigZag, a cost model for accelerators from KU Leuven."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from lionheart.cross_checks._base import CROSS_CHECKS, ComparisonText
from lionheart.units import format_count, format_si

if TYPE_CHECKING:
    from lionheart.graph import LayerGraph
    from lionheart.interop.zigzag.compare import LayerComparison, TotalComparison, ZigZagComparison
    from lionheart.mapping import LayerMapping
    from lionheart.progress import Progress
    from lionheart.runs.costs import CostTotals
    from lionheart.system import PlatformSpec


@final
class ZigZagCheck:
    """Cross-check that estimates the cost of each layer with ZigZag. It implements `CrossCheck`."""

    help = "ZigZag's cost of each layer (extra zigzag)"

    def require(self) -> None:
        """Check that ZigZag is installed; see `CrossCheck.require`."""
        import lionheart.interop.zigzag  # noqa: F401  raises with the command that installs ZigZag

    def compare(
        self, graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress
    ) -> ZigZagComparison:
        """Return the cost of each layer, estimated by ZigZag and by the system model; see `CrossCheck.compare`."""
        from lionheart.interop.zigzag import compare_with_zigzag

        return compare_with_zigzag(graph, mapping, platform, progress=progress)

    def describe(self, comparison: ZigZagComparison) -> ComparisonText:
        """Return a table and sentences that show a comparison with ZigZag; see `CrossCheck.describe`."""
        data, total = comparison, comparison.totals.all
        sums = [("sum", "", *_cells(total))]
        digital = data.totals.digital
        if digital is not None and digital.n_projections < len(data.rows):
            sums.append(("sum of digital", "", *_cells(digital)))
        array = "; ".join(f"{_pair(each)} at {each.bits_per_cycle} bit a cycle" for each in data.tile.zigzag)
        return ComparisonText(
            title=f"{data.platform}: each projection on the core, ours and ZigZag's on {data.lanes} ideal lanes",
            columns=("projection", "runs", "ours", "ZigZag", "ratio", "ours ", "ZigZag ", "ratio "),
            right=("ours", "ZigZag", "ratio", "ours ", "ZigZag ", "ratio "),
            rows=tuple((row.fqn, str(row.placement), *_cells(row)) for row in data.rows),
            sums=tuple(sums),
            lines=(
                f"Our model: {_share(total.ours.products_s, total.ours.latency_s)} of the time is products, at "
                f"{format_count(total.products_macs_per_s)}MAC/s; "
                f"{_share(total.ours.leakage_j, total.ours.energy_j)} of the energy is leakage of the last-level cache.",
                f"One MVM of a {data.tile.rows}×{data.tile.cols} tile: ours {_pair(data.tile.ours)}; ZigZag {array}.",
                "Our model leaves out:",
                *(f"  - {each}" for each in data.ours_leaves_out),
                "ZigZag leaves out:",
                *(f"  - {each}" for each in data.zigzag_leaves_out),
            ),
        )


def _cells(row: LayerComparison | TotalComparison) -> tuple[str, ...]:
    return (
        format_si(row.ours.latency_s, "s"),
        format_si(row.zigzag.latency_s, "s"),
        f"{row.latency_ratio:.1f}×",
        format_si(row.ours.energy_j, "J"),
        format_si(row.zigzag.energy_j, "J"),
        "" if row.energy_ratio is None else f"{row.energy_ratio:.1f}×",
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"


def _pair(cost: CostTotals) -> str:
    return f"{format_si(cost.latency_s, 's')}, {format_si(cost.energy_j, 'J')}"


CROSS_CHECKS.add("zigzag", ZigZagCheck())
