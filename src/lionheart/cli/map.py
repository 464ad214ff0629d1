"""The verb `map`: the mapping of a network under a bound on its drop."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lionheart.cli.console import EXIT_INTERRUPTED, EXIT_NOT_MET, RichProgress, make_table, print_json, stderr
from lionheart.cli.options import (
    DebugFlag,
    DeviceName,
    ExcludeRules,
    IncludeRules,
    JsonFlag,
    NewRun,
    OptionalTaskName,
    Seed,
    StoppedRun,
)
from lionheart.cli.render import show_accuracy, show_system
from lionheart.errors import ConfigError
from lionheart.registry import RANKINGS, STRATEGIES
from lionheart.units import format_count, format_duration, format_elapsed

if TYPE_CHECKING:
    from lionheart.candidates import GraphRecord
    from lionheart.metrics import Metric
    from lionheart.runs import Results

_NOTES = 10  # reasons why a projection stays digital that are shown
_OUTCOMES = {"infeasible": "No layer could be mapped within the bound. ", "budget": "The budget ended the search. "}


def map_command(
    task: OptionalTaskName = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Largest accuracy drop, in percentage points; for perplexity in log-percent.", show_default="1.0"
        ),
    ] = None,
    t_inference: Annotated[
        str | None,
        typer.Option("--at", help="When it must hold after programming: 1s, 1h, 1d, 1mo, 1y.", show_default="1d"),
    ] = None,
    lifetime: Annotated[
        str | None, typer.Option(help="It must hold at every time up to this age, not only at --at.", show_default="no")
    ] = None,
    confidence_level: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            help="Confidence level of the bound on other chips and samples, e.g. 0.95; confirmed by a hold-out test.",
            show_default="none",
        ),
    ] = None,
    chip_yield: Annotated[
        float | None,
        typer.Option("--yield", help="Share of chips that must each keep it, e.g. 0.95.", show_default="their mean"),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="quick: short retraining, 6 chips a decision; robust: few, longer retrainings, columns calibrated on each "
            "chip; paper: the paper's protocol, hours."
        ),
    ] = "quick",
    config: Annotated[
        Path | None, typer.Option(help="TOML file with tables search, tile, train; flags win over it.")
    ] = None,
    out: NewRun = None,
    resume: StoppedRun = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: search no further, measure the best mapping so far.")
    ] = False,
    seed: Seed = None,
    include: IncludeRules = None,
    exclude: ExcludeRules = None,
    strategy: Annotated[
        str | None, typer.Option(help=f"{', '.join(STRATEGIES.names())}.", show_default="lionheart")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Made small within the bound: macs or weights left digital, time or energy of an inference on --platform.",
            show_default="macs",
        ),
    ] = None,
    max_tiles: Annotated[
        int | None, typer.Option(help="Most tiles of all analog projections together.", show_default="no limit")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            help="Prices the mapping, the first one the objective: a known platform or a TOML file; repeatable.",
            show_default="both ALPINE ones",
        ),
    ] = None,
    ranking: Annotated[
        str | None,
        typer.Option(help=f"Order of trials of lionheart: {', '.join(RANKINGS.names())}.", show_default="objective"),
    ] = None,
    chips: Annotated[
        int | None, typer.Option(help="Fresh chips for each decision.", show_default="quick 6, paper 20")
    ] = None,
    final_chips: Annotated[
        int | None, typer.Option(help="Fresh chips for the final figures.", show_default="quick 10, paper 20")
    ] = None,
    validation_samples: Annotated[
        int | None, typer.Option(help="Validation samples for each decision.", show_default="quick 2500, paper all")
    ] = None,
    final_samples: Annotated[
        int | None,
        typer.Option(help="First validation and test samples for the final figures.", show_default="all"),
    ] = None,
    tune_compensation: Annotated[
        bool,
        typer.Option(
            "--choose-corrections",
            help="After the search, give each layer the cheapest column calibration, drift compensation and input range, up to "
            "the tile's own, that keep the bound.",
        ),
    ] = False,
    refresh_interval: Annotated[
        bool,
        typer.Option("--find-reprogramming", help="After the search, find up to which age chips keep the bound."),
    ] = False,
    max_epochs: Annotated[
        int | None, typer.Option(help="Budget: retraining epochs of the whole run.", show_default="none")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Budget: minutes of the search.", show_default="none")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="What computes analog layers: lionheart, or aihwkit if installed.", show_default="lionheart"),
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Run long evaluations and retrainings under torch.compile.")
    ] = False,
    device: DeviceName = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Map a network: convert, retrain, evaluate on fresh chips, keep or undo, layer by layer.

    Exit code 3 says that no layer could go analog within the bound.
    """
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.candidates import GraphRecord
    from lionheart.cli.tasks import load_task
    from lionheart.jobs import map_layers, read_settings, resume_run
    from lionheart.jobs.map import default_run_dir
    from lionheart.report import report_run
    from lionheart.runs import RunDirectory

    progress = RichProgress()
    begin = time.perf_counter()
    search = {
        "max_drop_pp": max_drop,
        "t_inference": t_inference,
        "lifetime": lifetime,
        "confidence_level": confidence_level,
        "chip_yield": chip_yield,
        "include": tuple(include) if include else None,
        "exclude": tuple(exclude) if exclude else None,
        "strategy": strategy,
        "objective": objective,
        "max_tiles": max_tiles,
        "ranking": ranking,
        "n_chips": chips,
        "n_chips_final": final_chips,
        "validation_samples": validation_samples,
        "final_samples": final_samples,
        "tune_compensation": tune_compensation or None,
        "refresh_interval": refresh_interval or None,
        "max_epochs": max_epochs,
        "max_minutes": max_minutes,
    }
    platforms = tuple(platform) if platform else None
    top: dict[str, Any] = {"seed": seed, "backend": backend, "compile": compile_ or None, "platforms": platforms}
    if resume is not None:
        given = (out, config, *top.values(), *search.values())
        if any(value is not None for value in given):
            raise ConfigError("map: a resumed run keeps its settings", hint="give --resume alone, or start a new run")
        name = task or RunDirectory.open(resume).description().task
        with _telling_how_to_resume(resume):
            result = resume_run(load_task(name, progress, device), resume, finish=finish, progress=progress)
    elif finish:
        raise ConfigError("--finish: got no run to finish", hint="give --resume RUN with it")
    elif task is None:
        raise ConfigError("map: got no task", hint="for example: lionheart map cifar10/resnet8 --max-drop 2")
    else:
        settings = read_settings(preset, config, {"search": search, "": top})
        command = shlex.join(["lionheart", *sys.argv[1:]])
        loaded = load_task(task, progress, device)
        path = out or default_run_dir(loaded.name)
        with _telling_how_to_resume(path):
            result = map_layers(loaded, settings, run_dir=path, command=command, progress=progress)
    page = report_run(result.run.path)
    if as_json:
        print_json({"run": str(result.run.path), "report": str(page), **result.results.to_json()})
    else:
        graph = result.run.read("graph.json", GraphRecord)
        show_mapping(result.results, graph, time.perf_counter() - begin)
        stderr.print(f"run:    {result.run.path}\nreport: {page}", markup=False, soft_wrap=True)
    if not result.mapping.analog:
        raise typer.Exit(EXIT_NOT_MET)


