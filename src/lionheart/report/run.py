"""Write the report page of a run from the files in its run directory."""

from __future__ import annotations

from pathlib import Path

from lionheart.candidates import GraphRecord
from lionheart.jobs.result import open_finished
from lionheart.record import Record
from lionheart.report.data import ReportData
from lionheart.report.page import write_report
from lionheart.runs import RunDirectory
from lionheart.runs.costs import SystemRecord


class SystemFile(Record):
    """Content of ``system.json``: estimated times and energies for each platform.

    The estimates are those of the latest call of the command `lionheart simulate` for the run.
    """

    system: tuple[SystemRecord, ...] = ()


def report_run(run_dir: Path | str, out: Path | None = None) -> Path:
    """Write the report page of a finished run.

    The page includes schedules on several cores if the command `lionheart simulate` has computed schedules for the run.

    Args:
        run_dir: Directory of the run.
        out: Path of the HTML file; None for ``report.html`` in the run directory.

    Returns:
        Path of the written HTML file.

    Raises:
        ArtifactError: The run is not finished, or a file of the run is damaged.
    """
    run = open_finished(run_dir)
    return write_report(read_report_data(run), out or run.file("report.html"))


def read_report_data(run: RunDirectory) -> ReportData:
    """Return the records that the report page shows, read from the directory of a finished run.

    Raises:
        ArtifactError: A file of the run is damaged.
    """
    systems = run.read("system.json", SystemFile).system if run.has("system.json") else ()
    pipelines = tuple(system.pipeline for system in systems if system.pipeline is not None)
    return ReportData(run.description(), run.read("graph.json", GraphRecord), run.results(), pipelines)
