"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RULES = "name, shell pattern, re:REGEX or kind:KIND; repeatable."

JsonFlag = Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="As for `map`.")]
OptionalTaskName = Annotated[
    str | None, typer.Argument(metavar="TASK", help="As for `inspect`; not needed with --resume.")
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A built-in task, path/to/file.py:function or package.module:function that returns a module or "
        "(module, example_inputs), or hf: and a folder with config.json, a name on the hub or a kind of model.",
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lionheart map` wrote.")]
MovedTask = Annotated[str | None, typer.Option(help="The run's task, if it moved.")]
IncludeRules = Annotated[list[str] | None, typer.Option(help=f"Only these may go analog; {RULES}")]
ExcludeRules = Annotated[list[str] | None, typer.Option(help="Keep these digital; the same.")]
NewRun = Annotated[Path | None, typer.Option(help="New run folder.", show_default="below ./runs")]
StoppedRun = Annotated[Path | None, typer.Option(help="Go on with a stopped run.")]
Seed = Annotated[int | None, typer.Option(help="Root of all random numbers.", show_default="0")]
BackendName = Annotated[
    str | None, typer.Option(help="What computes analog layers, as for `map`.", show_default="lionheart")
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where the network runs: cpu, cuda, auto (a GPU if there is one). The chips of a seed differ between them.",
        show_default="where the task has it; the CPU for built-in ones",
    ),
]
