"""Functions that several commands use to print results and to write report pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lionheart.cli.console import make_table, stderr, warn
from lionheart.errors import ArtifactError

if TYPE_CHECKING:
    from lionheart.metrics import Metric
    from lionheart.runs import Accuracy
    from lionheart.runs.costs import SystemRecord
    from lionheart.runs.summary import Summary
    from lionheart.tables import Table


def show_accuracy(points: Sequence[Accuracy], title: str, confidence: float, metric: Metric) -> None:
    """Print a table with the task's metric and its confidence interval at each time after programming.

    Args:
        points: Scores over simulated chips, one object for each time after programming.
        title: Title of the table.
        confidence: Coverage probability of the confidence intervals, 0 to 1.
        metric: Metric of the task.
    """
    from lionheart.runs.tables import tabulate_accuracy

    _show(tabulate_accuracy(points, confidence, metric), title)
    if metric.rises_with_drop:
        stderr.print(metric.explain_drop())


def show_summary(summary: Summary) -> None:
    """Print the words of the summary of a mapping run: headline, remarks and cautions."""
    stderr.print(f"\n{summary.headline}", style="bold")
    for remark in summary.remarks:
        stderr.print(remark)
    for caution in summary.cautions:
        stderr.print(f"caution: {caution.text}")


def show_system(estimates: Sequence[SystemRecord], *, missing_tiles: bool = True) -> None:
    """Print latency and energy of one inference of the all-digital and of the mapped network, and the cost of programming.

    Read policies that are not default are printed with their cost.

    Args:
        estimates: Estimates, one for each platform.
        missing_tiles: Whether to print the number of tiles that a platform lacks.
    """
    from lionheart.runs.tables import describe_policies, describe_programming, tabulate_policies, tabulate_systems

    _show(tabulate_systems(estimates), "latency and energy of one inference")
    for row in estimates:
        for line in describe_programming(row.platform, row.programming, row.tiles_missing if missing_tiles else 0):
            stderr.print(line)
        policies = tabulate_policies(row)
        if policies is not None:
            _show(policies, f"read policies, {row.platform}")
            stderr.print(describe_policies(row))


def write_page(write: Callable[[], Path]) -> Path | None:
    """Write a report page and return its path. If it cannot be written, show a warning and return None.

    Args:
        write: Function that writes the page and returns its path.
    """
    try:
        return write()
    except ArtifactError as error:  # the disk is full or allows no writing: the results can be shown nevertheless
        warn(error.message)
        return None


def _show(content: Table, title: str) -> None:
    table = make_table(title, *content.columns, right=content.right)
    for row in content.rows:
        table.add_row(*row)
    stderr.print(table)