@contextmanager
def _telling_how_to_resume(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if (path / "run.json").exists():
            command = shlex.join(["lionheart", "map", "--resume", str(path)])
            text = f"stopped. Go on with: {command}\nor measure what was found so far: {command} --finish"
            stderr.print(text, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def show_mapping(results: Results, graph: GraphRecord, elapsed_s: float) -> None:
    """Print the mapping, the accuracy, or what the task measures, over time and the cost."""
    metric = results.metric
    _show_projections(results, graph)
    notes = list(results.notes.items())
    for fqn, note in notes[:_NOTES]:
        stderr.print(f"  digital: {fqn}: {note}", markup=False)
    if len(notes) > _NOTES:
        stderr.print(f"  digital for their tiles or their cost: {len(notes) - _NOTES} more", markup=False)
    show_accuracy(results.test_over_time, f"test {metric.name} over time, fresh chips", results.confidence, metric)
    show_system(results.system)
    stderr.print(f"\n{_summarise(results, graph, elapsed_s)}", markup=False, style="bold")


def _show_projections(results: Results, graph: GraphRecord) -> None:
    metric, placements = results.metric, results.mapping.placements
    tried = {decision.fqn: decision for decision in results.decisions}
    in_groups = any(name not in placements for name in tried)
    table = make_table(
        "mapping, in the network's order", "projection", "rows×cols", "MACs", "share", "runs", metric.name, "drop",
        right=("rows×cols", "MACs", "share", metric.name, "drop"),
    )  # fmt: skip
    for node in graph.nodes:
        decision, placement = tried.get(node.fqn), placements[node.fqn]
        table.add_row(
            node.fqn,
            f"{node.rows}×{node.cols}",
            format_count(node.macs),
            f"{100 * node.macs / graph.macs:.1f} %",
            f"[bold cyan]{placement}[/]" if placement == "analog" else placement,
            metric.format_value(decision.accuracy.mean) if decision else "" if in_groups else "not tried",
            metric.format_drop(decision.drop_pp, sign=True) if decision else "",
        )
    stderr.print(table)


def _summarise(results: Results, graph: GraphRecord, elapsed_s: float) -> str:
    from lionheart.report.text import describe_objective, describe_tiles

    metric, validation, test = results.metric, results.validation, results.baseline.test_accuracy
    n_analog = len(results.mapping.analog)
    tiles = describe_tiles(results.n_tiles, results.max_tiles)
    objective = describe_objective(results.objective, results.system[0].platform if results.system else None)
    some = "" if results.final_samples is None else f" (first {results.final_samples:,} samples)"
    digital = "" if test is None else f"Digital test {metric.name}{some}: {metric.format_value(test)}."
    searched = "" if results.elapsed_s is None else f"Search {format_elapsed(results.elapsed_s)}, "
    return (
        f"{_OUTCOMES.get(results.outcome, '')}{n_analog} of {len(graph.nodes)} projections, "
        f"{100 * results.analog_mac_share:.1f} % of the MACs, run analog on {tiles}.{f' {objective}' if objective else ''}\n"
        f"Validation{some} after {format_duration(results.t_inference)}: {metric.format_value(validation.mean)} "
        f"{metric.format_interval(validation.low, validation.high)}, drop {metric.format_drop(results.validation_drop_pp)} "
        f"(bound {results.max_drop_pp:g}). {_describe_tests(results, metric)}{_describe_post_search(results, n_analog)}"
        f"{digital}\n{searched}everything {format_elapsed(elapsed_s)}."
    )


def _describe_post_search(results: Results, n_analog: int) -> str:
    from lionheart.report.text import describe_compensation, describe_refresh

    found = describe_compensation(results.tiles, n_analog)
    age = describe_refresh(results.refresh, results.max_drop_pp, results.metric)
    return "".join(f"{text} " for text in (found, age) if text)


def _describe_tests(results: Results, metric: Metric) -> str:
    tests = results.holdout_tests
    if not tests:
        return ""
    drop, n = tests[-1].drop, len(tests)
    sure = "" if drop.confidence is None else f"with {100 * drop.confidence:g} % confidence "
    return (
        f"Held-out samples: drop {metric.format_drop(drop.drop_pp)}, {sure}at most "
        f"{metric.format_drop(drop.drop_ucb_pp)} ({n} mapping{'s' if n > 1 else ''} tested). "
    )
