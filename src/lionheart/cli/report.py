"""The verb `report`: the HTML page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.console import print_json, stderr
from lionheart.cli.options import JsonFlag, RunPath


def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The page.", show_default="RUN/report.html")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a finished run's HTML page, readable without network."""
    from lionheart.report import report_run

    page = report_run(run, out)
    if as_json:
        print_json({"report": str(page)})
    else:
        stderr.print(f"report: {page}", markup=False, soft_wrap=True)
