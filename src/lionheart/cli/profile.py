"""The command ``lionheart profile``, which evaluates a network with one projection (weight matrix) at a time on tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli.console import NameCell, RichProgress, make_table, print_json, say, stderr
from lionheart.cli.options import DeviceName, JsonFlag, Seed, SetFlags, TaskName, list_assignments
from lionheart.cli.signals import describe_stop, exit_code_of
from lionheart.units import format_duration

if TYPE_CHECKING:
    from lionheart.jobs.profile import Profile


def profile(
    task: TaskName,
    times: Annotated[
        str | None,
        typer.Option(
            metavar="DURATIONS",
            help="Times after programming, separated by commas. The drop at the first time sorts the table.",
            show_default="1d",
        ),
    ] = None,
    chips: Annotated[
        int, typer.Option(metavar="N", help="Number of simulated chips per projection, each with newly drawn noise.")
    ] = 10,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of validation samples, from the start of the split.", show_default="all"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with settings in the table tile. Flags override the file."),
    ] = None,
    settings: SetFlags = None,
    seed: Seed = None,
    device: DeviceName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON file of the profile; a .csv file is written next to it. An unfinished profile is continued.",
            show_default="TASK-profile.json",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate the network with one projection at a time on analog tiles, without retraining.

    The profile shows how sensitive each projection is: the drop of the task's
    metric at each time after programming, averaged over simulated chips.
    """
    import lionheart.interop  # noqa: F401  registers its backends
    from lionheart.cli.tasks import load_task
    from lionheart.files import make_file_name, read_json
    from lionheart.jobs import profile_layers, read_settings
    from lionheart.jobs.profile import Profile
    from lionheart.units import parse_duration

    chosen = read_settings("fast", config, assignments=list_assignments({"seed": seed}, settings))
    moments = None if times is None else [parse_duration(text) for text in times.split(",")]
    progress = RichProgress()
    loaded = load_task(task, progress, device)
    path = out or Path(f"{make_file_name(Path(task).name if '@' in task else task)}-profile.json")
    try:
        found = profile_layers(
            loaded,
            chosen,
            times=moments,
            n_chips=chips,
            n_samples=samples,
            out=path,
            progress=progress,
        )
    except KeyboardInterrupt as error:
        if not path.exists():
            raise
        show_profile(Profile.from_json(read_json(path), str(path)))
        say(f"{describe_stop(error)} To continue {path}, run the same command again.")
        raise typer.Exit(exit_code_of(error)) from None
    if as_json:
        print_json(found.to_json())
    else:
        show_profile(found)
        stderr.print(f"profile: {path}\ntable:   {path.with_suffix('.csv')}", soft_wrap=True)


def show_profile(profile: Profile) -> None:
    """Print a table with one row for each projection: metric and drop at each time, with only this projection on tiles."""
    metric = profile.metric
    times = [format_duration(t) for t in profile.times]
    names = [name for t in times for name in (f"after {t}", "drop")]
    table = make_table(
        f"{profile.task}: {metric.name} with one projection at a time on tiles, {profile.n_chips} chips; drops in "
        f"{metric.drop_unit}",
        "projection", "rows×cols", "tiles", *names,
        right=("rows×cols", "tiles", *names),
    )  # fmt: skip
    for row in profile.projections:
        values = []
        for point in row.over_time:
            half = (point.drop_high_pp - point.drop_low_pp) / 2
            values += [
                metric.format_value(point.mean),
                f"{metric.write_drop(point.drop_pp, sign=True)} ± {metric.write_drop(half)}",
            ]
        table.add_row(NameCell(row.fqn), f"{row.rows}×{row.cols}", str(row.n_tiles), *values)
    stderr.print(table)
    left = profile.n_projections - len(profile.projections)
    unfinished = f"{left} projections are not yet evaluated. " if left else ""
    stderr.print(
        f"{unfinished}Digital {metric.name}: {metric.format_value(profile.digital)} on {profile.n_samples} validation "
        f"samples. ± is half the width of the {100 * profile.confidence:g} % confidence interval of the mean over chips.",
    )
    if metric.rises_with_drop:
        stderr.print(metric.explain_drop())
