"""The verb `profile`: how much the task's measure loses with one projection at a time on tiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lionheart.cli.console import EXIT_INTERRUPTED, DeviceOption, RichProgress, make_table, print_json, stderr
from lionheart.metrics import Measure
from lionheart.units import format_duration


def profile(
    task: Annotated[str, typer.Argument(metavar="TASK", help="As for `map`.")],
    chips: Annotated[int, typer.Option(help="Fresh chips for each projection.")] = 10,
    times: Annotated[
        str, typer.Option(help="Times after programming, with commas; the first orders the table.")
    ] = "1d",
    validation_samples: Annotated[
        int | None, typer.Option(help="First validation samples only.", show_default="all")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table tile, as for `map`.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only these; rules as for `map`.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not these; the same.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root of all random numbers.", show_default="0")] = None,
    backend: Annotated[
        str | None, typer.Option(help="What computes analog layers, as for `map`.", show_default="lionheart")
    ] = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file, a .csv beside it; goes on if it is there.", show_default="TASK-profile.json"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Measure what each projection costs when it alone is on tiles: fresh chips, no retraining."""
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.cli.tasks import load_task
    from lionheart.files import read_json
    from lionheart.jobs import profile_layers, read_settings
    from lionheart.units import parse_duration

    search = {"include": tuple(include) if include else None, "exclude": tuple(exclude) if exclude else None}
    settings = read_settings("quick", config, {"search": search, "": {"seed": seed, "backend": backend}})
    moments, progress = [parse_duration(text) for text in times.split(",")], RichProgress()
    loaded = load_task(task, progress, device)
    path = out or Path(f"{Path(task).name if '@' in task else task.replace('/', '-')}-profile.json")
    try:
        data = profile_layers(
            loaded,
            settings,
            times=moments,
            n_chips=chips,
            n_samples=validation_samples,
            out=path,
            progress=progress,
        )
    except KeyboardInterrupt:
        if path.exists():
            show_profile(read_json(path))
            stderr.print(f"stopped; run it again and it goes on with {path}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print_json(data)
    else:
        show_profile(data)
        stderr.print(f"profile: {path}\ntable:   {path.with_suffix('.csv')}", markup=False, soft_wrap=True)


def show_profile(data: Mapping[str, Any]) -> None:
    """Print the projections, the most sensitive at the first time first."""
    measure = Measure.from_json(data["measure"], "profile")
    times = [format_duration(t) for t in data["times"]]
    names = [name for t in times for name in (f"after {t}", "drop")]
    table = make_table(
        f"{data['task']}: {measure.name} with one projection at a time on tiles, {data['n_chips']} fresh chips; drops in "
        f"{measure.drop_unit}",
        "projection", "rows×cols", "tiles", *names,
        right=("rows×cols", "tiles", *names),
    )  # fmt: skip
    for row in data["projections"]:
        values = []
        for each in row["over_time"]:
            half = (each["drop_high_pp"] - each["drop_low_pp"]) / 2
            values += [measure.format_value(each["mean"]), f"{each['drop_pp']:+.2f} ± {half:.2f}"]
        table.add_row(row["fqn"], f"{row['rows']}×{row['cols']}", str(row["n_tiles"]), *values)
    stderr.print(table)
    left = data["n_projections"] - len(data["projections"])
    unfinished = f"{left} projections are not measured yet. " if left else ""
    stderr.print(
        f"{unfinished}Digital {measure.name}: {measure.format_value(data['digital'])}, on {data['n_samples']} validation "
        f"samples. ±: {100 * data['confidence']:g} % interval of the mean over chips.",
        markup=False,
    )
    if measure.rises_with_drop:
        stderr.print(measure.explain_drop(), markup=False)
