"""Comparison of the layer costs that lionheart estimates for a finished run with the estimates of another tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lionheart.cli.console import RichProgress, make_table, stderr

if TYPE_CHECKING:
    from lionheart.record import Record


def compare_run(tool: str, run_dir: Path, platforms: Sequence[str]) -> list[Record]:
    """Compare the layer costs that lionheart estimates for a finished run with the estimates of another tool.

    Args:
        tool: Name of the other tool, such as ``zigzag``.
        run_dir: Folder of the finished run.
        platforms: Names or TOML files of hardware platforms.

    Returns:
        One record for each platform, in the order of `platforms`. Its class depends on the tool.

    Raises:
        ConfigError: The tool is unknown or not installed.
        ArtifactError: The run is missing or unfinished.
    """
    from lionheart.cross_checks import CROSS_CHECKS
    from lionheart.graph import LayerGraph
    from lionheart.jobs.evaluate import open_finished
    from lionheart.mapping import LayerMapping
    from lionheart.system import load_platform

    run = open_finished(run_dir)
    graph = run.read("graph.json", LayerGraph)
    mapping = LayerMapping.load(run.file("mapping.json"))
    check = CROSS_CHECKS.find(tool)
    return [check.compare(graph, mapping, load_platform(name), progress=RichProgress()) for name in platforms]


def check_tool(tool: str | None) -> None:
    """Check that the tool named `tool` is known and installed. If `tool` is None, nothing is checked.

    Raises:
        ConfigError: The tool is unknown or not installed.
    """
    if tool is not None:
        from lionheart.cross_checks import CROSS_CHECKS

        CROSS_CHECKS.find(tool).require()


def show_comparison(tool: str, comparison: Record) -> None:
    """Print a comparison that `compare_run` returned: a table with the costs of each layer in both cost models, and notes."""
    from lionheart.cross_checks import CROSS_CHECKS

    text = CROSS_CHECKS.find(tool).describe(comparison)
    table = make_table(text.title, *text.columns, right=text.right)
    for row in text.rows:
        table.add_row(*row)
    for row in text.sums:
        table.add_row(*row, style="bold")
    stderr.print(table)
    for line in text.lines:
        stderr.print(line)
