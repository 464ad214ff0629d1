"""The interface of a format of `lionheart export`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from lionheart.registry import Registry

if TYPE_CHECKING:
    from lionheart.tasks import Task


@final
@dataclass(frozen=True)
class ExportRequest:
    """A request to export a finished run.

    Args:
        run: Directory of the run.
        load_task: Function that returns the task of the run.
        out: File or directory to write; None = the format's default.
        check: Whether the exported program is run and its outputs compared.
        n_calibration: Number of training samples for the calibration of scales.
        n_stored: Number of validation samples stored with the export.
    """

    run: Path
    load_task: Callable[[], Task]
    out: Path | None = None
    check: bool = False
    n_calibration: int = 64
    n_stored: int = 8


@final
@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Args:
        data: Plain data for ``--json``.
        lines: Sentences for the terminal.
        is_output: Whether `data` is the export itself, which is then written to stdout.
        is_wrong: Whether a check found a difference.
    """

    data: dict[str, Any]
    lines: tuple[str, ...] = ()
    is_output: bool = False
    is_wrong: bool = False


class Export(Protocol):
    """An export format."""

    #: Description of the format, for help texts.
    help: str

    def export(self, request: ExportRequest) -> ExportResult:
        """Write a finished run in this format.

        Raises:
            ConfigError: The request has an option that this format does not support.
            ArtifactError: The run is not finished, or the result cannot be written.
        """


EXPORTS: Registry[Export] = Registry("--to", "formats", package="lionheart.exports", one_per_module=True)
