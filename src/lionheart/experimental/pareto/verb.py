"""The verb `pareto`: the front of accuracy against analog MACs, time or energy."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lionheart.cli import render
from lionheart.cli.console import EXIT_INTERRUPTED, DeviceOption, RichProgress, print_json, stderr
from lionheart.errors import ConfigError


def pareto(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="As for `map`; not needed with --resume.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="Beside accuracy: macs, weights, time or energy (on --platform).", show_default="macs"),
    ] = None,
    max_tiles: Annotated[int | None, typer.Option(help="As for `map`: most tiles.", show_default="no limit")] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="As for `map`: prices mappings; the first counts.", show_default="both ALPINE ones"),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Mappings to measure.", show_default="60")] = None,
    bounds: Annotated[
        str | None,
        typer.Option(help="Drops in percentage points, with commas; a mapping for each.", show_default="0.5,1,2,5"),
    ] = None,
    t_inference: Annotated[
        str | None, typer.Option("--at", help="When accuracy is measured after programming.", show_default="1d")
    ] = None,
    effort: Annotated[str, typer.Option(help="quick or paper, as for `map`.")] = "quick",
    config: Annotated[Path | None, typer.Option(help="TOML file, as for `map`; flags win over it.")] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.", show_default="below ./runs")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a stopped run.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Where Optuna keeps the study: postgresql://...", show_default="SQLite file in the run"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Root of all random numbers.", show_default="0")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only these may go analog; rules as for `map`.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Keep these digital; the same.")] = None,
    chips: Annotated[int | None, typer.Option(help="Chips for each mapping.", show_default="quick 6, paper 20")] = None,
    final_chips: Annotated[
        int | None, typer.Option(help="Fresh chips for the front's members.", show_default="quick 10, paper 20")
    ] = None,
    validation_samples: Annotated[
        int | None, typer.Option(help="Samples for each mapping.", show_default="quick 2500, paper all")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="What computes analog layers, as for `map`.", show_default="lionheart")
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    r"""Find the front of accuracy against cost, without retraining, and the best mapping for each of several bounds.

    Ctrl-C ends it with the front so far. The front is chosen on the same chips and samples for every mapping, then
    measured again on fresh ones. Needs Optuna: pip install 'lionheart-aimc\[pareto]'.
    """
    search = {
        "max_tiles": max_tiles,
        "t_inference": t_inference,
        "include": tuple(include) if include else None,
        "exclude": tuple(exclude) if exclude else None,
        "n_chips": chips,
        "n_chips_final": final_chips,
        "validation_samples": validation_samples,
    }
    wishes = {"objective": objective, "n_trials": trials, "bounds_pp": None if bounds is None else _read_bounds(bounds)}
    top = {"seed": seed, "backend": backend, "platforms": tuple(platform) if platform else None}
    overrides: dict[str, dict[str, Any]] = {"search": search, "pareto": wishes, "": top}
    if resume is not None:
        given = (out, config, *(value for group in overrides.values() for value in group.values()))
        if any(value is not None for value in given):
            raise ConfigError(
                "pareto: a resumed run keeps its settings", hint="give --resume alone or with --storage, or start anew"
            )
    elif task is None:
        raise ConfigError("pareto: got no task", hint="for example: lionheart pareto cifar10/resnet8")
    _work(task, resume, storage, effort, config, out, overrides, device=device, as_json=as_json)


def _work(
    task: str | None,
    resume: Path | None,
    storage: str | None,
    effort: str,
    config: Path | None,
    out: Path | None,
    overrides: dict[str, dict[str, Any]],
    *,
    device: str | None,
    as_json: bool,
) -> None:
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.cli.tasks import load_task
    from lionheart.experimental.pareto.job import find_pareto_front, resume_pareto_front
    from lionheart.jobs import read_settings
    from lionheart.jobs.map import default_run_dir
    from lionheart.runs import RunDirectory

    progress = RichProgress()
    if resume is not None:
        run = RunDirectory.open(resume)
        run.require_job("pareto")
        loaded, path = load_task(task or run.description().task, progress, device), resume
    else:
        settings = read_settings(effort, config, overrides)
        loaded = load_task(str(task), progress, device)
        path = out or default_run_dir(f"{loaded.name}-pareto")
    try:
        if resume is not None:
            resume_pareto_front(loaded, path, storage=storage, progress=progress)
        else:
            command = shlex.join(["lionheart", *sys.argv[1:]])
            find_pareto_front(loaded, settings, storage=storage, run_dir=path, command=command, progress=progress)
    except KeyboardInterrupt:
        if (path / "pareto.json").exists():
            _show(path, as_json=as_json)
        if (path / "run.json").exists():
            again = shlex.join(["lionheart", "pareto", "--resume", str(path)])
            stderr.print(f"stopped. Go on with: {again}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show(path, as_json=as_json)


def _show(path: Path, *, as_json: bool) -> None:
    from lionheart.experimental.pareto.page import report_front
    from lionheart.runs import RunDirectory

    results, page = RunDirectory.open(path).read("pareto.json"), report_front(path)
    if as_json:
        print_json({"run": str(path), "report": str(page), **results})
    else:
        render.show_front(results)
        stderr.print(f"run:  {path}\npage: {page}", markup=False, soft_wrap=True)


def _read_bounds(text: str) -> tuple[float, ...]:
    """Read ``"0.5,1,2"`` or ``"0.5 1 2"``."""
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(
            f"bounds: got {text!r}, expected percentage points", hint="for example --bounds 0.5,1,2,5"
        ) from error
