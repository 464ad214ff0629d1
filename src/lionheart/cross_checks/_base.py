"""The interface that a tool implements for `lionheart simulate --cross-check`.

The module also defines `ComparisonText`, which contains the result of a cross-check as a table and sentences.
"""

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
    """The result of a cross-check as text: a table, and sentences below the table.

    Args:
        title: Title of the table.
        columns: Names of the columns.
        right: Names of the columns that contain numbers. These columns are right-aligned.
        rows: Rows of the table, one for each layer. A row has one cell for each column.
        sums: Rows below the rows of the layers. Each row contains sums over layers, with one cell for each column.
        lines: Sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    right: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sums: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


class CrossCheck(Protocol):
    """A tool that estimates the time and energy of layers, for comparison with the system model in `lionheart.system`."""

    #: Description of the tool's result and of the packages that the tool needs, in help texts.
    help: str

    def require(self) -> None:
        """Check that the tool is installed.

        Raises:
            ConfigError: The tool is not installed. The hint gives the command that installs it.
        """

    def compare(
        self, graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress
    ) -> Record:
        """Return a record with the cost of each layer, estimated by the tool and by the system model in `lionheart.system`.

        Args:
            graph: Layer graph of the network.
            mapping: Placement of each layer: on analog tiles or digital.
            platform: Core, memory and tiles for which the system model estimates the costs.
            progress: Display of the progress.

        Raises:
            ConfigError: The tool is not installed, or the mapping belongs to another network.
            UnsupportedLayerError: The tool does not support a layer.
        """

    def describe(self, comparison: Any) -> ComparisonText:
        """Return a table and sentences that show the record `comparison`, which `compare` has returned."""


CROSS_CHECKS: Registry[CrossCheck] = Registry(
    "--cross-check", "tools", package="lionheart.cross_checks", one_per_module=True
)
