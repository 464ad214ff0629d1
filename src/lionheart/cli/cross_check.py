"""A second opinion on the costs of a finished run's layers, by another tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lionheart.cli.console import RichProgress, make_table, stderr
from lionheart.errors import ConfigError, suggest
from lionheart.units import format_count, format_si

TOOLS = ("zigzag",)


def add_second_opinion(estimates: Sequence[dict[str, Any]], run_dir: Path, platforms: Sequence[str]) -> None:
    """Put what ZigZag says beside each estimate, as ``second_opinion``.

    Args:
        estimates: Of the run, one for each platform.
        run_dir: The finished run.
        platforms: Names or files, as given.

    Raises:
        ConfigError: The tool is not installed.
    """
    from lionheart.graph import LayerGraph
    from lionheart.interop.zigzag import compare_with_zigzag
    from lionheart.jobs.evaluate import open_finished
    from lionheart.mapping import LayerMapping
    from lionheart.system import load_platform

    run = open_finished(run_dir)
    graph = LayerGraph.from_json(run.read("graph.json"))
    mapping = LayerMapping.load(run.file("mapping.json"))
    for estimate, name in zip(estimates, platforms, strict=True):
        opinion = compare_with_zigzag(graph, mapping, load_platform(name), progress=RichProgress())
        estimate["second_opinion"] = opinion


def check_tool(tool: str | None) -> None:
    """Refuse an unknown tool, or one that is not installed, before anything is computed.

    Raises:
        ConfigError: Says what to do.
    """
    if tool is None:
        return
    if tool not in TOOLS:
        raise ConfigError(f"--second-opinion: got {tool!r}", hint=suggest(tool, TOOLS, label="tools"))
    import lionheart.interop.zigzag  # noqa: F401  says how to install it


def show_second_opinion(data: Mapping[str, Any]) -> None:
    """Print both costs of each projection on the core, of one MVM of a tile, and what each side leaves out."""
    table = make_table(
        f"{data['platform']}: each projection on the core, ours and ZigZag's on {data['lanes']} ideal lanes",
        "projection", "runs", "ours", "ZigZag", "ratio", "ours ", "ZigZag ", "ratio ",
        right=("ours", "ZigZag", "ratio", "ours ", "ZigZag ", "ratio "),
    )  # fmt: skip
    for row in data["rows"]:
        table.add_row(row["fqn"], row["placement"], *_cells(row))
    table.add_row("sum", "", *_cells(data["totals"]["all"]), style="bold")
    if data["totals"]["digital"] and data["totals"]["digital"]["n_projections"] < len(data["rows"]):
        table.add_row("digital ones", "", *_cells(data["totals"]["digital"]), style="bold")
    stderr.print(table)
    ours, tile = data["totals"]["all"]["ours"], data["tile"]
    array = "; ".join(f"{_pair(each)} at {each['bits_per_cycle']} bit a cycle" for each in tile["zigzag"])
    lines = (
        f"Of ours, {_share(ours, 'products_s', 'latency_s')} of the time is products, at "
        f"{format_count(data['totals']['all']['products_macs_per_s'])}MAC/s; "
        f"{_share(ours, 'leakage_j', 'energy_j')} of the energy is leakage of the last-level cache.",
        f"One MVM of a {tile['rows']}×{tile['cols']} tile: ours {_pair(tile['ours'])}; ZigZag {array}.",
        "ours leaves out:",
        *(f"  - {each}" for each in data["ours_leaves_out"]),
        "ZigZag leaves out:",
        *(f"  - {each}" for each in data["zigzag_leaves_out"]),
    )
    for line in lines:
        stderr.print(line, markup=False)


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = []
    for name, unit, ratio in (("latency_s", "s", "latency_ratio"), ("energy_j", "J", "energy_ratio")):
        cells += [format_si(row[side][name], unit) for side in ("ours", "zigzag")]
        cells.append("" if row[ratio] is None else f"{row[ratio]:.1f}×")
    return cells


def _share(side: Mapping[str, float], part: str, whole: str) -> str:
    return f"{100 * side[part] / side[whole]:.0f} %" if side[whole] else "none"


def _pair(cost: Mapping[str, float]) -> str:
    return f"{format_si(cost['latency_s'], 's')}, {format_si(cost['energy_j'], 'J')}"
