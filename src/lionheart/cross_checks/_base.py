"""The interface of a tool of `lionheart simulate --cross-check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

from lionheart.registry import Registry

if TYPE_CHECKING:
    from lionheart.graph import LayerGraph
    from lionheart.mapping import LayerMapping
    from lionheart.progress import Progress
    from lionheart.record import Record
    from lionheart.system import PlatformSpec


@final
@dataclass(frozen=True)
class ComparisonText:
    """A comparison as text: a table and sentences below it.

    Args:
        title: Title of the table.
        columns: Names of the columns.
        right: Names of the columns of numbers, which are right-aligned.
        rows: Cells of the rows, one row for each layer.
        sums: Cells of the rows that hold sums.
        lines: Sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    right: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sums: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


class CrossCheck(Protocol):
    """A tool that estimates the cost of layers."""

    #: Result and requirements of the tool, for help texts.
    help: str

    def require(self) -> None:
        """Check that the tool is installed.

        Raises:
            ConfigError: The tool is not installed; the hint gives the command that installs it.
        """

    def compare(
        self, graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress
    ) -> Record:
        """Return the cost of each layer according to the tool and according to the system model.

        Raises:
            ConfigError: The tool is not installed, or the mapping is for another network.
            UnsupportedLayerError: The tool does not support a layer.
        """

    def describe(self, comparison: Any) -> ComparisonText:
        """Return a result of `compare` as text."""


CROSS_CHECKS: Registry[CrossCheck] = Registry(
    "--cross-check", "tools", package="lionheart.cross_checks", one_per_module=True
)
