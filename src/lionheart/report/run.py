"""From a run directory to its page."""

from __future__ import annotations

from pathlib import Path

from lionheart.jobs.evaluate import open_finished
from lionheart.report.page import write_report


def report_run(run_dir: Path | str, out: Path | None = None) -> Path:
    """Write the page of a finished run, with what `lionheart simulate` found on several cores.

    Args:
        run_dir: The run.
        out: The page; None = ``report.html`` in the run.

    Raises:
        ArtifactError: The run has not finished, or one of its files is damaged.
    """
    run = open_finished(run_dir)
    description = run.description()
    settings = description["settings"]
    description |= {f"{group}_spec": settings[group] for group in ("search", "tile", "train")}
    results = run.read("results.json")
    if run.has("system.json"):
        systems = run.read("system.json").get("system") or []
        results["pipelines"] = [system["pipeline"] for system in systems if "pipeline" in system]
    return write_report(description, run.read("graph.json"), results, out or run.file("report.html"))
