"""The page of a run directory."""

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
    """Content of ``system.json``: the costs that the latest `lionheart simulate` estimated."""

    system: tuple[SystemRecord, ...] = ()


def report_run(run_dir: Path | str, out: Path | None = None) -> Path:
    """Write the page of a finished run, including schedules on several cores from `lionheart simulate`.

    Args:
        run_dir: Directory of the run.
        out: File of the page; None for ``report.html`` in the run directory.

    Raises:
        ArtifactError: The run is not finished, or a file of the run is damaged.
    """
    run = open_finished(run_dir)
    return write_report(read_report_data(run), out or run.file("report.html"))


def read_report_data(run: RunDirectory) -> ReportData:
    """Return the records of a finished run.

    Raises:
        ArtifactError: A file of the run is damaged.
    """
    systems = run.read("system.json", SystemFile).system if run.has("system.json") else ()
    pipelines = tuple(system.pipeline for system in systems if system.pipeline is not None)
    return ReportData(run.description(), run.read("graph.json", GraphRecord), run.results(), pipelines)
