"""The interface that an export format of `lionheart export` implements, and the classes of its input and output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from lionheart.progress import SILENT, Progress
from lionheart.registry import Registry

if TYPE_CHECKING:
    from lionheart.tasks import Task


@final
@dataclass(frozen=True)
class ExportRequest:
    """A request to export a finished run.

    Args:
        run: Directory of the finished run.
        load_task: Function without arguments that loads the task (model and data) of the run.
        out: File or directory to write; None = the format uses a default directory or standard output.
        check: Whether to run the exported program and compare its outputs with the expected outputs, which are stored with the
            program. Only for formats that write a program.
        n_calibration: Number of training samples from which the quantisation scales of the exported program are computed.
        n_stored: Number of validation samples that are stored with the exported program.
        n_scored: Number of validation samples on which the exported program is scored; None = those of the run's final results.
            Formats without a program ignore all numbers of samples.
        progress: Receiver of progress bars.
    """

    run: Path
    load_task: Callable[[], Task]
    out: Path | None = None
    check: bool = False
    n_calibration: int = 64
    n_stored: int = 8
    n_scored: int | None = None
    progress: Progress = SILENT


@final
@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Args:
        data: Dict that describes the export and can be written as JSON. The option ``--json`` prints this dict.
        lines: Sentences that are printed to the terminal.
        is_output: Whether `data` is the exported content itself instead of a description. If so, `data` is written to standard
            output.
        is_wrong: Whether the check of the exported program found outputs that differ from the expected outputs.
    """

    data: dict[str, Any]
    lines: tuple[str, ...] = ()
    is_output: bool = False
    is_wrong: bool = False


class Export(Protocol):
    """An export format: a way to write a finished run for another tool."""

    #: Description of the format in help texts.
    help: str

    def export(self, request: ExportRequest) -> ExportResult:
        """Export the finished run in the directory `request.run` in this format.

        Raises:
            ConfigError: The request contains an option that the format does not support.
            ArtifactError: The run is not finished, or the result cannot be written.
        """


EXPORTS: Registry[Export] = Registry("--to", "formats", package="lionheart.exports", one_per_module=True)
