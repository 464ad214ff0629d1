"""The verbs; those with files of their own are added at the end."""

from __future__ import annotations

import functools
import gc
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lionheart.cli import render
from lionheart.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_NOT_MET,
    DeviceOption,
    RichProgress,
    print_json,
    stderr,
)
from lionheart.cli.devices import devices
from lionheart.cli.export import export
from lionheart.cli.platforms import platforms
from lionheart.cli.profile import profile
from lionheart.cli.simulate import simulate
from lionheart.errors import ConfigError, LionHeartError

app = typer.Typer(
    name="lionheart",
    help="Decide which layers of a network run on analog in-memory-computing tiles and which on digital cores.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="A built-in task, path/to/file.py:function or package.module:function.")
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A built-in task, path/to/file.py:function or package.module:function that returns a module or "
        "(module, example_inputs), or hf: and a folder with config.json, a name on the hub or a kind of model.",
    ),
]
RULES = "name, shell pattern, re:REGEX or kind:KIND; repeatable."
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lionheart map` wrote.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LionHeartError as error:
            if debug:
                stderr.print(traceback.format_exc(), markup=False)
            stderr.print(f"error: {error.message}", style="bold red", markup=False, soft_wrap=True)
            if error.hint:
                stderr.print(f"  hint: {error.hint}", markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except KeyboardInterrupt:
            stderr.print("stopped. A training goes on where it was when it is run again.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except typer.Exit:
            raise
        except Exception as error:
            if debug:
                stderr.print(traceback.format_exc(), markup=False)
            text = f"internal error: {type(error).__name__}: {error}"
            stderr.print(text, style="bold red", markup=False, soft_wrap=True)
            stderr.print("  hint: this is a bug in lionheart; run again with --debug and report it", markup=False)
            raise typer.Exit(EXIT_BUG) from None

    return run


@contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no garbage while libraries are imported: they make many objects and drop none, and looking costs a sixth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


@app.command(epilog="Example: lionheart inspect cifar10/resnet8, or lionheart inspect hf:gpt2 --exclude lm_head")
@guarded
def inspect(
    model: ModelName,
    platform: Annotated[str, typer.Option(help="Platform that prices each projection.")] = "alpine-high-power",
    include: Annotated[list[str] | None, typer.Option(help=f"Only these may go analog; {RULES}")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Keep these digital; the same.")] = None,
    rows: Annotated[int, typer.Option(help="Inputs of a crossbar.")] = 256,
    cols: Annotated[int, typer.Option(help="Outputs of a crossbar.")] = 256,
    every: Annotated[bool, typer.Option("--all", help="A line for each projection, also where blocks repeat.")] = False,
    by_unit: Annotated[bool, typer.Option("--units", help="A line for each part of a repeated block instead.")] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show what of a network could go analog, on how many tiles, and why the rest could not."""
    if every and by_unit:
        raise ConfigError("--all, --units: got both, expected one", hint="--json has the unit of each projection")
    with _without_collection():
        from lionheart.cli.models import load_graph
        from lionheart.devices import TileSpec
        from lionheart.system.inspection import audit_coverage

        graph = load_graph(model, RichProgress())
        tile = TileSpec(rows=rows, cols=cols)
        data = audit_coverage(graph, model, tile=tile, platform=platform, include=include or (), exclude=exclude or ())
    if as_json:
        print_json(data.to_json())
    else:
        render.show_inspection(data, every=every, by_unit=by_unit)


@app.command(name="map", epilog="Example: lionheart map cifar10/resnet8 --max-drop 2 --out runs/first")
@guarded
def map_command(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="As for `inspect`; not needed with --resume.")
    ] = None,
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
    promise: Annotated[
        float | None,
        typer.Option(
            help="Probability with which it must hold on other chips and samples, e.g. 0.95; held-out validation samples "
            "have the last word.",
            show_default="none",
        ),
    ] = None,
    chip_yield: Annotated[
        float | None,
        typer.Option("--yield", help="Share of chips that must each keep it, e.g. 0.95.", show_default="their mean"),
    ] = None,
    effort: Annotated[
        str,
        typer.Option(
            help="quick: short retraining, 6 chips a decision; robust: few, longer retrainings, columns calibrated on each "
            "chip; paper: the paper's protocol, hours."
        ),
    ] = "quick",
    config: Annotated[
        Path | None, typer.Option(help="TOML file with tables search, tile, train; flags win over it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.", show_default="below ./runs")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a stopped run.")] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: search no further, measure the best mapping so far.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Root of all random numbers.", show_default="0")] = None,
    include: Annotated[list[str] | None, typer.Option(help=f"Only these may go analog; {RULES}")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Keep these digital; the same.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="lionheart, shared, hessian, training-free, exhaustive, all-digital, all-analog, first-last-digital.",
            show_default="lionheart",
        ),
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
        typer.Option(
            help="Order of trials of lionheart: objective, macs, weights, time, energy, sensitivity, hessian, random.",
            show_default="objective",
        ),
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
    choose_corrections: Annotated[
        bool,
        typer.Option(
            "--choose-corrections",
            help="After the search, give each layer the cheapest column calibration, drift compensation and input range, up to "
            "the tile's own, that keep the bound.",
        ),
    ] = False,
    find_reprogramming: Annotated[
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
    device: DeviceOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Map a network: convert, retrain, evaluate on fresh chips, keep or undo, layer by layer.

    Exit code 3 says that no layer could go analog within the bound.
    """
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.cli.tasks import load_task
    from lionheart.errors import ConfigError
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
        "promise": promise,
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
        "choose_corrections": choose_corrections or None,
        "find_reprogramming": find_reprogramming or None,
        "max_epochs": max_epochs,
        "max_minutes": max_minutes,
    }
    platforms = tuple(platform) if platform else None
    top: dict[str, Any] = {"seed": seed, "backend": backend, "compile": compile_ or None, "platforms": platforms}
    if resume is not None:
        given = (out, config, *top.values(), *search.values())
        if any(value is not None for value in given):
            raise ConfigError("map: a resumed run keeps its settings", hint="give --resume alone, or start a new run")
        name = task or RunDirectory.open(resume).description()["task"]
        with _telling_how_to_resume(resume):
            result = resume_run(load_task(name, progress, device), resume, finish=finish, progress=progress)
    elif finish:
        raise ConfigError("--finish: got no run to finish", hint="give --resume RUN with it")
    elif task is None:
        raise ConfigError("map: got no task", hint="for example: lionheart map cifar10/resnet8 --max-drop 2")
    else:
        settings = read_settings(effort, config, {"search": search, "": top})
        command = shlex.join(["lionheart", *sys.argv[1:]])
        loaded = load_task(task, progress, device)
        path = out or default_run_dir(loaded.name)
        with _telling_how_to_resume(path):
            result = map_layers(loaded, settings, run_dir=path, command=command, progress=progress)
    page = report_run(result.run.path)
    if as_json:
        print_json({"run": str(result.run.path), "report": str(page), **result.results})
    else:
        render.show_mapping(result.results, result.run.read("graph.json"), time.perf_counter() - begin)
        stderr.print(f"run:    {result.run.path}\nreport: {page}", markup=False, soft_wrap=True)
    if not result.mapping.analog:
        raise typer.Exit(EXIT_NOT_MET)


@app.command(epilog="Example: lionheart evaluate runs/first --times 1s,1h,1d,1mo,1y --chips 20")
@guarded
def evaluate(
    run: RunPath,
    times: Annotated[str, typer.Option(help="Times after programming, with commas.")] = "1s,1h,1d,1mo,1y",
    chips: Annotated[int, typer.Option(help="Fresh chips.")] = 20,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    samples: Annotated[int | None, typer.Option(help="First samples only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the chips.", show_default="the run's")] = None,
    task: Annotated[str | None, typer.Option(help="The run's task, if it moved.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="What computes analog layers, as for `map`.", show_default="the run's")
    ] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Run under torch.compile if it is long enough.")] = False,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure a finished run's accuracy over time on fresh chips."""
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.cli.tasks import load_task
    from lionheart.jobs import evaluate_run
    from lionheart.jobs.evaluate import open_finished
    from lionheart.metrics import Measure
    from lionheart.units import parse_duration

    moments = [parse_duration(text) for text in times.split(",")]
    name = task or open_finished(run).description()["task"]
    progress = RichProgress()
    data = evaluate_run(
        load_task(name, progress, device),
        run,
        times=moments,
        n_chips=chips,
        split=split,
        n_samples=samples,
        seed=seed,
        backend=backend,
        compiled=compile_,
        progress=progress,
    )
    if as_json:
        print_json(data)
    else:
        measure = Measure.from_json(data["measure"], "evaluation")
        title = f"{split} {measure.name}, {chips} fresh chips"
        render.show_accuracy(data["accuracy_over_time"], title, data["confidence"], measure)


@app.command(epilog="Example: lionheart report runs/first --out first.html")
@guarded
def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The page.", show_default="RUN/report.html")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a finished run's HTML page, readable without network."""
    from lionheart.report import report_run

    page = report_run(run, out)
    if as_json:
        print_json({"report": str(page)})
    else:
        stderr.print(f"report: {page}", markup=False, soft_wrap=True)


@app.command(epilog="Example: lionheart train cifar10/resnet8 --out resnet8.safetensors")
@guarded
def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A built-in task.")],
    out: Annotated[
        Path | None, typer.Option(help="Weights; the card goes beside them.", show_default="TASK.safetensors")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides weights and data order.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Epochs.", show_default="the recipe's")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate.", show_default="the recipe's")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with, of an earlier training; give another --seed then.", show_default="fresh"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU if there is one.")] = "auto",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a built-in task's network, from scratch unless --start; run it again after a stop and it goes on."""
    from lionheart.jobs import train_task
    from lionheart.tasks.registry import find_recipe

    recipe = find_recipe(task)
    if recipe.load_published is not None:
        stderr.print(
            f"{task}: trains new weights from scratch; `map` and the other commands keep to the published ones, "
            "and build_task(..., weights=...) in Python takes yours",
            markup=False,
            soft_wrap=True,
        )
    spec = recipe.train_spec
    spec = spec if epochs is None else spec.replace(max_epochs=epochs)
    spec = spec if learning_rate is None else spec.replace(learning_rate=learning_rate)
    target = out or Path(task.replace("/", "_") + ".safetensors")
    card = train_task(task, target, seed=seed, spec=spec, device=device, start=start, progress=RichProgress())
    if as_json:
        print_json(card.to_json())
    else:
        measure = recipe.measure
        test, validation = (
            measure.format_value(measure.mean_of(found[measure.name])) for found in (card.test, card.validation)
        )
        stderr.print(
            f"{task}: test {measure.name} {test}, validation {validation}; weights in {target}",
            markup=False,
            soft_wrap=True,
        )


@app.command(epilog="Example: lionheart sources")
@guarded
def sources(as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """List every physical constant with its value, unit, source and kind."""
    from lionheart.constants import data_files, load_constants
    from lionheart.record import write_record

    data = {file.rpartition("/")[2]: load_constants(package, file) for package, file in data_files()}
    if as_json:
        print_json(write_record(data))
    else:
        render.show_sources(data)


app.command(epilog="Example: lionheart pareto cifar10/resnet8 --objective time --bounds 0.5,1,2,5")(
    guarded(import_module("lionheart.experimental.pareto.verb").pareto)
)
app.command(epilog="Example: lionheart profile cifar10/resnet8 --times 1s,1d --chips 10")(guarded(profile))
app.command(epilog="Example: lionheart export runs/first --to alpine --out first-alpine --check")(guarded(export))
app.command(epilog="Example: lionheart simulate runs/first --cores 4 --inferences 10")(guarded(simulate))
app.command(epilog="Example: lionheart devices pcm")(guarded(devices))
app.command(epilog="Example: lionheart platforms --template > mine.toml")(guarded(platforms))


def main() -> None:
    """Run the command line."""
    app()
