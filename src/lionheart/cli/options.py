"""Options and arguments that several verbs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.completion import complete_platforms, complete_presets, complete_settings, complete_tasks
from lionheart.registry import RANKINGS, STRATEGIES

RULES = "name, shell pattern, re:REGEX or kind:KIND; repeatable."

JsonFlag = Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="As for `map`.", autocompletion=complete_tasks)]
OptionalTaskName = Annotated[
    str | None,
    typer.Argument(metavar="TASK", help="As for `inspect`; not needed with --resume.", autocompletion=complete_tasks),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A built-in task, path/to/file.py:function or package.module:function that returns a module or "
        "(module, example_inputs), or hf: and a folder with config.json, a name on the hub or a model type.",
        autocompletion=complete_tasks,
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lionheart map` wrote.")]
MovedTask = Annotated[str | None, typer.Option(metavar="TASK", help="The run's task, if it moved.")]
IncludeRules = Annotated[list[str] | None, typer.Option(metavar="RULE", help=f"Only these may go analog; {RULES}")]
ExcludeRules = Annotated[list[str] | None, typer.Option(metavar="RULE", help="Keep these digital; the same.")]
PlatformNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A known platform or a TOML file; repeatable.",
        show_default="both ALPINE ones",
        autocompletion=complete_platforms,
    ),
]
PlatformName = Annotated[
    str,
    typer.Option(metavar="NAME", help="Platform that prices each projection.", autocompletion=complete_platforms),
]
ReadTime = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="DURATION",
        help="When accuracy counts, after programming: 1s, 1h, 1d, 1mo, 1y.",
        show_default="1d",
    ),
]
Times = Annotated[str, typer.Option(metavar="DURATIONS", help="Times after programming, with commas.")]
PresetName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="quick: short retraining, 6 chips a decision; robust: few, longer retrainings, columns calibrated on each "
        "chip; paper: the paper's protocol, hours.",
        autocompletion=complete_presets,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file with tables search, tile, train; flags win over it."),
]
SetFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, repeatable: search.n_chips=20, tile.device.technology=reram_cmo, train.max_epochs=5; "
        "`lionheart settings` lists them.",
        autocompletion=complete_settings,
    ),
]
SearchSetFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, repeatable: search.n_chips=20, tile.hwa.weight_clip_sigma=2, train.max_epochs=5; "
        "`lionheart settings` lists them. "
        f"search.strategy: {', '.join(STRATEGIES.names())}. search.ranking: {', '.join(['objective', *RANKINGS.names()])}.",
        autocompletion=complete_settings,
    ),
]
NewRun = Annotated[Path | None, typer.Option(metavar="FOLDER", help="New run folder.", show_default="below ./runs")]
StoppedRun = Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a stopped run.")]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Root of all random numbers.", show_default="0")]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where the network runs: cpu, cuda, auto (a GPU if there is one). The chips of a seed differ between them.",
        show_default="the task's; cpu for built-in ones",
    ),
]


def list_assignments(flags: Mapping[str, str | None], assignments: Sequence[str] | None) -> list[str]:
    """Return what was given to flags of their own and to ``--set``, all as for ``--set``.

    Args:
        flags: Setting -> what its flag was given; None if it was not.
        assignments: What ``--set`` was given.
    """
    return [*(f"{path}={text}" for path, text in flags.items() if text is not None), *(assignments or ())]
