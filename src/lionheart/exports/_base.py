"""What a format of `lionheart export` provides."""

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
    """A finished run and what is wanted of it.

    Args:
        run: Folder of the run.
        load_task: Returns its task.
        out: File or folder to write; None = the format's default.
        check: Whether to run the result and compare it.
        n_calibration: Training samples that decide scales.
        n_stored: Validation samples stored with the result.
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
    """What was exported.

    Args:
        data: Plain data for ``--json``.
        lines: Sentences for people.
        is_output: Whether `data` is the export itself, which then goes to stdout.
        is_wrong: Whether a check found a difference.
    """

    data: dict[str, Any]
    lines: tuple[str, ...] = ()
    is_output: bool = False
    is_wrong: bool = False


class Export(Protocol):
    """One format."""

    #: What it is, for help texts.
    help: str

    def export(self, request: ExportRequest) -> ExportResult:
        """Write a finished run in this format.

        Raises:
            ConfigError: The request asks for something that this format does not have.
            ArtifactError: The run is not finished, or the result cannot be written.
        """


EXPORTS: Registry[Export] = Registry("--to", "formats", package="lionheart.exports", one_per_module=True)
