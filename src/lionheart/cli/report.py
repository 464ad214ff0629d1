"""The command ``lionheart report``, which writes the HTML report of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.console import print_json, stderr
from lionheart.cli.options import JsonFlag, RunPath


def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file to write.", show_default="RUN/report.html")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the report of a finished run: one HTML file that needs no network access."""
    from lionheart.report import report_run

    page = report_run(run, out)
    if as_json:
        print_json({"report": str(page)})
    else:
        stderr.print(f"report: {page}", soft_wrap=True)
