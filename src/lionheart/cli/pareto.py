"""The command ``lionheart pareto``, which searches for the Pareto-optimal mappings for accuracy and cost."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli.console import RichProgress, make_table, print_json, say, stderr
from lionheart.cli.options import (
    ConfigFile,
    DeviceName,
    JsonFlag,
    NewRun,
    OptionalTaskName,
    PresetName,
    ReadTime,
    Seed,
    SetFlags,
    StoppedRun,
    TrustTask,
    list_assignments,
)
from lionheart.cli.render import write_page
from lionheart.cli.signals import describe_stop, exit_code_of
from lionheart.errors import ConfigError
from lionheart.units import format_duration, format_elapsed, format_si

if TYPE_CHECKING:
    from lionheart.experimental.pareto.records import BoundRow, FreshMeasurement, FrontResults
    from lionheart.metrics import Metric


def pareto(
    task: OptionalTaskName = None,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Cost to minimise besides the drop: macs or weights (left digital), time or energy (of one inference on the "
            "first of the platforms).",
            show_default="macs",
        ),
    ] = None,
    bounds: Annotated[
        str | None,
        typer.Option(
            metavar="DROP,DROP",
            help="Bounds on the drop, separated by commas, each as for `map --max-drop`: in percentage points (pp) or the "
            "metric's unit, or '2 % rel'. The best mapping within each is saved.",
            show_default="0.5,1,2,5",
        ),
    ] = None,
    t_inference: ReadTime = None,
    preset: PresetName = "fast",
    config: ConfigFile = None,
    settings: SetFlags = None,
    seed: Seed = None,
    out: NewRun = None,
    resume: StoppedRun = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the Optuna study, for example postgresql://HOST/NAME.",
            show_default="SQLite file in the run folder",
        ),
    ] = None,
    trust_task: TrustTask = False,
    device: DeviceName = None,
    as_json: JsonFlag = False,
) -> None:
    r"""Search for the Pareto front of accuracy against cost, without retraining.

    All mappings are compared on the same chips and samples. The mappings of the
    front are then evaluated again on other chips and on all samples. Ctrl-C ends
    the search and shows the front found so far. Requires Optuna:
    pip install 'lionheart-aimc\[pareto]'.
    """
    flags = {
        "pareto.objective": objective,
        "pareto.bounds": None if bounds is None else _separate(bounds),
        "search.t_inference": t_inference,
        "seed": seed,
    }
    assignments = list_assignments(flags, settings)
    if resume is not None:
        if assignments or out is not None or config is not None:
            raise ConfigError(
                "pareto: got --resume together with settings, --config or --out, but a resumed run keeps its settings",
                hint="give --resume without settings, --config and --out (--storage is allowed), or start a new run",
            )
    elif task is None:
        raise ConfigError(
            "pareto: got no task, expected TASK or --resume RUN", hint="for example: lionheart pareto cifar10/resnet8"
        )
    _work(
        task, resume, storage, preset, config, out, assignments, device=device, trust_task=trust_task, as_json=as_json
    )


def _separate(bounds: str) -> str:
    """Return a list of bounds with commas between them. Plain numbers may also be separated by spaces only."""
    return ",".join(bounds.replace(",", " ").split()) if re.fullmatch(r"[\d.eE+,\s-]+", bounds) else bounds


def _work(
    task: str | None,
    resume: Path | None,
    storage: str | None,
    preset: str,
    config: Path | None,
    out: Path | None,
    assignments: list[str],
    *,
    device: str | None,
    trust_task: bool,
    as_json: bool,
) -> None:
    import lionheart.interop  # noqa: F401  registers its backends
    from lionheart.cli.tasks import load_run_task, load_task, resume_words
    from lionheart.experimental.pareto.job import find_pareto_front, resume_pareto_front
    from lionheart.jobs import read_settings
    from lionheart.jobs.run_folder import default_run_dir
    from lionheart.runs import RunDirectory

    progress = RichProgress()
    if resume is not None:
        run = RunDirectory.open(resume)
        run.require_job("pareto")
        loaded, path = load_run_task(run, task, progress, device, is_trusted=trust_task, verb="pareto"), resume
    else:
        settings = read_settings(preset, config, assignments=assignments)
        loaded = load_task(str(task), progress, device)
        path = out or default_run_dir(f"{loaded.name}-pareto")
    try:
        if resume is not None:
            resume_pareto_front(loaded, path, storage=storage, progress=progress)
        else:
            command = shlex.join(["lionheart", *sys.argv[1:]])
            find_pareto_front(loaded, settings, storage=storage, run_dir=path, command=command, progress=progress)
    except KeyboardInterrupt as error:
        if (path / "pareto.json").exists():
            _show(path, as_json=as_json)
        if (path / "run.json").exists():
            words = resume_words("pareto", loaded.name, path)
            again = shlex.join(words if storage is None else [*words, "--storage", "URL"])
            say(f"{describe_stop(error)} To continue the run: {again}")
            raise typer.Exit(exit_code_of(error)) from None
        raise
    _show(path, as_json=as_json)


def _show(path: Path, *, as_json: bool) -> None:
    from lionheart.experimental.pareto.files import read_front
    from lionheart.experimental.pareto.page import report_front
    from lionheart.runs import RunDirectory

    results, page = read_front(RunDirectory.open(path)), write_page(lambda: report_front(path))
    if as_json:
        print_json({"run": str(path), "report": page and str(page), **results.to_json()})
    else:
        show_front(results)
        stderr.print(f"run:  {path}" + ("" if page is None else f"\npage: {page}"), soft_wrap=True)


def show_front(results: FrontResults) -> None:
    """Print a table of the mappings of the Pareto front, and the best mapping within each bound on the accuracy drop."""
    metric = results.metric
    table = make_table(
        f"{results.task}: Pareto front of {metric.name} against {results.objective}",
        "trial", "analog", "MACs", "drop", "new chips", "time", "energy", "tiles", "within",
        right=("trial", "analog", "MACs", "drop", "new chips", "time", "energy", "tiles"),
    )  # fmt: skip
    for row in results.front_rows:
        fresh = row.fresh
        table.add_row(
            str(row.number),
            f"{row.n_analog}/{results.n_projections}",
            f"{100 * row.analog_mac_share:.1f} %",
            metric.write_drop(row.drop_pp, sign=True),
            "" if fresh is None else f"{metric.write_drop(fresh.drop_pp, sign=True)} ± {_write_half(fresh, metric)}",
            "" if row.latency_s is None else format_si(row.latency_s, "s"),
            "" if row.energy_j is None else format_si(row.energy_j, "J"),
            str(row.n_tiles),
            " ".join(f"{bound.max_drop_pp:g}" for bound in results.bounds if bound.number == row.number),
        )
    stderr.print(table)
    baseline, samples = results.baseline, results.validation_samples
    stderr.print(
        f"{len(results.mappings)} mappings were evaluated in {format_elapsed(results.elapsed_s)}"
        f"{'' if results.complete else ' before the search was stopped'}. Drops: validation {metric.name}, in "
        f"{metric.drop_unit}, {format_duration(results.t_inference)} after programming. Column drop, which selected the "
        f"front: {results.n_chips} chips, {'all' if samples is None else f'first {samples}'} samples "
        f"(digital {metric.format_value(baseline.decision)}). Column new chips: {results.n_chips_final} other chips, all "
        f"samples (digital {metric.format_value(baseline.validation)}). "
        f"Time and energy of one inference: {results.platform or 'no platform'}.",
    )
    for bound in results.bounds:
        _show_bound(bound, results)


def _show_bound(bound: BoundRow, results: FrontResults) -> None:
    if bound.number is None:
        text = "no mapping found"
    else:
        text = f"{100 * results.rows[bound.number].analog_mac_share:.1f} % of the MACs analog, {bound.file}"
        text += "" if bound.is_confirmed else " (not yet evaluated on new chips)"
    if bound.first_choice != bound.number:
        text += f"; trial {bound.first_choice} exceeded the bound on new chips"
    within = results.metric.format_bound(bound.max_drop_pp, bound.max_drop)
    stderr.print(f"within {within}: {text}", style="bold")


def _write_half(fresh: FreshMeasurement, metric: Metric) -> str:
    """Return half of the width of a confidence interval as text, in the unit of the metric's drop."""
    return metric.write_drop(metric.drop_scale / 2 * (fresh.accuracy.high - fresh.accuracy.low))
