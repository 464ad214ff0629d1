"""The verb `export`: a finished run for the next tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli.console import EXIT_BUG, RichProgress, print_json, stderr
from lionheart.cli.options import JsonFlag, MovedTask, RunPath
from lionheart.exports import EXPORTS, ExportRequest

if TYPE_CHECKING:
    from lionheart.tasks import Task


def export(
    run: RunPath,
    to: Annotated[str, typer.Option(help="; ".join(f"{name}: {each.help}" for name, each in EXPORTS.items()) + ".")],
    out: Annotated[
        Path | None,
        typer.Option(help="New folder of the program, or file of the mapping.", show_default="RUN/alpine, stdout"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Build and run the program, and compare its outputs bit for bit.")
    ] = False,
    samples: Annotated[int, typer.Option(help="Training samples that decide the scales.")] = 64,
    inputs: Annotated[int, typer.Option(help="Validation samples stored with the program.")] = 8,
    task: MovedTask = None,
    as_json: JsonFlag = False,
) -> None:
    """Hand a finished run to another tool: its mapping, or its network as a C++ program with analog tiles.

    docs/how-to/export.md says what can be exported and how exact it is.
    """
    request = ExportRequest(run, lambda: _load_task(run, task), out, check, samples, inputs)
    found = EXPORTS.find(to).export(request)
    if found.is_output or as_json:
        print_json(found.data)
    if not as_json:
        for line in found.lines:
            stderr.print(line, markup=False, soft_wrap=True)
    if found.is_wrong:
        raise typer.Exit(EXIT_BUG)


def _load_task(run: Path, name: str | None) -> Task:
    from lionheart.cli.tasks import load_task
    from lionheart.jobs.evaluate import open_finished

    return load_task(name or open_finished(run).description().task, RichProgress())
