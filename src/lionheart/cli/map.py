"""The command ``lionheart map``, which searches for a mapping of a network whose accuracy drop is within a bound."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lionheart.cli.console import EXIT_NOT_MET, NameCell, RichProgress, make_table, print_json, say, stderr
from lionheart.cli.options import (
    ConfigFile,
    DeviceName,
    JsonFlag,
    NewRun,
    OptionalTaskName,
    PresetName,
    ReadTime,
    SearchSetFlags,
    Seed,
    TrustTask,
    list_assignments,
)
from lionheart.cli.render import show_accuracy, show_summary, show_system, write_page
from lionheart.cli.signals import describe_stop, exit_code_of
from lionheart.errors import ConfigError
from lionheart.units import format_count, format_elapsed

if TYPE_CHECKING:
    from lionheart.candidates import GraphRecord
    from lionheart.runs import Results, RunDirectory

_NOTES = 10  # number of projections for which the reason why they stay digital is shown


def map_command(
    task: OptionalTaskName = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="DROP",
            help="Bound on the drop of the metric: in percentage points (2), in the metric's own unit ('0.1 mm'), or as "
            "a share of the digital value ('2 % rel'). For perplexity: 100 times the rise of its logarithm.",
            show_default="1 pp, or 1 % rel",
        ),
    ] = None,
    t_inference: ReadTime = None,
    train_minutes: Annotated[
        str | None,
        typer.Option(
            metavar="MINUTES",
            help="Duration of one retraining: its schedule gets as many steps as fit.",
            show_default="by epochs",
        ),
    ] = None,
    preset: PresetName = "fast",
    config: ConfigFile = None,
    settings: SearchSetFlags = None,
    seed: Seed = None,
    out: NewRun = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Continue the stopped run in this folder, with its settings. Add --finish to end the search and evaluate the "
            "best mapping so far.",
        ),
    ] = None,
    trust_task: TrustTask = False,
    device: DeviceName = None,
    as_json: JsonFlag = False,
    finish: Annotated[bool, typer.Option("--finish", hidden=True)] = False,
    confidence: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Search for the projections that can run on analog tiles within a bound on the accuracy drop.

    A projection is a layer, or part of one, that multiplies by weights. The
    default strategy converts one projection after another: it retrains the
    network, evaluates it on simulated chips with new noise, and undoes the
    conversion if the drop exceeds the bound. The run folder gets the mapping,
    the weights and an HTML report. Exit code 3: the mapping found has no
    analog projection.
    """
    import lionheart.interop  # noqa: F401  registers its backends
    from lionheart.candidates import GraphRecord
    from lionheart.cli.tasks import load_run_task, load_task
    from lionheart.jobs import map_layers, read_settings, resume_run
    from lionheart.jobs.run_folder import default_run_dir
    from lionheart.runs import RunDirectory

    progress = RichProgress()
    begin = time.perf_counter()
    flags = {"search.max_drop": max_drop, "search.t_inference": t_inference, "search.confidence_level": confidence}
    assignments = list_assignments({**flags, "train.minutes": train_minutes, "seed": seed}, settings)
    if resume is not None:
        if assignments or out is not None or config is not None:
            raise ConfigError(
                "map: got --resume together with settings, --config or --out, but a resumed run keeps its settings",
                hint="give --resume without settings, --config and --out, or start a new run without --resume",
            )
        run = RunDirectory.open(resume)
        run.require_job("map")
        loaded = load_run_task(run, task, progress, device, is_trusted=trust_task, verb="map")
        with _telling_how_to_resume(resume, loaded.name):
            result = resume_run(loaded, resume, finish=finish, progress=progress)
    elif finish:
        raise ConfigError(
            "--finish: got no run to finish, expected --resume too",
            hint="for example: lionheart map --resume RUN --finish",
        )
    elif task is None:
        raise ConfigError(
            "map: got no task, expected TASK or --resume RUN",
            hint="for example: lionheart map cifar10/resnet8 --max-drop 2",
        )
    else:
        chosen = read_settings(preset, config, assignments=assignments)
        command = shlex.join(["lionheart", *sys.argv[1:]])
        loaded = load_task(task, progress, device)
        path = out or default_run_dir(loaded.name)
        with _telling_how_to_resume(path, loaded.name):
            result = map_layers(loaded, chosen, run_dir=path, command=command, progress=progress)
    page = _write_page(result.run)
    if as_json:
        print_json({"run": str(result.run.path), "report": page and str(page), **result.results.to_json()})
    else:
        graph = result.run.read("graph.json", GraphRecord)
        show_mapping(result.results, graph, time.perf_counter() - begin)
        stderr.print(f"run:    {result.run.path}", soft_wrap=True)
        if page is not None:
            stderr.print(f"report: {page}", soft_wrap=True)
        stderr.print(result.results.summary.conclusion, style="bold")
    if not result.mapping.analog:
        raise typer.Exit(EXIT_NOT_MET)


