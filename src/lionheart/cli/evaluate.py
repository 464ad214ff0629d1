"""The verb `evaluate`: accuracy of a finished run over time on fresh chips."""

from __future__ import annotations

from typing import Annotated

import typer

from lionheart.cli.console import RichProgress, print_json
from lionheart.cli.options import DeviceName, JsonFlag, MovedTask, RunPath, Times
from lionheart.cli.render import show_accuracy


def evaluate(
    run: RunPath,
    times: Times = "1s,1h,1d,1mo,1y",
    chips: Annotated[int, typer.Option(metavar="N", help="Fresh chips.")] = 20,
    split: Annotated[str, typer.Option(metavar="NAME", help="test or validation.")] = "test",
    samples: Annotated[int | None, typer.Option(metavar="N", help="First samples only.", show_default="all")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the chips.", show_default="the run's")] = None,
    task: MovedTask = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What computes analog layers: lionheart, or aihwkit if installed.",
            show_default="the run's",
        ),
    ] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Run under torch.compile if it is long enough.")] = False,
    device: DeviceName = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure a finished run's accuracy over time on fresh chips."""
    import lionheart.interop  # noqa: F401  makes its backends known
    from lionheart.cli.tasks import load_task
    from lionheart.jobs import evaluate_run
    from lionheart.jobs.evaluate import open_finished
    from lionheart.units import parse_duration

    moments = [parse_duration(text) for text in times.split(",")]
    name = task or open_finished(run).description().task
    progress = RichProgress()
    found = evaluate_run(
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
        print_json(found.to_json())
    else:
        title = f"{split} {found.metric.name}, {chips} fresh chips"
        show_accuracy(found.accuracy_over_time, title, found.confidence, found.metric)
