"""What a tool of `lionheart simulate --cross-check` provides."""

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
    """A comparison for people: a table and sentences below it.

    Args:
        title: Of the table.
        columns: Names of its columns.
        right: Columns of numbers.
        rows: Cells of the layers.
        sums: Cells of rows that add up others.
        lines: Sentences.
    """

    title: str
    columns: tuple[str, ...]
    right: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sums: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


class CrossCheck(Protocol):
    """One tool."""

    #: What it gives and what it needs, for help texts.
    help: str

    def require(self) -> None:
        """Make sure that the tool is installed.

        Raises:
            ConfigError: It is not; the hint says how to install it.
        """

    def compare(
        self, graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress
    ) -> Record:
        """Return the tool's cost of each layer, and that of the system model.

        Raises:
            ConfigError: The tool is not installed, or the mapping is for another network.
            UnsupportedLayerError: The tool cannot price a layer.
        """

    def describe(self, comparison: Any) -> ComparisonText:
        """Return what `compare` returned for people."""


CROSS_CHECKS: Registry[CrossCheck] = Registry(
    "--cross-check", "tools", package="lionheart.cross_checks", one_per_module=True
)