@contextmanager
def _telling_how_to_resume(path: Path, task: str) -> Iterator[None]:
    from lionheart.cli.tasks import resume_words

    try:
        yield
    except KeyboardInterrupt as error:
        if (path / "run.json").exists():
            command = shlex.join(resume_words("map", task, path))
            text = f"To continue the run: {command}\nTo evaluate its best mapping so far: {command} --finish"
            say(f"{describe_stop(error)} {text}")
            raise typer.Exit(exit_code_of(error)) from None
        raise


def _write_page(run: RunDirectory) -> Path | None:
    """Write the report page of a finished run, and return its path; None if it cannot be written."""
    from lionheart.report import write_report
    from lionheart.report.run import read_report_data

    data = read_report_data(run)
    return write_page(lambda: write_report(data, run.file("report.html")))


def show_mapping(results: Results, graph: GraphRecord, elapsed_s: float) -> None:
    """Print the results of a mapping run: placement and drop of each projection, metric over time, costs, and the summary.

    The conclusion of the summary is not printed: it is the last line that the command prints.

    Args:
        results: Results of the run.
        graph: Projections of the network, in execution order.
        elapsed_s: Wall time that the command has taken [s].
    """
    metric = results.metric
    _show_projections(results, graph)
    notes = list(results.notes.items())
    for fqn, note in notes[:_NOTES]:
        stderr.print(f"  digital: {fqn}: {note}")
    if len(notes) > _NOTES:
        stderr.print(f"  digital: {len(notes) - _NOTES} more projections, because of their tiles or cost")
    show_accuracy(results.test_over_time, f"test {metric.name} over time, new chips", results.confidence, metric)
    show_system(results.system, missing_tiles=False)
    show_summary(results.summary)
    total = f"total time {format_elapsed(elapsed_s)}"
    search = "" if results.elapsed_s is None else f"search time {format_elapsed(results.elapsed_s)}, "
    stderr.print(f"{search}{total}")


def _show_projections(results: Results, graph: GraphRecord) -> None:
    metric, placements = results.metric, results.mapping.placements
    tried = {decision.fqn: decision for decision in results.decisions}
    in_groups = any(name not in placements for name in tried)
    table = make_table(
        "mapping, in execution order", "projection", "rows×cols", "MACs", "share", "runs", metric.name, "drop",
        right=("rows×cols", "MACs", "share", metric.name, "drop"),
    )  # fmt: skip
    for node in graph.nodes:
        decision, placement = tried.get(node.fqn), placements[node.fqn]
        table.add_row(
            NameCell(node.fqn),
            f"{node.rows}×{node.cols}",
            format_count(node.macs),
            f"{100 * node.macs / graph.macs:.1f} %",
            Text(results.mapping.describe(node.fqn), style="bold cyan" if placement == "analog" else ""),
            metric.format_value(decision.accuracy.mean) if decision else "" if in_groups else "not tried",
            metric.format_drop(decision.drop_pp, sign=True) if decision else "",
        )
    stderr.print(table)
