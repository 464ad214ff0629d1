"""Types of the command-line flags and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.completion import complete_platforms, complete_presets, complete_settings, complete_tasks
from lionheart.registry import RANKINGS, STRATEGIES

RULES = "name, shell pattern, re:REGEX or type:TYPE (layer type); repeatable."

JsonFlag = Annotated[bool, typer.Option("--json", help="Write the result to stdout as JSON.")]
_TASK = (
    "Built-in task, for example cifar10/resnet8; or a function, FILE.py:FUNCTION or MODULE:FUNCTION, that returns a "
    "lionheart.Task."
)
TaskName = Annotated[str, typer.Argument(metavar="TASK", help=_TASK, autocompletion=complete_tasks)]
OptionalTaskName = Annotated[
    str | None,
    typer.Argument(
        metavar="TASK",
        help=f"{_TASK} With --resume, the default is the task of the run, if it is built in.",
        autocompletion=complete_tasks,
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Built-in task, for example cifar10/resnet8; or a function, FILE.py:FUNCTION or MODULE:FUNCTION, that returns a "
        "lionheart.Task, a torch module or (module, example_inputs); or a Hugging Face model, hf:NAME, with a name on the "
        "hub, a model type or a folder with config.json.",
        autocompletion=complete_tasks,
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of `lionheart map`.")]
MovedTask = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="Task of the run. Needed if the task is not built in: a task that a run folder names is code, and is not loaded.",
        show_default="the run's, if built in",
    ),
]
TrustTask = Annotated[
    bool,
    typer.Option(
        "--trust-task",
        help="Load the task that the run folder names, built in or not. This runs code: use it for your own folders only.",
    ),
]
IncludeRules = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help=f"Projections that may run on analog tiles: {RULES}", show_default="all"),
]
ExcludeRules = Annotated[
    list[str] | None, typer.Option(metavar="RULE", help=f"Projections that stay digital: {RULES}", show_default="none")
]
PlatformNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Platform name or TOML file; repeatable. `lionheart platforms` lists the names.",
        show_default="alpine-high-power, alpine-low-power",
        autocompletion=complete_platforms,
    ),
]
PlatformName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Platform for which latencies are estimated: name or TOML file.",
        autocompletion=complete_platforms,
    ),
]
ReadTime = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="DURATION",
        help="Time after programming at which the bound on the drop must hold: 1s, 1h, 1d, 1mo, 1y.",
        show_default="1d",
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        metavar="DURATIONS",
        help="Times after programming, separated by commas.",
        show_default="1s,1h,1d,1mo,1y, as far as the device is known",
    ),
]
PresetName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Named set of defaults. fast: a read policy for each projection, no retraining. best: one retraining of 20 min in "
        "addition. paper: protocol and tile of the LionHeart paper, takes hours. quick, robust: earlier defaults.",
        autocompletion=complete_presets,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="TOML file with settings in the tables search, tile and train. Flags override the file."
    ),
]
SetFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one setting; repeatable. Examples: search.n_chips=20, tile.device.technology=reram_cmo, "
        "train.max_epochs=5. `lionheart settings` lists all settings.",
        autocompletion=complete_settings,
    ),
]
TileSetFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one setting of the tile; repeatable. Examples: tile.n_reads=4, tile.row_copies=16, "
        "tile.input_range=dynamic.",
    ),
]
SearchSetFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one setting; repeatable. Examples: search.n_chips=20, tile.hwa.weight_clip_sigma=2, train.max_epochs=5. "
        "`lionheart settings` lists all settings. "
        f"Values of search.strategy: {', '.join(STRATEGIES.names())}. "
        f"Values of search.ranking: {', '.join(['objective', *RANKINGS.names()])}.",
        autocompletion=complete_settings,
    ),
]
NewRun = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of the new run.", show_default="new folder in ./runs")
]
StoppedRun = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Continue the stopped run in this folder, with its settings.")
]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Seed of all random numbers.", show_default="0")]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="PyTorch device: cpu, cuda, or auto (a GPU if available). The same seed gives other chips on another device.",
        show_default="the task's; cpu for built-in tasks",
    ),
]


def list_assignments(flags: Mapping[str, str | None], assignments: Sequence[str] | None) -> list[str]:
    """Return the settings given by dedicated flags and by ``--set`` as assignments, such as ``"search.n_chips=20"``.

    Args:
        flags: Values of the dedicated flags, such as ``--seed``, by name of the setting; None = the flag was not given.
        assignments: Values of ``--set``; None = no such flag was given.
    """
    return [*(f"{path}={text}" for path, text in flags.items() if text is not None), *(assignments or ())]
