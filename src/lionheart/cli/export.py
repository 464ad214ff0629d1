"""The command ``lionheart export``, which writes a finished run in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli.console import EXIT_BUG, RichProgress, print_json, stderr
from lionheart.cli.options import JsonFlag, MovedTask, RunPath, TrustTask
from lionheart.exports import EXPORTS, ExportRequest

if TYPE_CHECKING:
    from lionheart.progress import Progress
    from lionheart.tasks import Task


def export(
    run: RunPath,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="Format. " + "; ".join(f"{name}: {each.help}" for name, each in EXPORTS.items()) + ".",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="New folder for alpine, file for json.",
            show_default="RUN/alpine; stdout for json",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Build and run the program, and compare its outputs with the reference bit by bit; alpine only.",
        ),
    ] = False,
    samples: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of training samples that calibrate the quantisation scales; alpine only."
        ),
    ] = 64,
    inputs: Annotated[
        int, typer.Option(metavar="N", help="Number of validation samples stored with the program; alpine only.")
    ] = 8,
    score_samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of validation samples on which the program is scored; alpine only.",
            show_default="those of the run's final results",
        ),
    ] = None,
    task: MovedTask = None,
    trust_task: TrustTask = False,
    as_json: JsonFlag = False,
) -> None:
    """Export a finished run: its mapping as JSON, or its network as a C++ program for ALPINE.

    ALPINE is a gem5-based simulator of CPU cores with analog tiles.
    docs/how-to/export.md lists the supported networks and the accuracy of the
    exported program.
    """
    progress = RichProgress()
    request = ExportRequest(
        run,
        lambda: _load_task(run, task, progress, is_trusted=trust_task),
        out,
        check,
        samples,
        inputs,
        score_samples,
        progress,
    )
    found = EXPORTS.find(to).export(request)
    if found.is_output or as_json:
        print_json(found.data)
    if not as_json:
        for line in found.lines:
            stderr.print(line, soft_wrap=True)
    if found.is_wrong:
        raise typer.Exit(EXIT_BUG)


def _load_task(run: Path, name: str | None, progress: Progress, *, is_trusted: bool) -> Task:
    from lionheart.cli.tasks import load_run_task
    from lionheart.jobs.evaluate import open_finished

    return load_run_task(open_finished(run), name, progress, is_trusted=is_trusted, verb="export")
