"""The command ``lionheart evaluate``, which evaluates the mapped network of a finished run on newly simulated chips."""

from __future__ import annotations

from typing import Annotated

import typer

from lionheart.cli.console import RichProgress, print_json
from lionheart.cli.options import DeviceName, JsonFlag, MovedTask, RunPath, Times, TrustTask
from lionheart.cli.render import show_accuracy


def evaluate(
    run: RunPath,
    times: Times = None,
    chips: Annotated[
        int, typer.Option(metavar="N", help="Number of simulated chips, each with newly drawn noise.")
    ] = 20,
    split: Annotated[str, typer.Option(metavar="NAME", help="Data split: test or validation.")] = "test",
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of samples, from the start of the split.", show_default="all"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the chips' noise.", show_default="the run's")
    ] = None,
    task: MovedTask = None,
    trust_task: TrustTask = False,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Simulator of the analog layers: lionheart, or aihwkit if installed.",
            show_default="the run's",
        ),
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile if the evaluation is long enough.")
    ] = False,
    device: DeviceName = None,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate the mapped network of a finished run at several times after programming.

    The chips are newly simulated: no decision of the run used them. The task may
    have another metric than accuracy, for example perplexity.
    """
    import lionheart.interop  # noqa: F401  registers its backends
    from lionheart.cli.tasks import load_run_task
    from lionheart.jobs import evaluate_run
    from lionheart.jobs.evaluate import open_finished
    from lionheart.units import parse_duration

    moments = None if times is None else [parse_duration(text) for text in times.split(",")]
    progress = RichProgress()
    opened = open_finished(run)
    found = evaluate_run(
        load_run_task(opened, task, progress, device, is_trusted=trust_task, verb="evaluate"),
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
        title = f"{split} {found.metric.name} over time, {chips} new chips"
        show_accuracy(found.accuracy_over_time, title, found.confidence, found.metric)
